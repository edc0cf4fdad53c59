"""The one engine behind every explicit Runge-Kutta table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from isocline.solvers.base import Attempt, Carry, Field, Solver
from isocline.state import Step
from isocline.tableaus import Tableau


@dataclass(frozen=True)
class RungeKutta(Solver):
    r"""An explicit Runge-Kutta method given by its table.

    ``k_i = f(t + c_i h, y + h sum_j a_ij k_j)``, ``y1 = y + h sum_i b_i k_i``.

    Args:
        tableau: the coefficients; see ``isocline.Tableau`` to make your own.

    References:
        Hairer, Norsett & Wanner 1993, Solving Ordinary Differential Equations I, chapter II.

    Example:
        >>> import isocline as iso, torch
        >>> heun = iso.RungeKutta(iso.Tableau(
        ...     name="my_heun", order=2, a=((), (1.0,)), b=(0.5, 0.5), c=(0.0, 1.0),
        ...     dense=((1.0, -0.5), (0.0, 0.5)), dense_order=2, citation="Heun 1900"))
        >>> sol = iso.solve(lambda t, y: -y, torch.ones(1), (0.0, 1.0), method=heun, controller=iso.FixedStep(0.01))
        >>> round(sol.ys[-1].item(), 4)
        0.3679
    """

    tableau: Tableau

    def __post_init__(self) -> None:
        """Check the type."""
        if not isinstance(self.tableau, Tableau):
            raise TypeError(f"RungeKutta needs a Tableau, got {self.tableau!r:.60}")

    @property
    def name(self) -> str:
        """The table's name."""
        return self.tableau.name

    @property
    def order(self) -> int:
        """Order p of the method."""
        return self.tableau.order

    @property
    def error_order(self) -> int | None:
        """The lower of the two orders in the pair."""
        embedded = self.tableau.embedded_order
        return None if embedded is None else min(embedded, self.tableau.order)

    @property
    def weights(self) -> tuple[float, ...]:
        """The table's b."""
        return self.tableau.b

    def init(self, f: Field, t0: Tensor, y0: Tensor, f0: Callable[[], Tensor]) -> Carry:
        """Carry f(t0, y0) if the last stage of a step is the first of the next, else nothing."""
        return (f0(),) if self.tableau.first_same_as_last else ()

    def step(self, f: Field, t0: Tensor, t1: Tensor, y0: Tensor, carry: Carry) -> Attempt:
        """Evaluate the stages not carried over, and combine them."""
        tableau = self.tableau
        h = (t1 - t0).to(y0.dtype).unsqueeze(1)
        # lerp, because it is exact at c = 1: f is never asked beyond the step's end.
        times = torch.lerp(t0, t1, self._nodes(t0)).to(y0.dtype).unbind()
        stages = [*carry] or [f(times[0], y0)]
        for row, t in zip(tableau.a[1:], times[1:], strict=True):
            y1 = _advance(y0, h, row, stages)
            stages.append(f(t, y1))
        if not tableau.first_same_as_last:
            y1 = _advance(y0, h, tableau.b, stages)
        error = None if tableau.error is None else h * _combine(tableau.error, stages)
        return Attempt(y1, error, tuple(stages), (stages[-1],) if tableau.first_same_as_last else ())

    def _nodes(self, like: Tensor) -> Tensor:
        """The nodes c as a column (s, 1), made once for each device and dtype."""
        key = (like.device, like.dtype)
        if key not in self._columns:
            self._columns[key] = torch.tensor(self.tableau.c, dtype=like.dtype, device=like.device).unsqueeze(1)
        return self._columns[key]

    @cached_property
    def _columns(self) -> dict[tuple[torch.device, torch.dtype], Tensor]:
        return {}

    def interpolate(self, step: Step, t: Tensor) -> Tensor:
        """Evaluate the method's continuous extension; it costs no evaluation of f."""
        h = step.t1 - step.t0
        theta = torch.where(h == 0, 0.0, (t - step.t0) / torch.where(h == 0, 1.0, h))
        y = step.y0
        for row, k in zip(self.tableau.dense, step.stages, strict=True):
            weight = (h * _polynomial(row, theta)).to(y.dtype)
            y = torch.addcmul(y, weight.unsqueeze(1), k)
        return y


def _advance(y0: Tensor, h: Tensor, weights: Sequence[float], stages: Sequence[Tensor]) -> Tensor:
    return torch.addcmul(y0, h, _combine(weights, stages))


def _combine(weights: Sequence[float], stages: Sequence[Tensor]) -> Tensor:
    """Weighted sum of the stages, with no operation for a zero weight."""
    terms = [(weight, k) for weight, k in zip(weights, stages, strict=False) if weight != 0.0]
    (weight, k), *rest = terms
    total = k * weight
    for weight, k in rest:
        total = torch.add(total, k, alpha=weight)
    return total


def _polynomial(coefficients: Sequence[float], theta: Tensor) -> Tensor:
    """Horner's rule for coefficients of theta, theta^2, ... (no constant term)."""
    value = torch.full_like(theta, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * theta + coefficient
    return value * theta
