"""Training throughput of the paper's ODE-Net on MNIST's size: this library beside torchdiffeq, on the same network.

    python -m benchmarks.odenet                  # prints the table, writes benchmarks/results/odenet.json
    python -m benchmarks.odenet --device cuda

A step is: 128 images of 28 x 28, forward, cross entropy, backward, AdamW. Same weights, same images, dopri5 at 1e-3 for
both passes; gradients are checked against an accurate one before anything is timed, and all are timed in turns in one
process. The page's ratio is torchdiffeq's odeint_adjoint over each.
"""

import argparse
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchdiffeq import odeint, odeint_adjoint

import isocline as iso
from benchmarks.peers.results import machine, save, versions
from benchmarks.peers.timing import in_turns
from isocline.experiments.section3.classifiers import Classifier, build_classifier

RESULT = Path(__file__).parent / "results" / "odenet.json"
TOLERANCE = 1e-3
PEER = "torchdiffeq odeint_adjoint"
FAR = 0.3
"""Gradients at this tolerance through a ReLU net are rough; further than this from the accurate one is wrong."""


class Torchdiffeq(nn.Module):
    """The same field, by the peer."""

    def __init__(self, field: nn.Module, solve: Callable[..., Tensor]) -> None:
        super().__init__()
        self.field, self.solve = field, solve

    def forward(self, y0: Tensor) -> Tensor:
        ts = torch.tensor([0.0, 1.0], device=y0.device)
        return self.solve(self.field, y0, ts, rtol=TOLERANCE, atol=TOLERANCE, method="dopri5")[-1]


def contenders(device: str) -> dict[str, Classifier]:
    """Models of the same weights."""
    model = build_classifier("rknet", 64, 28, TOLERANCE, TOLERANCE).to(device)
    field = model.body.field
    assert isinstance(field, nn.Module)
    gradients = {
        "BacksolveAdjoint": iso.BacksolveAdjoint(rtol=TOLERANCE, atol=TOLERANCE),
        "RecursiveCheckpointAdjoint": iso.RecursiveCheckpointAdjoint(),
        "DirectAdjoint": iso.DirectAdjoint(),
    }
    bodies: dict[str, nn.Module] = {
        PEER: Torchdiffeq(field, odeint_adjoint),
        "torchdiffeq odeint": Torchdiffeq(field, odeint),
    }
    settings: dict[str, Any] = {"method": "dopri5", "rtol": TOLERANCE, "atol": TOLERANCE}
    for name, gradient in gradients.items():
        bodies[f"isocline {name}"] = iso.NeuralODE(field, gradient=gradient, **settings)
    bodies["isocline DirectAdjoint, compiled"] = iso.NeuralODE(field, compile=True, **settings)
    return {name: deepcopy(Classifier(model.stem, body, model.head)) for name, body in bodies.items()}


def gradient_of(model: Classifier, images: Tensor, labels: Tensor) -> Tensor:
    """The flat gradient of the loss with respect to the field's parameters."""
    cross_entropy(model(images), labels).backward()
    parts = [p.grad.flatten().double() for p in model.body.parameters() if p.grad is not None]
    model.zero_grad()
    return torch.cat(parts)


def step_of(model: Classifier, images: Tensor, labels: Tensor) -> Callable[[], None]:
    """A training step that leaves the weights as they are: the learning rate is 0."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.0)

    def step() -> None:
        optimiser.zero_grad()
        cross_entropy(model(images), labels).backward()
        optimiser.step()
        if images.is_cuda:
            torch.cuda.synchronize()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--results", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.manual_seed(0)
    images = torch.rand(options.batch, 1, 28, 28, device=options.device)
    labels = torch.randint(0, 10, (options.batch,), device=options.device)
    models = contenders(options.device)
    truth = build_classifier("rknet", 64, 28, 1e-5, 1e-5).double().to(options.device)
    exact = gradient_of(truth, images.double(), labels)
    errors = {name: float((gradient_of(m, images, labels) - exact).norm() / exact.norm()) for name, m in models.items()}
    if wrong := {name: error for name, error in errors.items() if not error < FAR}:
        raise SystemExit(f"wrong gradients: {wrong}")
    times = in_turns({name: step_of(m, images, labels) for name, m in models.items()}, options.rounds, 0.1)
    rows = {
        name: {"error": errors[name], **time, "ratio": times[PEER]["median"] / time["median"]}
        for name, time in times.items()
    }
    about = {"date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), "machine": machine(options.device)}
    save({**about, "versions": versions(), "batch": options.batch, "rows": rows}, options.results)
    for name, row in rows.items():
        print(f"{name:36} {1e3 * row['median']:8.0f} ms  {row['ratio']:.2f}  gradient off by {row['error']:.1e}")


if __name__ == "__main__":
    main()
