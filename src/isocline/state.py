"""What changes during a solve, what one attempted step did, and how a lane ended."""

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import torch
from torch import Tensor

from isocline.numbers import Number, spread


class Status(IntEnum):
    """How a lane stands: one integer a lane, in ``Solution.status``."""

    RUNNING = 0
    SUCCESS = 1
    MAX_STEPS = 2
    STEP_TOO_SMALL = 3
    NON_FINITE = 4
    EVENT = 5


def ended_well(status: Number) -> Number:
    """Whether a lane did what was asked."""
    return (status == int(Status.SUCCESS)) | (status == int(Status.EVENT))


ADVICE = {
    Status.MAX_STEPS: (
        "max_steps was reached before the end time. If f is stiff, an explicit method needs tiny steps: take a "
        "stiff one (method='rodas5p', 'kvaerno5', 'bdf') or 'auto'; otherwise loosen rtol and atol, or raise "
        "max_steps. If f draws random numbers (dropout), no step is small enough: draw them before the solve"
    ),
    Status.STEP_TOO_SMALL: (
        "the step size fell below the resolution of time. The solution probably blows up here, or f is "
        "discontinuous or extremely stiff: end the solve earlier, split it at the discontinuity, or check the sign "
        "of f"
    ),
    Status.NON_FINITE: (
        "the state or f became inf or nan. Check y0 and f there (division by zero, log or sqrt of a negative "
        "number, overflow, a solution that blows up); or an implicit method's iteration did not converge; with "
        "FixedStep try a smaller dt, or use an adaptive controller"
    ),
}
"""What a status means for the user and what to try, for the error message."""


class State(NamedTuple):
    """A solve between two steps: L lanes of n numbers each, the lane axis first.

    What belongs to a lane (times, sizes, counts) is a tensor (L,), or a Python number where a single lane is stepped
    eagerly; see ``numbers``.
    """

    t: Number
    """Time reached, in the time dtype."""
    y: Tensor
    """State there, (L, n)."""
    carry: tuple[Tensor, ...]
    """What the solver brings from step to step: each (L, ...)."""
    dt: Number
    """Signed size proposed for the next step."""
    memory: tuple[Number, ...]
    """What the controller remembers."""
    status: Number
    """A ``Status``, int64."""
    steps: Number
    """Attempted steps, int64."""
    accepted: Number
    """Accepted steps, int64."""


def alike(state: State, like: Tensor, numbers: bool) -> State:
    """Return the state with Python numbers for what belongs to a lane, or with tensors like ``like``."""

    def fit(x: Number) -> Number:
        if numbers:
            return x.item() if isinstance(x, Tensor) else x
        return spread(x, like)

    parts = (fit(x) for x in (state.t, state.dt, state.status, state.steps, state.accepted))
    t, dt, status, steps, accepted = parts
    return State(t, state.y, state.carry, dt, tuple(map(fit, state.memory)), status, steps, accepted)


def select(state: State, rows: Tensor) -> State:
    """Return the rows of some lanes; numbers must be tensors."""
    return _each(lambda x: x.index_select(0, rows), state)


def join(states: Sequence[State]) -> State:
    """Return one state with the rows of several; numbers must be tensors."""
    return _each(lambda *parts: torch.cat(parts), *states)


def _each(function: Callable[..., Tensor], *states: State) -> State:
    parts: Any = (
        tuple(map(function, *x)) if isinstance(x[0], tuple) else function(*x) for x in zip(*states, strict=True)
    )
    return State(*parts)


class Step(NamedTuple):
    """One step as observers see it: the interval ``[t0, t1]`` of each lane; a lane that did not move has t1 == t0."""

    t0: Number
    t1: Number
    y0: Tensor
    """(L, n)"""
    y1: Tensor
    """(L, n)"""
    stages: tuple[Tensor, ...]
    """The solver's evaluations on this step, each (L, n); ``Solver.interpolate`` reads them."""
    carry: tuple[Tensor, ...]
    """The carry that the step began with: with t0 and y0 it is all that is needed to take the step again."""
    lanes: Tensor | None = None
    """Which lanes the rows are, ascending: those that had ended before are not among them. None: all, in order."""
