"""The backward pass over recorded steps, one at a time, wherever the states before them come from."""

from collections.abc import Sequence

import torch
from torch import Tensor

from isocline.gradients.base import run
from isocline.gradients.captured import Captured
from isocline.gradients.node import Cotangents, Gradients, add
from isocline.loop import take
from isocline.numbers import Number, spread
from isocline.observers import Save, Tape, interpolate
from isocline.problem import Outputs, Problem
from isocline.rest import park
from isocline.solution import Stats
from isocline.solvers.base import Carry, Field


def record(problem: Problem, captured: Captured, budget: int | None) -> tuple[Outputs, Tape]:
    """Solve, recording a tape with at most ``budget`` states."""
    tapes: list[Tape] = []

    def make(save: Save | None) -> Tape:
        tapes.append(Tape(budget, save))
        return tapes[0]

    outputs = run(problem, captured.f0, [make])
    return outputs, tapes[0]


class Walk:
    """Carries the gradient with respect to state and carry from the last step of a tape to the first.

    Nothing is decided again: the ends of the steps and the save times in them are the tape's.
    """

    def __init__(self, problem: Problem, captured: Captured, tape: Tape, gradients: Cotangents, times: bool) -> None:
        """Stand behind the last step; ``times`` says whether gradients for the user's times are asked for."""
        self.problem = problem
        self.captured = captured
        self.tape = tape
        self.gradients = gradients
        self.times = problem.times.detach().requires_grad_(times)
        self.times_bar = torch.zeros_like(self.times) if times else None
        # For all lanes; a step changes the rows of those it has.
        self.y_bar = gradients.ys[-1].clone()
        self.carry_bar: tuple[Tensor | None, ...] | None = None
        self.inner_bar: list[Tensor | None] = [None] * len(captured.inner)

    def visit(self, index: int, state: tuple[Tensor, Carry]) -> None:
        """Take step ``index`` from this state and carry with autograd, and pull the gradient back through it."""
        y = state[0].detach().requires_grad_()
        carry = tuple(part.detach().requires_grad_() for part in state[1])
        lanes = self.tape.lanes[index]
        after = [None if bar is None else rows_of(bar, lanes) for bar in self.carry_bar or [None] * len(carry)]
        with torch.enable_grad():
            t0, t1 = self._ends(index)
            f = self.captured.field.of(lanes)
            step, carry1 = take(f, self.problem.solver, t0, t1, y, carry)
            pairs = [(step.y1, rows_of(self.y_bar, lanes)), *zip(carry1, after, strict=True)]
            if (picks := self.tape.picks.get(index)) is not None:
                rows = interpolate(f, self.problem.solver, step, picks, self.times[1:-1])
                pairs.append((rows, picks.select(self.gradients.ys[1:-1])))
            if (dense := self.gradients.dense) is not None:
                stages = torch.stack(step.stages, dim=1)
                ends = zip((t0, t1, y, step.y1, stages), (rows_of(part[index], lanes) for part in dense), strict=True)
                pairs += [(out, bar) for out, bar in ends if isinstance(out, Tensor)]
        bars = self._pull(pairs, (y, *carry))
        self.y_bar = put(self.y_bar, lanes, torch.zeros_like(y) if bars[0] is None else bars[0])
        before = self.carry_bar or [None] * len(carry)
        self.carry_bar = tuple(
            None if bar is old is None else self._put(lanes, old, torch.zeros_like(part) if bar is None else bar)
            for part, old, bar in zip(carry, before, bars[1:], strict=True)
        )

    def reached(self) -> Tensor:
        """Return which lanes have a gradient so far, (L,)."""
        bars = [self.y_bar, *(bar for bar in self.carry_bar or () if bar is not None)]
        return torch.stack([bar.ne(0).flatten(1).any(dim=1) for bar in bars]).any(dim=0)

    def needs(self, index: int) -> Tensor:
        """Return in which lanes the state before a step matters, (L,)."""
        needed, picks = self.reached(), self.tape.picks.get(index)
        if self.gradients.dense is not None or (picks is not None and picks.lanes is None):
            return torch.ones_like(needed)
        return needed if picks is None or picks.lanes is None else needed.index_fill(0, picks.lanes, True)

    def finish(self, end: Number, steps: int) -> Gradients:
        """Pull back through the first carry, add the gradient of the state saved at the start, and count the work.

        ``end`` says how far each lane came, ``steps`` how many were taken again or undone.
        """
        problem = self.problem
        if self.carry_bar and any(bar is not None for bar in self.carry_bar):
            y = problem.y0.detach().requires_grad_()
            f: Field = self.captured.field
            with torch.enable_grad():
                begin = problem.ts.number(0)
                moved = end != begin
                t0 = self.times[0] if self.times.requires_grad else begin
                f, t0, _, start, _ = park(moved, f, t0, t0, y, ())
                carry = problem.solver.init(f, t0, start, lambda: f(t0, start))
            (bar,) = self._pull(list(zip(carry, self.carry_bar, strict=True)), (y,))
            self.y_bar = self.y_bar if bar is None else self.y_bar + bar
        problem.stats.backward = Stats(self.captured.field.evaluations, steps, steps, 0)
        self.captured.field.evaluations = 0
        return Gradients(self.times_bar, self.y_bar + self.gradients.ys[0], tuple(self.inner_bar))

    def _ends(self, index: int) -> tuple[Number, Number]:
        """Ends of a step; where it starts or ends the solve they depend on the user's times."""
        t0, t1 = self.tape.interval(index)
        if not self.times.requires_grad:
            return t0, t1
        first, last = (rows_of(self.times[i], self.tape.lanes[index]) for i in (0, -1))
        t0, t1 = spread(t0, self.times), spread(t1, self.times)
        return torch.where(t0 == first.detach(), first, t0), torch.where(t1 == last.detach(), last, t1)

    def _put(self, lanes: Tensor | None, old: Tensor | None, rows: Tensor) -> Tensor:
        """Return gradients for all lanes with those of a step's lanes put in."""
        if old is None and lanes is not None:
            old = rows.new_zeros(len(self.problem.y0), *rows.shape[1:])
        return rows if old is None else put(old, lanes, rows)

    def _pull(self, pairs: Sequence[tuple[Tensor, Tensor | None]], states: Sequence[Tensor]) -> list[Tensor | None]:
        """Vector-Jacobian product: add to the gradients of inner tensors and times, return those of the states."""
        pairs = [(out, bar) for out, bar in pairs if bar is not None and out.requires_grad]
        outs = [out for out, _ in pairs]
        self.captured.check(outs, known=(*states, self.times))
        inputs = [*states, *self.captured.inner, *([self.times] if self.times.requires_grad else [])]
        bars: list[Tensor | None] = list(
            torch.autograd.grad(outs, inputs, [bar for _, bar in pairs], allow_unused=True)
        )
        if self.times_bar is not None and (bar := bars.pop()) is not None:
            self.times_bar += bar
        self.inner_bar = add(self.inner_bar, bars[len(states) :])
        return bars[: len(states)]


def rows_of(values: Tensor, lanes: Tensor | None) -> Tensor:
    """Return the rows of these lanes; None stands for all."""
    return values if lanes is None else values.index_select(0, lanes)


def put(values: Tensor, lanes: Tensor | None, rows: Tensor) -> Tensor:
    """Return the values of all lanes with the rows of these lanes put in; None stands for all."""
    return rows if lanes is None else values.index_copy(0, lanes, rows)
