"""How far off the adjoint's gradient is in the ODE-Net of Table 1, against the tolerance of the backward solve.

    python -m benchmarks.adjoint_error runs/table1 --data-dir DIR

The forward solve has the run's tolerances; its exact gradient is that of `DirectAdjoint`, by which the RK-Net is
trained. Prints the table and writes benchmarks/results/adjoint_error.json: relative errors and cosines, of the gradient
by the stem's parameters and by the field's, before and after training, on the first batch of training images.
"""

import argparse
import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy

import isocline as iso
from benchmarks.peers.results import machine
from isocline.data import mnist
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.section3.classifiers import Classifier, build_classifier

RESULT = Path(__file__).parent / "results" / "adjoint_error.json"
TOLERANCES = (1e-2, 1e-3, 1e-4, 1e-5)
METHODS = {"backsolve": iso.BacksolveAdjoint, "interpolating": iso.InterpolatingAdjoint}


@dataclass(frozen=True)
class Row:
    trained: bool
    gradient: str
    tolerance: float
    part: str
    error: float
    cosine: float


def gradients(model: Classifier, gradient: iso.Gradient, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """By the parameters of the stem and of the field."""
    model.body.gradient = gradient
    model.zero_grad()
    cross_entropy(model(x), y).backward()
    return {
        name: torch.cat([parameter.grad.flatten() for parameter in part.parameters() if parameter.grad is not None])
        for name, part in (("stem", model.stem), ("field", model.body))
    }


def rows(model: Classifier, trained: bool, x: Tensor, y: Tensor) -> list[Row]:
    exact = gradients(model, iso.DirectAdjoint(), x, y)
    found = []
    for name, method in METHODS.items():
        for tolerance in TOLERANCES:
            with warnings.catch_warnings():  # that the gradient is not to be trusted
                warnings.simplefilter("ignore")
                gradient = gradients(model, method(rtol=tolerance, atol=tolerance), x, y)
            for part, expected in exact.items():
                error = (gradient[part] - expected).norm() / expected.norm()
                cosine = cosine_similarity(gradient[part], expected, dim=0)
                found.append(Row(trained, name, tolerance, part, error.item(), cosine.item()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data-dir", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    run = RunFolder.open(arguments.run)
    train = run.config["train"]
    images = mnist(arguments.data_dir)
    x, y = images.train_x[: train["batch_size"]], images.train_y[: train["batch_size"]]
    model = build_classifier("odenet", train["channels"], 28, train["rtol"], train["atol"], seed=0)
    found = rows(model, False, x, y)
    state = run.load_checkpoint("odenet-0")
    if state is None:
        raise SystemExit(f"{arguments.run} has no ODE-Net of seed 0")
    model.load_state_dict(state["model"])
    found += rows(model, True, x, y)
    for row in found:
        when = "trained" if row.trained else "initial"
        print(f"{when} {row.gradient:14} {row.tolerance:.0e} {row.part:6} {row.error:8.3f} {row.cosine:7.3f}")
    content = {"machine": machine("cpu"), "torch": torch.__version__, "tolerance": train["rtol"]}
    RESULT.write_text(json.dumps({**content, "rows": [asdict(row) for row in found]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
