"""A training iteration of a planar CNF in the plane: this library beside torchdiffeq, with the same field and weights.

    python -m benchmarks.cnf      # prints the table, writes benchmarks/results/cnf.json

An iteration is: the log-likelihood of 512 points of two circles (or moons), solved from data to noise by dopri5 at
rtol = atol = 1e-5, its gradient, a step of Adam. The field has 64 hidden units, whose weights are the output of a net
of three layers, 32 wide, of the time: the sizes of torchdiffeq's own CNF example. The weights are those after some
training, for at the start the field is nearly zero and there is little to solve.

torchdiffeq gets the field written as in its example (a product of matrices for each hidden unit, then the sum; the
trace by ``torch.autograd.grad``, a dimension at a time), and also as it is written here, so that what the solver does
and what the field does can be told apart; this library solves the field with its closed form of the trace, and
without it, by ``ExactTrace`` for any field. Losses and gradients are compared with accurate ones before anything is
timed; all are timed in turns in one process. The ratio is torchdiffeq's odeint_adjoint over each.
"""

import argparse
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchdiffeq import odeint, odeint_adjoint

import isocline as iso
from benchmarks.peers.results import machine, save, versions
from benchmarks.peers.timing import in_turns
from isocline.data import POINTS
from isocline.models.flows import PlanarField

RESULT = Path(__file__).parent / "results" / "cnf.json"
PEER = "torchdiffeq odeint_adjoint"
UNITS, TOLERANCE = 64, 1e-5
FAR = 1e-2
"""Losses and gradients further from accurate ones than this, relatively, are wrong."""
Loss = Callable[[Tensor], Tensor]


class Written(nn.Module):
    """The state (z, log p) as users of torchdiffeq write it; counts its evaluations."""

    def __init__(self, field: PlanarField, velocity: Callable[[Tensor, Tensor], Tensor] | None) -> None:
        """Keep the field, and how it is written; None: with the closed form of its trace."""
        super().__init__()
        self.field, self.velocity = field, velocity
        self.evaluations = 0

    def forward(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        self.evaluations += 1
        if self.velocity is None:
            dz, trace = self.field.with_divergence(t, state[0])
            return dz, -trace
        with torch.enable_grad():
            z = state[0].requires_grad_()
            dz = self.velocity(t, z)
            rows = [torch.autograd.grad(dz[:, i].sum(), z, create_graph=True)[0][:, i] for i in range(z.shape[1])]
        return dz, -sum(rows)


def unit_by_unit(field: PlanarField) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the velocity as a batched product for each hidden unit, as in torchdiffeq's example."""

    def velocity(t: Tensor, z: Tensor) -> Tensor:
        u, w, b = field.units_at(t, z)
        heights = torch.tanh(z.unsqueeze(0).repeat(UNITS, 1, 1) @ w.reshape(UNITS, 2, 1) + b.reshape(UNITS, 1, 1))
        return (heights @ u.reshape(UNITS, 1, 2)).sum(0)

    return velocity


def torchdiffeq_loss(f: Written, solve: Callable[..., tuple[Tensor, Tensor]]) -> Loss:
    def loss(x: Tensor) -> Tensor:
        start = x, x.new_zeros(len(x))
        z, change = solve(f, start, torch.tensor([1.0, 0.0]), rtol=TOLERANCE, atol=TOLERANCE, method="dopri5")
        return -(torch.distributions.Normal(0.0, 1.0).log_prob(z[-1]).sum(1) - change[-1]).mean()

    return loss


def contenders(field: PlanarField) -> tuple[dict[str, Loss], dict[str, Callable[[], int]]]:
    """Return the losses, and how often the field was evaluated in the last one and in its gradient."""
    losses: dict[str, Loss] = {}
    counts: dict[str, Callable[[], int]] = {}
    for name, solve, velocity in (
        (PEER, odeint_adjoint, unit_by_unit(field)),
        ("torchdiffeq odeint", odeint, unit_by_unit(field)),
        (f"{PEER}, field as here", odeint_adjoint, field),
        (f"{PEER}, closed form", odeint_adjoint, None),
    ):
        f = Written(field, velocity)
        losses[name] = torchdiffeq_loss(f, solve)
        counts[name] = lambda f=f: f.evaluations
    for name, how, compiled in (
        ("isocline, any field", Generic(field), False),
        ("isocline", field, False),
        ("isocline, any field, compiled", Generic(field), True),
        ("isocline, compiled", field, True),
    ):
        flow = iso.CNF(how, 2, method="dopri5", rtol=TOLERANCE, atol=TOLERANCE, compile=compiled)
        losses[name] = lambda x, flow=flow: -flow.log_prob(x).mean()
        counts[name] = lambda flow=flow: flow.stats.evaluations  # and none in the gradient, which is DirectAdjoint's
    return losses, counts


class Generic(nn.Module):
    """The field, without its closed form of the trace."""

    def __init__(self, field: PlanarField) -> None:
        super().__init__()
        self.field = field

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        return self.field(t, z)


def iteration_of(loss: Loss, field: PlanarField, x: Tensor) -> Callable[[], None]:
    """A step that leaves the weights as they are: the learning rate is 0."""
    optimiser = torch.optim.Adam(field.parameters(), lr=0.0)

    def iteration() -> None:
        optimiser.zero_grad()
        loss(x).backward()
        optimiser.step()

    return iteration


def loss_and_gradient(loss: Loss, field: PlanarField, x: Tensor) -> tuple[Tensor, Tensor]:
    value = loss(x)
    gradient = torch.autograd.grad(value, list(field.parameters()))
    return value.detach().double(), torch.cat([g.flatten().double() for g in gradient])


def trained(data: str, iterations: int) -> PlanarField:
    """Return the field after some training."""
    torch.manual_seed(0)
    field = PlanarField(2, UNITS)
    flow = iso.CNF(field, 2, rtol=1e-3, atol=1e-3, compile=True)
    optimiser = torch.optim.Adam(field.parameters(), lr=5e-3)
    for _ in range(iterations):
        optimiser.zero_grad()
        (-flow.log_prob(POINTS[data](512, None)).mean()).backward()
        optimiser.step()
    return field


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=POINTS, default="two circles")
    parser.add_argument("--trained", type=int, default=500, help="iterations of training before anything is timed")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--results", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    field = trained(options.data, options.trained)
    x = POINTS[options.data](512, torch.Generator().manual_seed(1))
    losses, counts = contenders(field)

    accurate = deepcopy(field).double()
    reference = iso.CNF(accurate, 2, rtol=1e-10, atol=1e-10).double()
    exact, slope = loss_and_gradient(lambda x: -reference.log_prob(x).mean(), accurate, x.double())
    rows: dict[str, dict[str, Any]] = {}
    for name, loss in losses.items():
        value, gradient = loss_and_gradient(loss, field, x)
        rows[name] = {
            "loss_error": float((value - exact).abs() / exact.abs()),
            "gradient_error": float((gradient - slope).norm() / slope.norm()),
            "evaluations": counts[name](),
        }
    if wrong := {n: row for n, row in rows.items() if not max(row["loss_error"], row["gradient_error"]) < FAR}:
        raise SystemExit(f"losses or gradients differ: {wrong}")
    times = in_turns({name: iteration_of(loss, field, x) for name, loss in losses.items()}, options.rounds, 0.1)
    for name, time in times.items():
        rows[name] |= {**time, "ratio": times[PEER]["median"] / time["median"]}
    about = {"date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), "machine": machine("cpu")}
    settings = {"data": options.data, "trained": options.trained}
    save({**about, "versions": versions(), **settings, "rows": rows}, options.results)
    for name, row in rows.items():
        shown = f"{name:40} {1e3 * row['median']:8.1f} ms  {row['ratio']:5.2f}  {row['evaluations']:4} evaluations"
        print(f"{shown}  loss off by {row['loss_error']:.0e}, gradient by {row['gradient_error']:.0e}")


if __name__ == "__main__":
    main()
