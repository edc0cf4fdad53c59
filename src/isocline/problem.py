"""A problem as the gradient methods get it, and what they must give back."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from isocline.controllers import Controller
from isocline.field import Field
from isocline.observers import Observer
from isocline.solution import Stats
from isocline.solvers.base import Solver
from isocline.state import State
from isocline.times import Times
from isocline.tracking import Work

if TYPE_CHECKING:
    from isocline.compiled import Traced


@dataclass(frozen=True)
class Problem:
    """An initial value problem over L lanes, checked and packed."""

    field: Field
    y0: Tensor
    """(L, n)"""
    ts: Times
    solver: Solver
    controller: Controller
    max_steps: int
    dense: bool
    params: tuple[Tensor, ...] | None
    """Tensors to differentiate besides y0, times and args; None finds those that the field uses."""
    observers: tuple[Observer, ...]
    traced: "Traced | None"
    """The field captured for compiled loops; None steps eagerly."""
    stats: Stats
    """The gradient method adds what its backward pass did."""
    marks: Tensor | None = None
    """Times at which steps end, (J, L)."""
    segment: bool = False
    """Whether it is one of several that make up the user's."""
    before: State | None = None
    """The state in which an earlier solve came to the start."""
    trackers: tuple[Work, ...] = ()
    """Who is told what backward passes did."""

    @property
    def times(self) -> Tensor:
        """Save times (T, L)."""
        return self.ts.values


class Dense(NamedTuple):
    """All accepted steps, N of them, stacked: times (N, L), states (N, L, n), stages (N, L, s, n)."""

    t0: Tensor
    t1: Tensor
    y0: Tensor
    y1: Tensor
    stages: Tensor


class Outputs(NamedTuple):
    """What a solve gives: with autograd history, if gradients were asked for."""

    ys: Tensor
    """(T, L, n); nan where a lane did not get."""
    dense: Dense | None
    state: State
    """The final state, for statuses and counts."""
