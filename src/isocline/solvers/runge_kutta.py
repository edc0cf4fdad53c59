"""The one engine behind every explicit Runge-Kutta table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb
from typing import ClassVar

import torch
from torch import Tensor

from isocline.numbers import Number, column, where
from isocline.solvers.base import Attempt, Carry, Field, Tabled
from isocline.state import Step
from isocline.tableaus import Sum, Tableau, whole


@dataclass(frozen=True)
class RungeKutta(Tabled):
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

    kind: ClassVar[str] = "explicit Runge-Kutta"

    def __post_init__(self) -> None:
        """Check the type."""
        if not isinstance(self.tableau, Tableau):
            raise TypeError(f"RungeKutta needs a Tableau, got {self.tableau!r:.60}")

    @property
    def table(self) -> Tableau:
        """The coefficients."""
        return self.tableau

    @property
    def error_order(self) -> int | None:
        """The lower of the two orders in the pair, or that of the combined estimate."""
        return self.tableau.error_order

    @property
    def weights(self) -> tuple[float, ...]:
        """The table's b."""
        return self.tableau.b

    @property
    def evaluations(self) -> int:
        """The stages, without one that is carried over."""
        return self.tableau.stages - (self.tableau.end_stage is not None)

    @property
    def late_stages(self) -> int:
        """The table's."""
        return len(self.tableau.late_a)

    @property
    def dense_stages(self) -> int:
        """All stages."""
        return self.tableau.stages + self.late_stages

    def completing(self) -> "RungeKutta":
        """Return the method with late stages among the others."""
        return _completing(self.tableau) if self.late_stages else self

    def init(self, f: Field, t0: Number, y0: Tensor, f0: Callable[[], Tensor]) -> Carry:
        """Carry f(t0, y0) if a stage of a step is the first of the next, else nothing."""
        return (f0(),) if self.tableau.end_stage is not None else ()

    def slope(self, carry: Carry) -> Tensor | None:
        """What is carried, if anything."""
        return carry[0] if carry else None

    def step(self, f: Field, t0: Number, t1: Number, y0: Tensor, carry: Carry) -> Attempt:
        """Evaluate the stages not carried over, and combine them."""
        tableau, h = self.tableau, t1 - t0
        stages, way = self.increment(f, t0, t1, y0, *carry)
        y1, before = y0 + way, len(stages)
        _evaluate(f, tableau, range(before, tableau.stages), t0, t1, y0, y1, stages)
        carried = () if tableau.end_stage is None else (stages[before],)
        return Attempt(y1, self.error(h, stages), tuple(stages), carried)

    def increment(
        self, f: Field, t0: Number, t1: Number, y0: Tensor, first: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor]:
        """Return the stages before the one at the end, and y1 - y0; ``first`` is f(t0, y0) if known.

        Summed on its own, so that adding it to y0 rounds once a step.
        """
        tableau = self.tableau
        stages = [f(t0, y0) if first is None else first]
        before = tableau.stages if tableau.end_stage is None else tableau.end_stage
        _evaluate(f, tableau, range(1, before), t0, t1, y0, None, stages)
        return stages, weighted(t1 - t0, tableau.sum, stages)

    def error(self, h: Number, stages: Sequence[Tensor]) -> Tensor | None:
        """Return the estimate of the error from all stages but late ones, if there is one."""
        errors = [weighted(h, row, stages) for row in self.tableau.errors]
        if len(errors) < 2:
            return errors[0] if errors else None
        error, second = errors
        size = torch.hypot(error, 0.1 * second)
        return error * (error.abs() / size.clamp(min=torch.finfo(size.dtype).tiny))

    def complete(self, f: Field, step: Step) -> Step:
        """Evaluate the late stages."""
        return self.completing().evaluate_rest(f, step)

    def evaluate_rest(self, f: Field, step: Step) -> Step:
        """Return the step with those of this table's stages that it does not have yet."""
        tableau, stages = self.tableau, [*step.stages]
        _evaluate(f, tableau, range(len(stages), tableau.stages), step.t0, step.t1, step.y0, step.y1, stages)
        return step._replace(stages=tuple(stages))

    def interpolate(self, step: Step, t: Tensor) -> Tensor:
        """Evaluate the method's continuous extension."""
        h = step.t1 - step.t0
        theta = (t - step.t0) / where(h == 0, 1.0, h)
        dense = _matrix(self.tableau, theta.dtype, theta.device)
        basis = _powers(theta, len(dense)) if self.tableau.basis == "powers" else _bernstein(theta, len(dense))
        weights = (column(h, theta) * (basis @ dense)).to(step.y0.dtype)
        if len(step.y0) == 1:
            return torch.addmm(step.y0, weights, torch.cat(step.stages))
        y = step.y0
        for weight, k in zip(weights.unsqueeze(2).unbind(1), step.stages, strict=True):
            y = torch.addcmul(y, weight, k)
        return y


@lru_cache
def _completing(tableau: Tableau) -> RungeKutta:
    return RungeKutta(whole(tableau))


def _evaluate(
    f: Field,
    tableau: Tableau,
    indices: range,
    t0: Number,
    t1: Number,
    y0: Tensor,
    y1: Tensor | None,
    stages: list[Tensor],
) -> None:
    """Append these stages to those before them; y1 must be known for the stage at the step's end."""
    h, rows, nodes = t1 - t0, tableau.rows, tableau.c
    for i in indices:
        y = y1 if i == tableau.end_stage and y1 is not None else weighted(h, rows[i], stages, y0)
        # Never beyond the step's end, not by rounding either.
        stages.append(f(t1 if nodes[i] == 1.0 else t0 + nodes[i] * h, y))


def weighted(h: Number, terms: Sum, stages: Sequence[Tensor], y0: Tensor | None = None) -> Tensor:
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


def _bernstein(theta: Tensor, degree: int) -> Tensor:
    """Return theta^k (1 - theta)^(d - k) for k = 1 .. d as (M, d)."""
    up, down = _powers(theta, degree), _powers(1 - theta, degree)
    down = torch.cat([down[:, :-1].flip(1), torch.ones_like(down[:, :1])], dim=1)
    return up * down


@lru_cache
def _matrix(tableau: Tableau, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the interpolant's coefficients (s rows of up to d) as (d, s), made once for each dtype and device."""
    degree = max(map(len, tableau.dense))
    rows = [[*row, *[0.0] * (degree - len(row))] for row in tableau.dense]
    if tableau.basis == "bernstein":
        rows = [[comb(degree, k) * x for k, x in enumerate(row, start=1)] for row in rows]
    return torch.tensor(rows, dtype=dtype, device=device).T.contiguous()
