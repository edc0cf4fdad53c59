"""The one engine behind every Rosenbrock table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from isocline.jacobian import Linear, UserJacobian, linearize
from isocline.linear_systems import dense
from isocline.numbers import Number, column
from isocline.solvers.base import Attempt, Carry, Field, Tabled
from isocline.solvers.polynomial import polynomials
from isocline.state import Step
from isocline.tableaus.rosenbrock import RosenbrockTableau


@dataclass(frozen=True)
class Rosenbrock(Tabled):
    r"""A Rosenbrock method given by its table: for stiff problems, without iteration.

    A step solves s linear systems with one matrix ``I - h gamma df/dy``, which is factorised once a step and lane. The
    derivatives of f with respect to state and time come from automatic differentiation; they are part of the formula,
    so they are exact, and evaluated in every step. Gradients go through them: they are those of the discrete solution,
    of any order.

    Best for up to some hundred numbers a lane, low to medium accuracy, and where f is not expensive: a step costs s
    evaluations and a Jacobian.

    Args:
        tableau: the coefficients.
        jacobian: a function that returns df/dy, called as f is: ``jacobian(t, y, *args)`` with the result (n, n), or
            (*batch, n, n) with ``batch_dims``. None differentiates f. It must be exact, and differentiable where
            gradients are wanted.

    References:
        Hairer & Wanner 1996, Solving Ordinary Differential Equations II, IV.7.

    Example:
        >>> import isocline as iso, torch
        >>> fall = lambda t, y: -1e6 * (y - torch.cos(t))
        >>> sol = iso.solve(fall, torch.zeros(1, dtype=torch.float64), (0.0, 1.0), method="rodas5p")
        >>> round(sol.ys[-1].item(), 4)
        0.5403
        >>> by_hand = iso.Rosenbrock(iso.METHODS["rodas5p"].tableau, jacobian=lambda t, y: -1e6 * torch.eye(1).double())
        >>> sol = iso.solve(fall, torch.zeros(1, dtype=torch.float64), (0.0, 1.0), method=by_hand)
        >>> round(sol.ys[-1].item(), 4)
        0.5403
    """

    tableau: RosenbrockTableau
    jacobian: UserJacobian | None = None

    kind: ClassVar[str] = "Rosenbrock (stiff)"
    compilable: ClassVar[bool] = False  # the Jacobian is made of gradients of f
    integrates: ClassVar[bool] = False  # the stages are increments of the state, not evaluations of f

    def __post_init__(self) -> None:
        """Check the types."""
        if not isinstance(self.tableau, RosenbrockTableau):
            raise TypeError(f"Rosenbrock needs a RosenbrockTableau, got {self.tableau!r:.60}")
        if not (self.jacobian is None or callable(self.jacobian)):
            raise TypeError(f"jacobian must be a function jacobian(t, y, *args) or None, got {self.jacobian!r:.60}")

    @property
    def table(self) -> RosenbrockTableau:
        """The coefficients."""
        return self.tableau

    @property
    def error_order(self) -> int | None:
        """The table's."""
        return self.tableau.error_order

    @property
    def weights(self) -> tuple[float, ...]:
        """The table's b, which weigh increments of the state."""
        return self.tableau.b

    @property
    def evaluations(self) -> int:
        """The stages; the first is had together with the derivatives."""
        return self.tableau.stages

    def init(self, f: Field, t0: Number, y0: Tensor, f0: Callable[[], Tensor]) -> Carry:
        """Carry nothing."""
        return ()

    def step(self, f: Field, t0: Number, t1: Number, y0: Tensor, carry: Carry) -> Attempt:
        """Linearise f, factorise, and solve for the stages one after another."""
        near = self.linearize(f, t0, y0)
        return self.step_near(near, f, t0, t1, y0)

    def linearize(self, f: Field, t0: Number, y0: Tensor) -> Linear:
        """Return f with its derivatives at a step's start: with a graph where autograd watches."""
        return linearize(f, t0, y0, torch.is_grad_enabled(), self.jacobian)

    def step_near(self, near: Linear, f: Field, t0: Number, t1: Number, y0: Tensor) -> Attempt:
        """Take the step with f linearised at its start."""
        tableau = self.tableau
        h = t1 - t0
        scale = column(h, y0)
        system = dense(near.by_state, tableau.gamma * h)
        drift = scale * near.by_time
        stages: list[Tensor] = []
        for c, d, row, coupling in zip(tableau.c, tableau.d, tableau.a, tableau.coupling, strict=True):
            # Never beyond the step's end, not by rounding either.
            slope = f(t1 if c == 1.0 else t0 + c * h, y0 + _sum(row, stages)) if stages else near.f
            known = scale * (slope + d * drift)
            known = known + _sum(coupling, stages) if stages else known
            stages.append(system.solve(tableau.gamma * known))
        return Attempt(y0 + _sum(tableau.b, stages), _sum(tableau.error, stages), tuple(stages), ())

    def interpolate(self, step: Step, t: Tensor) -> Tensor:
        """Evaluate the method's continuous extension; it costs no evaluation of f."""
        weights = polynomials(self.tableau.dense, step, t)
        y = step.y0
        for weight, u in zip(weights.unsqueeze(2).unbind(1), step.stages, strict=True):
            y = torch.addcmul(y, weight, u)
        return y


def _sum(weights: Sequence[float], stages: Sequence[Tensor]) -> Tensor:
    """Return ``sum_i weight_i u_i``."""
    total = torch.zeros_like(stages[0])
    for weight, u in zip(weights, stages, strict=True):
        if weight:
            total = torch.add(total, u, alpha=weight)
    return total
