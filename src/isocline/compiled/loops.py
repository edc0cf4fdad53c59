"""The loops that are compiled: pure functions of tensors.

Outside the compiler they run as they stand, which is how they are tested and what happens when compiling fails.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from isocline.controllers import Controller
from isocline.loop import RUNNING, advance, start
from isocline.observers import Picks
from isocline.solvers.base import Field, Solver
from isocline.state import State, Status, Step
from isocline.stops import Stops

Pull = Callable[..., Any]


class Record(NamedTuple):
    """Accepted steps: row k of a lane is its k-th. Rows beyond a lane's last have t1 == t0 and no meaning."""

    t0: Tensor
    """(N, L)"""
    t1: Tensor
    """(N, L)"""
    y0: Tensor
    """(N, L, n)"""
    carry: tuple[Tensor, ...]
    """Each (N, L, ...)."""
    stages: tuple[Tensor, ...]
    """Each (N, L, n); none if nothing is to be interpolated."""
    kept: tuple[Tensor, ...] = ()
    """With one lane, for the gradient: f's values, and what it kept besides, each (N, evaluations of a step, ...)."""

    def first(self, rows: int) -> "Record":
        """Return the first rows."""
        return self.of([part[:rows] for part in self.parts])

    def of(self, parts: Sequence[Tensor]) -> "Record":
        """Return a record with these parts."""
        t0, t1, y0, *rest = parts
        return Record(t0, t1, y0, tuple(rest[: len(self.carry)]), tuple(rest[len(self.carry) :]))

    def steps(self, rows: "int | Tensor", picks: Picks) -> Step:
        """Return one row as a step, or with several lanes one step for each pair of a row and a lane."""
        place = rows if picks.lanes is None else (rows, picks.lanes)
        t0, t1, y0 = self.t0[place], self.t1[place], self.y0[place]
        return Step(t0, t1, y0, y0, tuple(k[place] for k in self.stages), ())

    @property
    def parts(self) -> list[Tensor]:
        """All tensors of a row, in order."""
        return [self.t0, self.t1, self.y0, *self.carry, *self.stages]


def loop(going: Callable[..., Tensor], body: Callable[..., Any], values: tuple[Any, ...]) -> tuple[Any, ...]:
    """``while going(*values): values = body(*values)``."""
    if torch.compiler.is_compiling():
        result: tuple[Any, ...] = torch.while_loop(going, body, values)  # type: ignore[attr-defined]
        return result
    while bool(going(*values)):
        values = body(*values)
    return values


def begin(f: Field, solver: Solver, controller: Controller, t0: Tensor, t1: Tensor, y0: Tensor) -> State:
    """Start a solve."""
    return own(start(f, solver, controller, t0, y0, t1))


def own(state: State) -> State:
    """Return a state every tensor of which is its own, as a loop demands."""
    copies: Any = (tuple(map(torch.clone, x)) if isinstance(x, tuple) else x.clone() for x in state)
    return State(*copies)


def sweep(
    f: Field,
    keep: Callable[[Tensor, Tensor], Sequence[Tensor]],
    solver: Solver,
    controller: Controller,
    t_end: Tensor,
    state: State,
    record: Record | None,
    limit: Tensor,
) -> tuple[State, Tensor, Record | None]:
    """Step until all lanes are done, ``limit`` attempts were made, or a lane's record is full.

    Args:
        f: the field.
        keep: evaluates it and returns what is to be kept, if the record has room for that.
        solver: takes the steps.
        controller: chooses their sizes.
        t_end: where lanes end.
        state: where they are.
        record: where to write accepted steps.
        limit: most attempts, 0-d.

    Returns:
        The state; whole numbers (lanes still running, attempts, rows of the record in use); and the record.
    """
    lanes = torch.arange(len(state.y), device=state.y.device)
    before = state.accepted.clone()
    room: Any = limit if record is None else len(record.t0)

    def going(attempts: Tensor, state: State) -> Tensor:
        full: Tensor = (state.accepted - before).max() >= room
        return any_running(state) & (attempts < limit) & ~full

    def body(attempts: Tensor, state: State) -> tuple[Tensor, State]:
        kept: list[Sequence[Tensor]] = []

        def keeping(t: Tensor, y: Tensor) -> Tensor:
            kept.append(keep(t, y))
            return kept[-1][0]

        new, step = advance(keeping if record and record.kept else f, solver, controller, t_end, state)
        if record is not None:
            # A rejected attempt is written over by the next.
            place = state.accepted - before, lanes
            values = (step.t0, step.t1, step.y0, *step.carry, *step.stages)
            for part, value in zip(record.parts, values, strict=False):
                part.index_put_(place, value)
            for i, evaluation in enumerate(kept):
                # Both indices are tensors: of a slice the compiler would copy the whole part.
                each = place[0], torch.full_like(lanes, i)
                for part, value in zip(record.kept, evaluation, strict=True):
                    part.index_put_(each, value.unsqueeze(0))
        return attempts + 1, new

    attempts, state = loop(going, body, (torch.zeros_like(limit), state))
    rows = (state.accepted - before).max()
    counts = torch.stack([(state.status == RUNNING).sum(), attempts, rows])
    if record is not None:
        beyond = torch.arange(room, device=lanes.device).unsqueeze(1) >= state.accepted - before
        record = record._replace(t0=torch.where(beyond, state.t, record.t0), t1=torch.where(beyond, state.t, record.t1))
    return state, counts, record


def any_running(state: State) -> Tensor:
    """Whether a lane is on its way, 0-d."""
    running: Tensor = (state.status == RUNNING).any()
    return running


class Leap(NamedTuple):
    """How far a backward solve came on its way to the next stop."""

    state: State
    place: Tensor
    """Index of the last stop reached, (L,)."""
    t0: Tensor
    """Where the last accepted step began, (L,)."""
    inputs: tuple[Tensor, ...]
    """The integrals of ``a^T df/dtheta`` so far."""


def leap(attempt: Callable[..., Any], stops: Stops, at: Leap, limit: Tensor) -> tuple[Leap, Tensor]:
    """Solve (y, a) backwards until a stop is reached; return where, and the attempts made.

    Args:
        attempt: one attempt in the adjoint problem: ``attempt(state, target) -> (new state, start of the step, whether
            it was accepted, integrals over the step)``.
        stops: the way.
        at: where to begin.
        limit: most attempts, 0-d.
    """
    from_place = at.place.clone()

    def going(attempts: Tensor, at: Leap) -> Tensor:
        return any_running(at.state) & (attempts < limit) & (at.place == from_place).all()

    def body(attempts: Tensor, at: Leap) -> tuple[Tensor, Leap]:
        target = stops.target(at.state.t, at.state.dt, at.place)
        new, integrals = attempt(at.state, target)
        accepted = new.accepted > at.state.accepted
        place = stops.passed(new.t)
        on_way = (new.status == int(Status.SUCCESS)) & (place < len(stops.times) - 1)
        new = new._replace(status=torch.where(on_way, RUNNING, new.status))
        totals = tuple(torch.where(accepted[0], a + b, a) for a, b in zip(at.inputs, integrals, strict=True))
        return attempts + 1, Leap(new, place, torch.where(accepted, at.state.t, at.t0), totals)

    at = at._replace(state=own(at.state), place=at.place.clone(), t0=at.t0.clone())
    attempts, at = loop(going, body, (torch.zeros_like(limit), at))
    return at, attempts


class Bars(NamedTuple):
    """Gradients of the loss while steps are visited backwards."""

    y: Tensor
    """With respect to the state, (L, n)."""
    carry: tuple[Tensor, ...]
    ends: tuple[Tensor, ...]
    """With respect to the first and the last time, each (L,), if asked for."""
    inputs: tuple[Tensor, ...]
    """With respect to the differentiable inputs of the graph."""


def reverse(
    pull: Pull, rows: Tensor, record: Record, more: Sequence[Tensor], bars: Bars, ends: Sequence[Tensor]
) -> Bars:
    """Pull gradients back through the first ``rows`` steps of a record, the last first.

    Args:
        pull: the vector-Jacobian product of one step.
        rows: how many, 0-d.
        record: the steps.
        more: further gradients of the loss, row by row: with respect to y0 and the stages of each step; or none.
        bars: gradients with respect to what comes after the last step.
        ends: first and last time of each lane, if their gradients are asked for.
    """

    def going(row: Tensor, bars: Bars) -> Tensor:
        return row >= 0

    def body(row: Tensor, bars: Bars) -> tuple[Tensor, Bars]:
        def pick(part: Tensor) -> Tensor:
            return part.index_select(0, row.reshape(1)).squeeze(0)

        t0, t1 = pick(record.t0), pick(record.t1)
        y_more, *stage_bars = map(pick, more) if more else (None,)
        known = list(zip(*(pick(part).unbind() for part in record.kept), strict=True))
        y, carry, times, inputs = pull(
            t0, t1, pick(record.y0), tuple(map(pick, record.carry)), known, bars.y, bars.carry, stage_bars
        )
        if y_more is not None:
            y = y + y_more
        if ends:
            at = (t0 == ends[0]) & (t1 != t0), (t1 == ends[1]) & (t1 != t0)
            parts = zip(bars.ends, times, at, strict=True)
            times = tuple(old + torch.where(here, new, 0.0) for old, new, here in parts)
        totals = tuple(a + b for a, b in zip(bars.inputs, inputs, strict=True))
        return row - 1, Bars(y, carry, times if ends else (), totals)

    _, bars = loop(going, body, (rows - 1, bars))
    return bars
