"""The one engine behind every explicit Runge-Kutta table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from isocline.numbers import Number, column, where
from isocline.solvers.base import Attempt, Carry, Field, Solver
from isocline.state import Step
from isocline.tableaus import Sum, Tableau


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

    @property
    def evaluations(self) -> int:
        """The stages, without one that is carried over."""
        return self.tableau.stages - self.tableau.first_same_as_last

    @property
    def kind(self) -> str:
        """One kind for all tables."""
        return "explicit Runge-Kutta"

    @property
    def dense_order(self) -> int:
        """The table's."""
        return self.tableau.dense_order

    @property
    def citation(self) -> str:
        """The table's."""
        return self.tableau.citation

    def init(self, f: Field, t0: Number, y0: Tensor, f0: Callable[[], Tensor]) -> Carry:
        """Carry f(t0, y0) if the last stage of a step is the first of the next, else nothing."""
        return (f0(),) if self.tableau.first_same_as_last else ()

    def slope(self, carry: Carry) -> Tensor | None:
        """What is carried, if anything."""
        return carry[0] if carry else None

    def step(self, f: Field, t0: Number, t1: Number, y0: Tensor, carry: Carry) -> Attempt:
        """Evaluate the stages not carried over, and combine them."""
        stages, way = self.increment(f, t0, t1, y0, *carry)
        y1 = y0 + way
        reuses = self.tableau.first_same_as_last
        if reuses:
            stages.append(f(t1, y1))
        return Attempt(y1, self.error(t1 - t0, stages), tuple(stages), (stages[-1],) if reuses else ())

    def increment(
        self, f: Field, t0: Number, t1: Number, y0: Tensor, first: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor]:
        """Return the stages, without one that the next step takes over, and y1 - y0; ``first`` is f(t0, y0) if known.

        Summed on its own, so that adding it to y0 rounds once a step.
        """
        tableau = self.tableau
        h = t1 - t0
        stages = [f(t0, y0) if first is None else first]
        last = tableau.stages - tableau.first_same_as_last
        for c, row in zip(tableau.c[1:last], tableau.sums[1:last], strict=True):
            # Never beyond the step's end, not by rounding either.
            stages.append(f(t1 if c == 1.0 else t0 + c * h, _weighted(h, row, stages, y0)))
        return stages, _weighted(h, tableau.sums[tableau.stages], stages)

    def error(self, h: Number, stages: Sequence[Tensor]) -> Tensor | None:
        """Return the difference to the embedded method, if there is one, from all stages."""
        return None if self.tableau.error is None else _weighted(h, self.tableau.sums[-1], stages)

    def interpolate(self, step: Step, t: Tensor) -> Tensor:
        """Evaluate the method's continuous extension; it costs no evaluation of f."""
        h = step.t1 - step.t0
        theta = (t - step.t0) / where(h == 0, 1.0, h)
        dense = _matrix(self.tableau.dense, theta.dtype, theta.device)
        weights = (column(h, theta) * (_powers(theta, len(dense)) @ dense)).to(step.y0.dtype)
        if len(step.y0) == 1:
            return torch.addmm(step.y0, weights, torch.cat(step.stages))
        y = step.y0
        for weight, k in zip(weights.unsqueeze(2).unbind(1), step.stages, strict=True):
            y = torch.addcmul(y, weight, k)
        return y


def _weighted(h: Number, terms: Sum, stages: Sequence[Tensor], y0: Tensor | None = None) -> Tensor:
    """Return ``h sum_i weight_i k_i``, and y0 if given."""
    if not terms:
        return torch.zeros_like(stages[0]) if y0 is None else y0
    (i, weight), *rest = terms
    if isinstance(h, Tensor):
        total = stages[i] * weight
        for i, weight in rest:
            total = torch.add(total, stages[i], alpha=weight)
        h = column(h, total)
        return total * h if y0 is None else torch.addcmul(y0, h, total)
    total = stages[i] * (h * weight) if y0 is None else torch.add(y0, stages[i], alpha=h * weight)
    for i, weight in rest:
        total = torch.add(total, stages[i], alpha=h * weight)
    return total


def _powers(theta: Tensor, count: int) -> Tensor:
    """Return theta, theta^2, ... as (M, count)."""
    powers = [theta]
    while len(powers) < count:
        powers.append(powers[-1] * theta)
    return torch.stack(powers, dim=1)


@lru_cache
def _matrix(rows: tuple[tuple[float, ...], ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return coefficients (s rows of up to d powers) as (d, s), made once for each dtype and device."""
    degree = max(map(len, rows))
    padded = [[*row, *[0.0] * (degree - len(row))] for row in rows]
    return torch.tensor(padded, dtype=dtype, device=device).T.contiguous()
