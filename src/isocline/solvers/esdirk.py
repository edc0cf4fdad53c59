"""The one engine behind every diagonally implicit table."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from isocline.jacobian import UserJacobian
from isocline.newton import Iteration, Newton, check_iteration, iteration
from isocline.numbers import Number, column, where
from isocline.solvers.base import Accuracy, Attempt, Carry, Field, Tabled
from isocline.solvers.polynomial import polynomials
from isocline.solvers.runge_kutta import weighted
from isocline.state import Step
from isocline.tableaus.implicit import ImplicitTableau


@dataclass(frozen=True)
class ESDIRK(Tabled):
    r"""A diagonally implicit Runge-Kutta method with an explicit first stage: for stiff problems.

    Each stage is the solution of an equation in n numbers a lane, ``k = f(t_i, psi + h gamma k)``, found by simplified
    Newton iterations that go as far as the tolerances ask. All stages share one Jacobian and its factors; a Jacobian
    serves for many steps, until the iterations become slow. Gradients come from the implicit function theorem at the
    solutions, never from the iterations; first derivatives only.

    With a field in two parts, ``isocline.Split``, methods whose table has an explicit companion (``kencarp4``) treat
    the first part explicitly.

    Args:
        tableau: the coefficients.
        jacobian: df/dy (of the implicit part, if f is a ``Split``), called as f is: ``jacobian(t, y, *args)`` with the
            result (n, n), or (*batch, n, n) with ``batch_dims``, over all numbers of y one after another. None
            differentiates f. It only guides the iterations: an approximation will do, if they converge.
        linear_solver: "lu" factors dense matrices, one a lane; "gmres" needs only products with df/dy;
            "auto" takes GMRES for more than 512 numbers a lane, if no ``jacobian`` is given.

    References:
        Hairer & Wanner 1996, Solving Ordinary Differential Equations II, IV.6 and IV.8.

    Example:
        >>> import isocline as iso, torch
        >>> fall = lambda t, y: -1e6 * (y - torch.cos(t))
        >>> sol = iso.solve(fall, torch.zeros(1, dtype=torch.float64), (0.0, 1.0), method="kvaerno5")
        >>> round(sol.ys[-1].item(), 4)
        0.5403
        >>> by_hand = iso.ESDIRK(iso.METHODS["kvaerno3"].tableau, jacobian=lambda t, y: torch.full((1, 1), -1e6))
        >>> sol = iso.solve(fall, torch.zeros(1, dtype=torch.float64), (0.0, 1.0), method=by_hand)
        >>> round(sol.ys[-1].item(), 4)
        0.5403
    """

    tableau: ImplicitTableau
    jacobian: UserJacobian | None = None
    linear_solver: str = "auto"
    accuracy: Accuracy | None = field(default=None, repr=False)
    """Set by ``tuned``."""

    compilable: ClassVar[bool] = False  # how often it iterates depends on values
    integrates: ClassVar[bool] = False  # the stages are solutions of equations, not evaluations

    def __post_init__(self) -> None:
        """Check the settings."""
        if not isinstance(self.tableau, ImplicitTableau):
            raise TypeError(f"ESDIRK needs an ImplicitTableau, got {self.tableau!r:.60}")
        check_iteration(self.jacobian, self.linear_solver)

    @property
    def table(self) -> ImplicitTableau:
        """The coefficients."""
        return self.tableau

    @property
    def error_order(self) -> int | None:
        """The lower of the two orders in the pair."""
        return min(self.tableau.embedded_order, self.tableau.order)

    @property
    def weights(self) -> tuple[float, ...]:
        """The table's b."""
        return self.tableau.b

    @property
    def evaluations(self) -> int:
        """At least one a stage; how many depends on the iterations."""
        return self.tableau.stages - 1

    @property
    def kind(self) -> str:
        """With the explicit companion, if there is one."""
        return "diagonally implicit Runge-Kutta" + (", IMEX" if self.tableau.explicit else "")

    def tuned(self, accuracy: Accuracy) -> "ESDIRK":
        """Return the method that iterates as far as these tolerances ask."""
        return replace(self, accuracy=accuracy)

    @property
    def _how(self) -> Iteration:
        return iteration(self.accuracy, self.jacobian, self.linear_solver)

    def init(self, f: Field, t0: Number, y0: Tensor, f0: Callable[[], Tensor]) -> Carry:
        """Carry the memory of the iterations, and f(t0, y0) unless f is treated in two parts."""
        memory = self._how.begin(y0)
        return memory if self._parts(f) else (*memory, f0())

    def slope(self, carry: Carry) -> Tensor | None:
        """What is carried, if anything."""
        return carry[2] if len(carry) > 2 else None

    def step(self, f: Field, t0: Number, t1: Number, y0: Tensor, carry: Carry) -> Attempt:
        """Solve for one stage after the other."""
        table, h = self.tableau, t1 - t0
        parts = self._parts(f)
        explicit, implicit = parts or (None, f)
        memory, slope = carry[:2], carry[2:]
        slopes = [implicit(t0, y0) if explicit else slope[0]]
        others = [explicit(t0, y0)] if explicit else []
        newton = Newton(implicit, t0, y0, h * table.gamma, memory, self._how)
        for i in range(1, table.stages):
            # Never beyond the step's end by rounding.
            t = t1 if table.c[i] == 1.0 else t0 + table.c[i] * h
            psi = weighted(h, table.before[i], slopes, y0)
            if explicit:
                psi = weighted(h, table.beside[i], others, psi)
            k = newton.solve(t, psi, weighted(1.0, table.guesses[i], slopes))
            slopes.append(k)
            if explicit:
                others.append(explicit(t, psi + column(h * table.gamma, k) * k))
        if explicit:
            slopes = [a + b for a, b in zip(slopes, others, strict=True)]
        y1 = y0 + weighted(h, table.sums[0], slopes)
        error = weighted(h, table.sums[1], slopes)
        if explicit:
            # What the explicit part excites in stiff components the implicit part damps, unseen by the estimate.
            error = newton.damped(error)
        y1 = where(newton.failed, torch.full_like(y1, float("inf")), y1)
        return Attempt(y1, error, tuple(slopes), newton.memory if explicit else (*newton.memory, slopes[-1]))

    def interpolate(self, step: Step, t: Tensor) -> Tensor:
        """Evaluate the method's continuous extension; it costs no evaluation of f."""
        weights = column(step.t1 - step.t0, step.y0) * polynomials(self.tableau.dense, step, t)
        y = step.y0
        for weight, k in zip(weights.unsqueeze(2).unbind(1), step.stages, strict=True):
            y = torch.addcmul(y, weight, k)
        return y

    def _parts(self, f: Field) -> tuple[Field, Field] | None:
        """Return the two parts of f if they are to be treated differently."""
        return f.parts() if self.tableau.explicit and hasattr(f, "parts") else None
