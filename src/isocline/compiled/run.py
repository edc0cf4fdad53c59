"""A solve by compiled loops: they hand over records of accepted steps, from which saved states are interpolated."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from isocline.compiled.graph import Traced
from isocline.compiled.loops import Leap, Record
from isocline.compiled.program import make_program
from isocline.compiled.spare import Block, give_back_with, take
from isocline.controllers import Controller, compilable
from isocline.observers import Picks, Saved
from isocline.problem import Dense, Outputs, Problem
from isocline.solvers.base import Solver
from isocline.state import State, Status, Step
from isocline.stops import Stops

LONGEST, LARGEST = 128, 2**26
"""Most rows of a record, and most bytes it should have: then the loop hands it over and begins another."""

PATIENCE = 50
"""Attempts between two reports of progress."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """What a compiled loop handed over."""

    record: Record | None
    rows: int
    """How many rows of the record are in use."""
    state: State
    """The state behind the last of them."""


class Located(NamedTuple):
    """Save times in a chunk that lie in one row of a single lane, or in any row of several lanes."""

    rows: "int | Tensor"
    picks: Picks


class Run:
    """One solve over a traced field, forwards."""

    def __init__(self, problem: Problem, traced: Traced) -> None:
        """Find the program."""
        self.problem = problem
        self.traced = traced
        # Records hold all that interpolation reads.
        self.solver = problem.solver.completing() if len(problem.times) > 2 else problem.solver
        self.controller, kind = compilable(problem.controller, problem.y0.device)
        self.program = make_program(traced, problem.field.layout, self.solver, problem.controller, kind)
        self.inputs = traced.without_history()
        self.times = problem.times.detach()
        self.attempts = 0
        self._passed = 0
        """Save times passed, with one lane."""
        self._todo = torch.ones_like(self.times[1:-1], dtype=torch.bool)
        """Save times not passed yet, with several."""
        self.located: list[list[Located]] = []
        """The save times in each chunk."""

    def chunks(self, recorded: bool, keep: bool = False, most: int = LONGEST) -> Iterator[Chunk]:
        """Solve, and yield the steps record by record; the last chunk has the final state.

        Args:
            recorded: whether records are wanted even if there is nothing to interpolate.
            keep: with what evaluations keep for their gradient, if there is one lane.
            most: rows of a record.
        """
        problem, program, state = self.problem, self.program, None
        stages = problem.dense or len(self.times) > 2
        while True:
            record, block = self._room(stages, keep, most) if recorded or stages else (None, None)
            common = self.controller, self.inputs, self.traced.y0
            if state is None:
                ends = self.times[0], self.times[-1]
                state, counts, record = program.first(*common, *ends, record, self._limit())
            else:
                state, counts, record = program.further(*common, state, self.times[-1], record, self._limit())
            running, attempts, rows = counts.tolist()
            self.attempts += attempts
            if running and self.attempts >= problem.max_steps:
                out = torch.where(state.status == int(Status.RUNNING), int(Status.MAX_STEPS), state.status)
                running, state = 0, state._replace(status=out)
            self._report(state)
            chunk = Chunk(record, rows, state)
            if block is not None:
                give_back_with(chunk, block)
            yield chunk
            if not running:
                return
            del chunk, record, block

    def outputs(self, chunks: Iterator[Chunk]) -> Outputs:
        """Interpolate at the save times of all chunks."""
        problem = self.problem
        states = Saved(len(self.times) - 2)
        denses, state = [], None
        for chunk in chunks:
            state = chunk.state
            if chunk.record is None:
                continue
            record = chunk.record.first(chunk.rows)
            located = self._locate(record)
            self.located.append(located)
            for (_, picks), values in zip(located, self.interpolate(record, located, self.times), strict=True):
                states.add(values, picks, len(problem.y0))
            if problem.dense:
                denses.append(dense(record, state.y))
        assert state is not None
        arrived = (state.status == int(Status.SUCCESS)).unsqueeze(1)
        ys = states.between(problem.y0.detach(), torch.where(arrived, state.y, float("nan")))
        solver, before = self.solver, problem.controller.evaluations
        begun = bool(before or evaluates_at_start(solver, problem.y0.detach()))
        problem.field.evaluations += before + begun + self.attempts * solver.evaluations
        return Outputs(ys, Dense(*map(torch.cat, zip(*denses, strict=True))) if denses else None, state)

    def _locate(self, record: Record) -> list[Located]:
        """Find the save times that lie in the steps of the next record."""
        interior = self.times[1:-1]
        if not len(interior) or not len(record.t0):
            return []
        if interior.shape[1] > 1:
            return self._locate_in_lanes(record, interior)
        host = self.problem.ts.host
        assert host is not None
        sign = -1.0 if host[-1] < host[0] else 1.0
        ascending = [t * sign for t in host[1:-1]]
        located = []
        for row, end in enumerate(record.t1[:, 0].tolist()):
            reached = bisect_right(ascending, end * sign)
            if reached > self._passed:
                located.append(Located(row, Picks(slice(self._passed, reached), None)))
                self._passed = reached
        return located

    def _locate_in_lanes(self, record: Record, interior: Tensor) -> list[Located]:
        sign = torch.where(self.times[-1] < self.times[0], -1.0, 1.0).to(interior.dtype)
        ends, wanted = (record.t1 * sign).T.contiguous(), (interior * sign).T.contiguous()
        # The first step that ends at or after each time; a lane at rest repeats the end of its last.
        rows = torch.searchsorted(ends, wanted).T
        inside = self._todo & (rows < len(record.t1))
        self._todo &= ~inside
        slots, lanes = inside.nonzero(as_tuple=True)
        return [Located(rows[slots, lanes], Picks(slots, lanes))] if len(slots) else []

    def interpolate(self, record: Record, located: Sequence[Located], times: Tensor) -> list[Tensor]:
        """Return the states at located save times, from times (T, L)."""
        interior = times[1:-1]
        return [self.solver.interpolate(record.steps(*found), found.picks.select(interior)) for found in located]

    def _room(self, stages: bool, keep: bool, most: int) -> tuple[Record, Block]:
        """Make an empty record, and the block of memory that it lies in; rows take memory when they are first used."""
        y, solver = self.problem.y0.detach(), self.solver
        carried = len(solver.init(lambda t, y: y, 0.0, y, lambda: y))
        count = 1 + carried + (solver.dense_stages if stages else 0)
        # With several lanes, rows of one record belong to different evaluations.
        kept = (y, *self.traced.kept) if keep and len(y) == 1 else ()
        size = y.nbytes * count + sum(part.nbytes for part in kept) * solver.evaluations
        rows = max(1, min(most, LARGEST // size))
        times = (torch.Size((rows, len(y))), self.times.dtype)
        states = (torch.Size((rows, *y.shape)), y.dtype)
        values = [(torch.Size((rows, solver.evaluations, *part.shape)), part.dtype) for part in kept]
        block = take([times, times, *([states] * count), *values], y.device)
        t0, t1, y0, *rest = block.tensors
        carry, stage, more = rest[:carried], rest[carried : count - 1], rest[count - 1 :]
        return Record(t0, t1, y0, tuple(carry), tuple(stage), tuple(more)), block

    def _limit(self) -> Tensor:
        left = self.problem.max_steps - self.attempts
        if self.problem.observers:
            left = min(left, PATIENCE)
        return torch.full((), left, dtype=torch.int64, device=self.problem.y0.device)

    def _report(self, state: State) -> None:
        step = Step(state.t, state.t, state.y, state.y, (), ())
        for observer in self.problem.observers:
            observer.see(step, int(observer.ask(step)))


def dense(record: Record, y: Tensor) -> Dense:
    """Return steps for looking up; where a lane has none it rests at y, the state behind the last."""
    rests = (record.t1 == record.t0).unsqueeze(2)
    y0 = torch.where(rests, y, record.y0)
    y1 = torch.cat([y0[1:], y.unsqueeze(0)])
    return Dense(record.t0, record.t1, y0, y1, torch.stack(record.stages, dim=2))


def evaluates_at_start(solver: Solver, y0: Tensor) -> bool:
    """Whether the solver carries f(t0, y0) into its first step."""
    asked: list[Tensor] = []

    def f0() -> Tensor:
        asked.append(y0)
        return y0

    solver.init(lambda t, y: y, 0.0, y0, f0)
    return bool(asked)


def backwards(problem: Problem, traced: Traced, solver: Solver, controller: Controller) -> Callable[..., Any]:
    """Return the compiled loop from stop to stop of an adjoint solve with one lane."""
    tuned, kind = compilable(controller, problem.y0.device)
    program = make_program(traced, problem.field.layout, solver, controller, kind)
    inputs = traced.without_history()

    def leap(at: Leap, stops: Stops, most: int) -> tuple[Leap, int]:
        limit = torch.full((), most, dtype=torch.int64, device=problem.y0.device)
        at, attempts = program.to_stop(tuned, inputs, traced.y0, stops, at, limit)
        return at, int(attempts)

    return leap
