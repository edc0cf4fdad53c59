"""Initial value problems: smooth ones with closed forms, to measure orders; and stiff ones with parameters."""

import torch
from benchmarks.problems.problem import Problem, columns
from benchmarks.problems.stiff import relaxing
from benchmarks.problems.stiff import robertson as kinetics
from torch import Tensor

import isocline as iso
from isocline.solvers import Splitting
from isocline.tableaus import IMPLICIT

ANY_STATE = [name for name, solver in iso.METHODS.items() if not isinstance(solver, Splitting)]
"""Methods that solve for a state of any structure; the others want a pair (q, p), and have their own tests."""

ITERATING = (*IMPLICIT, "radau", "bdf")
"""Methods whose evaluations go by how fast their iterations converge; first derivatives only."""


def fitting(gradient: iso.Gradient, method: str = "tsit5") -> iso.Solver:
    """Return the method, or its reversible form where the gradient method needs one."""
    solver = iso.METHODS[method]
    return solver if gradient.suits(solver) else iso.Reversible(method)


RELAXATION = Problem(
    "cos(t) - y",
    lambda t, y: t.cos() - y,
    (0.2,),
    t1=4.0,
    exact=lambda t: ((t.cos() + t.sin()) / 2 - 0.3 * (-t).exp()).unsqueeze(-1),
)
LOGISTIC = Problem(
    "y (1 - y)",
    lambda t, y: y * (1 - y),
    (0.2,),
    t1=5.0,
    exact=lambda t: (1 / (1 + 4 * (-t).exp())).unsqueeze(-1),
)


def _hopf(t: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    rate = 0.1 * (1 - x**2 - y**2)
    return rate * x - y, rate * y + x


def _spiral(t: Tensor) -> Tensor:
    r = (1 / (1 + 3 * (-0.2 * t).exp())).sqrt()
    return torch.stack([r * t.cos(), r * t.sin()], dim=-1)


HOPF = Problem("Hopf", columns(_hopf), (0.5, 0.0), t1=4.0, exact=_spiral)


RATES = torch.tensor([0.04, 3e7, 1e4], dtype=torch.float64)


def robertson(t: Tensor, y: Tensor, rates: Tensor) -> Tensor:
    """Robertson's reactions with rates (3,), or (B, 3) for B samples."""
    return kinetics(t, y, *rates.unbind(-1))


def van_der_pol(t: Tensor, y: Tensor, mu: Tensor) -> Tensor:
    """``y'' = mu^2 ((1 - y^2) y' - y)``; mu is 0-d, or (B,) for B samples."""
    return relaxing(mu)(t, y)
