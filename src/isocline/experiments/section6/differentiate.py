"""The gradient of an experiment's loss, by any gradient method, and the work that it took."""

import warnings
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

import isocline as iso
from isocline.experiments.section6.fields import Case

TIGHT: dict[str, Any] = {"method": "vern9", "rtol": 1e-13, "atol": 1e-13, "gradient": iso.DirectAdjoint()}
"""Settings of references: their errors are rounding errors, grown by the problem's condition."""


@dataclass(frozen=True)
class Differentiated:
    """A gradient of the loss |y(t1)|^2 / 2 by y0 and all parameters.

    Attributes:
        gradient: One flat tensor (P,), y0 first.
        forward: Evaluations of the field forwards.
        backward: Evaluations of the field backwards, each with a product with its Jacobian; 0 with `DirectAdjoint`.
    """

    gradient: Tensor
    forward: int
    backward: int

    def error(self, expected: Tensor) -> float:
        """Distance from the `expected` gradient (P,), relative to its norm."""
        return float((self.gradient - expected).norm() / expected.norm())


def differentiate(case: Case, *, pieces: int = 1, scale: float = 1.0, **settings: Any) -> Differentiated:
    """Differentiates the loss.

    Args:
        case: The problem.
        pieces: In how many solves, one from the end of the other: at each start the state is stored, and a gradient
            method that solves backwards begins there with the stored one.
        scale: A factor of the loss.
        settings: For `isocline.solve`.

    Raises:
        SolveError: A solve failed, forwards or backwards.
    """
    field, y = case.field(), case.start().requires_grad_()
    leaves = [y, *field.parameters()]
    times = torch.linspace(0.0, case.t1, pieces + 1, dtype=torch.float64)
    solutions = []
    for ends in times.unfold(0, 2, 1):
        solutions.append(iso.solve(field, y, ends, **settings))
        y = cast(Tensor, solutions[-1].ys)[-1]
    with warnings.catch_warnings():
        # That a gradient is not to be trusted: by how much is what experiments measure.
        warnings.filterwarnings("ignore", message="BacksolveAdjoint", category=RuntimeWarning)
        parts = torch.autograd.grad(scale * y.square().sum() / 2, leaves)
    stats = [solution.stats for solution in solutions]
    return Differentiated(
        torch.cat([part.flatten() for part in parts]) / scale,
        sum(one.evaluations for one in stats),
        sum(one.backward.evaluations for one in stats if one.backward is not None),
    )


def exact_gradient(case: Case) -> Tensor:
    """The gradient (P,) to about the last digits."""
    return differentiate(case, **TIGHT).gradient


def suited(gradient: iso.Gradient, method: str) -> iso.Solver:
    """The method, or its reversible form if the gradient method needs one."""
    solver = iso.METHODS[method]
    return solver if gradient.suits(solver) else iso.Reversible(solver)
