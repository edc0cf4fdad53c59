"""A method that notices stiffness: explicit steps where they do, implicit ones where those would have to be tiny."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from isocline.numbers import Number, spread, where
from isocline.rest import park
from isocline.solvers.base import Attempt, Carry, Field, Solver
from isocline.solvers.rosenbrock import Rosenbrock
from isocline.solvers.runge_kutta import RungeKutta, weighted
from isocline.state import Step
from isocline.tableaus import ROSENBROCK, TABLEAUS

STABLE = 3.0
"""At the edge of stability, |h lambda| of explicit steps is beyond this (it is 3.3 to 3.5 for dopri5 and tsit5)."""

TO_STIFF, TO_EXPLICIT = 8, 4
"""How many accepted steps in a row must speak for it before a lane changes its method."""

PATIENCE = 100
"""After so many explicit steps a lane tries the stiff method; after twice as many the next time."""


class Half(NamedTuple):
    """What one of the two methods made of an attempt; each (L, n) or (L,)."""

    y1: Tensor
    error: Tensor
    slope: Tensor
    """f at the end."""
    load: Tensor
    """|h lambda| as a part of what explicit steps endure, (L,)."""
    stages: tuple[Tensor, ...]


@dataclass(frozen=True)
class Auto(Solver):
    r"""An explicit method where it does, a stiff one where it must; each lane changes by itself, and back.

    The last two stages of an explicit step are both f at its end, at two states y1 and g, so
    ``|f(t1, y1) - f(t1, g)| / |y1 - g|`` estimates the largest eigenvalue of df/dy. Where that stays at the edge of
    stability, accuracy would allow longer steps than stability does, and the lane changes to the Rosenbrock method. In
    its steps the root of the largest row sum of ``|(df/dy)^2|`` bounds the eigenvalue from above (for equations of
    second order far closer than row sums of ``|df/dy|``): where explicit steps of the same size would be stable, the
    lane changes back.

    At tight tolerances accuracy may keep explicit steps below the edge of stability where those of a stiff method would
    be far longer. So after a hundred explicit steps a lane tries the Rosenbrock method: if its steps do not grow beyond
    the edge, it changes back after four, and waits twice as long before it tries again.

    With several lanes both methods are evaluated for all as long as some lanes use the one and some the other.

    Args:
        explicit: a first-same-as-last method whose last stage but one is at the step's end: tsit5 or dopri5.
        stiff: a Rosenbrock method whose error estimate has the same order.

    References:
        Petzold 1983, SIAM J. Sci. Stat. Comput. 4, doi:10.1137/0904010; Hairer & Wanner 1996, Solving Ordinary
        Differential Equations II, IV.2.

    Example:
        >>> import isocline as iso, torch
        >>> def van_der_pol(t, y):
        ...     x, v = y.unbind(-1)
        ...     return torch.stack([v, 1000 * (1 - x**2) * v - x], dim=-1)
        >>> y0 = torch.tensor([2.0, 0.0], dtype=torch.float64)
        >>> iso.solve(van_der_pol, y0, (0.0, 1000.0), method="auto").stats.steps.item() < 300
        True
    """

    explicit: RungeKutta = field(default_factory=lambda: RungeKutta(TABLEAUS["tsit5"]))
    stiff: Rosenbrock = field(default_factory=lambda: Rosenbrock(ROSENBROCK["rodas5p"]))

    kind: ClassVar[str] = "explicit or Rosenbrock, by stiffness"
    weights: ClassVar[None] = None  # there are two sets of them
    compilable: ClassVar[bool] = False  # which method is evaluated goes by values
    integrates: ClassVar[bool] = False  # the stages of the stiff method are not evaluations of f

    def __post_init__(self) -> None:
        """Check that the two fit."""
        table, end = self.explicit.tableau, self.explicit.tableau.end_stage
        if end is None or end != table.stages - 1 or table.c[end - 1] != 1.0 or self.explicit.late_stages:
            raise ValueError(f"Auto detects stiffness from the stages of tsit5 or dopri5, not of {table.name!r}")
        if self.explicit.error_order != self.stiff.error_order:
            raise ValueError(
                f"Auto needs two methods whose error estimates have one order; that of {table.name!r} has "
                f"{self.explicit.error_order}, that of {self.stiff.name!r} {self.stiff.error_order}"
            )

    @property
    def name(self) -> str:
        """What users write, or what it is made of."""
        return "auto" if self == Auto() else f"Auto({self.explicit.name}, {self.stiff.name})"

    @property
    def order(self) -> int:
        """The lower of the two."""
        return min(self.explicit.order, self.stiff.order)

    @property
    def error_order(self) -> int | None:
        """That of both."""
        return self.explicit.error_order

    @property
    def dense_order(self) -> int:
        """The lower of the two."""
        return min(self.explicit.dense_order, self.stiff.dense_order)

    @property
    def citation(self) -> str:
        """Of the idea, and of both methods."""
        return f"Petzold 1983, doi:10.1137/0904010; {self.explicit.citation}; {self.stiff.citation}"

    @property
    def evaluations(self) -> int:
        """Those of an explicit step."""
        return self.explicit.evaluations

    @property
    def dense_stages(self) -> int:
        """Those of both, and which of them counts."""
        return self.explicit.dense_stages + self.stiff.dense_stages + 1

    def init(self, f: Field, t0: Number, y0: Tensor, f0: Callable[[], Tensor]) -> Carry:
        """Carry f at the point reached, and what ``_vote`` knows of each lane."""
        return f0(), y0.new_tensor([0.0, 0.0, 0.0, PATIENCE]).repeat(len(y0), 1)

    def slope(self, carry: Carry) -> Tensor | None:
        """What is carried first."""
        return carry[0]

    def step(self, f: Field, t0: Number, t1: Number, y0: Tensor, carry: Carry) -> Attempt:
        """Step each lane by its method; one host synchronisation tells which of them are needed."""
        slope, notes = carry
        lanes = notes[:, 0] > 0
        count = int(lanes.sum())
        both = 0 < count < len(y0)
        halves: list[Half] = []
        begin: tuple[Field, Number, Number, Tensor, Carry]
        for wanted, take in ((count < len(y0), self._explicit), (count > 0, self._stiff)):
            begin = f, t0, t1, y0, (slope,)
            if both:
                mine = lanes if take == self._stiff else ~lanes
                begin = park(mine & (t1 != t0), *begin)
            if wanted:
                halves.append(take(*begin))
        easy, hard = halves[0], halves[-1]
        y1, error, after, load = (where(lanes, b, a) for a, b in zip(easy[:4], hard[:4], strict=True))
        nothing = torch.zeros_like(y0)
        stages = (
            *(easy.stages if count < len(y0) else [nothing] * self.explicit.dense_stages),
            *(hard.stages if count else [nothing] * self.stiff.dense_stages),
            notes[:, :1].expand_as(y0),
        )
        return Attempt(y1, error, stages, (after, _vote(notes.detach(), load > 1)))

    def interpolate(self, step: Step, t: Tensor) -> Tensor:
        """Evaluate both continuous extensions, and take that of the method used."""
        count = self.explicit.dense_stages
        *stages, stiff = step.stages
        easy = self.explicit.interpolate(step._replace(stages=tuple(stages[:count])), t)
        hard = self.stiff.interpolate(step._replace(stages=tuple(stages[count:])), t)
        return torch.where(stiff > 0, hard, easy)

    def _explicit(self, f: Field, t0: Number, t1: Number, y0: Tensor, carry: Carry) -> Half:
        attempt = self.explicit.step(f, t0, t1, y0, carry)
        stages, rows = attempt.stages, self.explicit.tableau.rows
        with torch.no_grad():
            beside = weighted(t1 - t0, rows[-2], stages, y0)
            change, distance = _norm(stages[-1] - stages[-2]), _norm(attempt.y1 - beside)
            steepness = change / distance.clamp(min=torch.finfo(y0.dtype).tiny)
        return _half(attempt, attempt.carry[0], t1 - t0, steepness)

    def _stiff(self, f: Field, t0: Number, t1: Number, y0: Tensor, carry: Carry) -> Half:
        near = self.stiff.linearize(f, t0, y0)
        attempt = self.stiff.step_near(near, f, t0, t1, y0)
        jacobian = near.by_state.detach()
        steepness = (jacobian @ jacobian).abs().sum(dim=2).amax(dim=1).sqrt()
        return _half(attempt, f(t1, attempt.y1), t1 - t0, steepness)


def _half(attempt: Attempt, slope: Tensor, h: Number, steepness: Tensor) -> Half:
    size = spread(h, steepness).detach().abs().to(steepness.dtype)
    assert attempt.error is not None  # both methods have an estimate
    return Half(attempt.y1, attempt.error, slope, size * steepness / STABLE, attempt.stages)


def _vote(notes: Tensor, pressed: Tensor) -> Tensor:
    """Return which lanes are stiff from now on, votes for a change, explicit steps in a row, and the patience: (L, 4).

    An explicit method at its edge of stability passes it now and then; a stiff one must be clear of it throughout.
    """
    stiff, votes, steps, patience = notes.unbind(1)
    steps = torch.where(stiff > 0, 0.0, steps + 1)
    tries = steps >= patience
    patience = torch.where(tries, 2 * patience, torch.where((stiff > 0) & pressed, PATIENCE, patience))
    easy = torch.where(pressed, votes + 1, (votes - 1).clamp(min=0))
    hard = torch.where(pressed, 0.0, votes + 1)
    votes = torch.where(stiff > 0, hard, easy)
    change = tries | (votes >= torch.where(stiff > 0, TO_EXPLICIT, TO_STIFF))
    votes = torch.where(change, 0.0, votes)
    return torch.stack([torch.where(change, 1 - stiff, stiff), votes, steps, patience], dim=1)


def _norm(x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, dim=1)
    return norm
