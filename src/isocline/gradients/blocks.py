"""The way back along the steps of the forward solve, which are taken again block by block."""

from typing import NamedTuple

import torch
from torch import Tensor

from isocline.controllers import Controller
from isocline.dense import Interpolant
from isocline.gradients.adjoint import AdjointField, LookedUp
from isocline.gradients.base import stack_steps
from isocline.gradients.captured import Captured
from isocline.gradients.continuous import check_arrived
from isocline.gradients.node import add
from isocline.gradients.replay import Kept, Replay, put, rows, rows_of
from isocline.gradients.sweep import Sweep
from isocline.numbers import Number, spread
from isocline.observers import Tape
from isocline.rest import completed
from isocline.solvers.base import Solver
from isocline.state import State, Step


class How(NamedTuple):
    """How a is solved for."""

    solver: Solver
    controller: Controller
    weighed: bool
    """Whether the method's weights integrate for the parameters; else Gauss's quadrature does."""
    most: int
    """Most attempts."""
    name: str
    """For messages."""


class Blocks:
    """Solves for a in one block of steps after the other, the last first, with y(t) from the interpolant of its steps.

    In each lane a block is an interval of its own. The adjoint's steps end where it begins, and keep their size for the
    block before. Lanes that rest in a block take the place of one that moves.

    Args:
        captured: the field and what it depends on.
        replay: the steps of the forward solve.
        size: how many of them make a block.
        end: where they ended.
        how: method and step sizes.
        stops: times (S, L): the last save time first, the start of the forward solve last.
        bars: gradients of the loss with respect to the states there, (S, L, n).
    """

    def __init__(
        self, captured: Captured, replay: Replay, size: int, end: Number, how: How, stops: Tensor, bars: Tensor
    ) -> None:
        """Find out which stops are in which block, and who moves there (one host sync)."""
        self.captured, self.replay, self.size, self.how = captured, replay, size, how
        self.stops, self.bars = stops, bars
        self.sign = torch.where(stops[0] < stops[-1], -1.0, 1.0).to(stops.dtype)
        # A lane that failed starts back from a save time before.
        bounds = _bounds(replay.tape, size, spread(end, stops)) * self.sign
        self.bounds = torch.minimum(bounds, stops[0] * self.sign) * self.sign
        moving, count = self.bounds[1:] != self.bounds[:-1], len(self.bounds) - 1
        ends = (self.bounds[1:] * self.sign).T.contiguous()
        inside = torch.searchsorted(ends, (stops * self.sign).T.contiguous()).T
        self.block = torch.where(stops == stops[-1], count, inside)
        """The block in which each stop is, (S, L); stops at the start are in none."""
        self.joining = moving & (moving.flip(0).cumsum(0).flip(0) == 1)
        """The lanes that move in a block but in none behind it, (B, L)."""
        held = stops.new_zeros(len(stops), count + 1).scatter_(1, self.block, 1.0)[:, :count]
        facts = torch.cat([held, torch.stack([moving.any(1), self.joining.any(1)])])
        *self.held, self.moves, self.joins = facts.tolist()
        self.a = torch.zeros_like(bars[0])
        self.dt = torch.zeros_like(stops[0])
        self.memory: tuple[Tensor, ...] | None = None
        self.inner_bar: list[Tensor | None] = [None] * len(captured.inner)
        self.steps = self.accepted = self.attempts = 0

    def advance(self, kept: Kept, first: int, last: int) -> Kept:
        """Take the steps of blocks again without looking at them."""
        return self.replay.advance(kept, first * self.size, last * self.size)

    def visit(self, index: int, kept: Kept) -> None:
        """Go back through one block.

        Raises:
            SolveError: it failed.
        """
        if not self.moves[index]:
            return
        lanes = self.replay.tape.lanes[index * self.size]
        low, high = (rows(bound, lanes) for bound in self.bounds[index : index + 2])
        moving = high != low
        source = torch.where(moving, torch.arange(len(low), device=low.device), moving.to(torch.uint8).argmax())
        low, high = torch.where(moving, low, high[source]), high[source]
        f = self._field(index, kept, lanes, source)
        stops, bars = self._stops(index, lanes, low, high)
        sweep = Sweep(f, self.how.solver, self.how.controller, stops, bars)
        joined = rows(self.joining[index], lanes) if self.joins[index] else None
        state = sweep.run(rows(self.a, lanes), self.how.most - self.attempts, self._before(lanes), joined)
        check_arrived(self.how.name, state, stops[-1], lanes)
        self.a = put(lanes, self.a, state.y)
        self._note(state, lanes, moving)
        self.inner_bar = add(self.inner_bar, sweep.inner_bar)
        self.steps, self.accepted = self.steps + sweep.steps, self.accepted + sweep.accepted
        self.attempts += sweep.attempts

    def _field(self, index: int, kept: Kept, lanes: Tensor | None, source: Tensor) -> AdjointField:
        """Return the adjoint field along the steps of a block, which are taken again."""
        field, replay = self.captured.field, self.replay
        first = index * self.size
        steps: list[Step] = []
        for place in range(first, min(first + self.size, replay.tape.length)):
            step, kept = replay.take(place, kept)
            # Of lanes that rest only the stages are without meaning.
            stages = completed(field.of(step.lanes), replay.solver, step).stages
            steps.append(step._replace(lanes=rows_of(lanes, step.lanes), stages=stages, carry=()))
        states = Interpolant(stack_steps(steps, self.stops), rows(self.sign, lanes), field.layout, replay.solver)
        with torch.enable_grad():  # else nobody would be put beside anyone
            part = field if len(self.a) == 1 else field.of(lanes).beside(source)
        return AdjointField(self.captured, part, LookedUp(states, source), self.how.weighed)

    def _stops(self, index: int, lanes: Tensor | None, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return the stops of a block, and the gradients there: its end first, its beginning last.

        Those that only other lanes have are at the end, without a gradient.
        """
        chosen = [row for row, held in enumerate(self.held) if held[index]]
        inside, times, bars = (
            part[chosen] if lanes is None else part[chosen].index_select(1, lanes)
            for part in (self.block == index, self.stops, self.bars)
        )
        times = torch.where(inside, times, high)
        order = (times * rows(self.sign, lanes)).argsort(dim=0, descending=True, stable=True)
        bars = torch.where(inside.unsqueeze(2), bars, 0.0).gather(0, order.unsqueeze(2).expand_as(bars))
        ends = torch.zeros_like(rows(self.a, lanes)).unsqueeze(0)
        times = torch.cat([high.unsqueeze(0), times.gather(0, order), low.unsqueeze(0)])
        return times, torch.cat([ends, bars, ends])

    def _before(self, lanes: Tensor | None) -> State | None:
        """Return a state with the step sizes that lanes came here with.

        None where there are none yet, or they are of no use: methods with a past begin again at a low order.
        """
        if self.memory is None or self.how.solver.weights is None:
            return None
        memory, dt = tuple(rows(part, lanes) for part in self.memory), rows(self.dt, lanes)
        nothing = torch.zeros_like(dt, dtype=torch.int64)
        return State(dt, dt, (), dt, memory, nothing, nothing, nothing)

    def _note(self, state: State, lanes: Tensor | None, moving: Tensor) -> None:
        """Keep the step sizes of lanes that moved."""
        if self.memory is None:
            self.memory = tuple(torch.ones_like(self.dt) for _ in state.memory)
        old, new = (self.dt, *self.memory), (state.dt, *state.memory)
        self.dt, *memory = (
            put(lanes, a, torch.where(moving, b, rows(a, lanes))) for a, b in zip(old, new, strict=True)
        )
        self.memory = tuple(memory)


def _bounds(tape: Tape, size: int, end: Tensor) -> Tensor:
    """Return where the blocks begin, and the last ends, in each lane: (B + 1, L)."""
    found = [end]
    for first in reversed(range(0, tape.length, size)):
        found.append(put(tape.lanes[first], found[-1], spread(tape.starts[first], end)))
    return torch.stack(found[::-1])
