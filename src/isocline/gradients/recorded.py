"""The exact gradient of the discrete solution by compiled loops, from recorded steps."""

import torch
from torch import Tensor

from isocline.compiled import Bars, Chunk, Record, Run, Traced, evaluates_at_start
from isocline.gradients.captured import Captured
from isocline.gradients.node import Cotangents, Gradients, Rule
from isocline.problem import Outputs, Problem
from isocline.solution import Stats


class Recorded(Rule):
    """Record every accepted step (state and carry); backwards, take each again and pull the gradient through it.

    With ``keep`` the records hold what f's gradient needs, too, so that with one lane nothing is evaluated again.
    """

    name = "a compiled solve"

    def __init__(self, traced: Traced, keep: bool) -> None:
        """Solve over a traced field."""
        self.traced = traced
        self.keep = keep
        self.run: Run
        self.chunks: list[Chunk]

    def forward(self, problem: Problem, captured: Captured) -> Outputs:
        """Solve, and keep the records."""
        self.run = Run(problem, self.traced)
        self.chunks = list(self.run.chunks(recorded=True, keep=self.keep))
        return self.run.outputs(iter(self.chunks))

    def backward(
        self, problem: Problem, captured: Captured, ys: Tensor, gradients: Cotangents, times: bool
    ) -> Gradients:
        """Visit the records backwards."""
        walk = _Walk(self.run, gradients, times)
        for index in reversed(range(len(self.chunks))):
            walk.through(index, self.chunks[index])
        steps = sum(chunk.rows for chunk in self.chunks)
        kept = all(chunk.record and chunk.record.kept for chunk in self.chunks)
        again = 0 if kept else steps * self.run.solver.evaluations
        problem.stats.backward = Stats(again + walk.begins, steps, steps, 0)
        return walk.result()


class _Walk:
    """The backward pass over the chunks of one run."""

    def __init__(self, run: Run, gradients: Cotangents, timed: bool) -> None:
        self.run = run
        self.gradients = gradients
        self.times = run.times.clone().requires_grad_() if timed else run.times
        self.times_bar = torch.zeros_like(run.times) if timed else None
        y_bar = gradients.ys[-1].contiguous().clone()
        carry = run.solver.init(lambda t, y: y, 0.0, y_bar, lambda: y_bar)
        self.begins = evaluates_at_start(run.solver, y_bar)
        ends = (torch.zeros_like(run.times[0]), torch.zeros_like(run.times[0])) if timed else ()
        inputs = tuple(torch.zeros_like(run.inputs[i]) for i in run.traced.differentiable)
        self.bars = Bars(y_bar, tuple(torch.zeros_like(part) for part in carry), ends, inputs)

    def through(self, index: int, chunk: Chunk) -> None:
        """Visit one chunk; the one with index 0 leads to the start."""
        run, record = self.run, chunk.record
        assert record is not None
        more = self._of_outputs(index, chunk) if record.stages else []
        step = run.program.backward if index else run.program.backward_to_start
        rows = torch.full((), chunk.rows, dtype=torch.int64, device=run.times.device)
        # Copies: a loop must not be given two views of one tensor.
        ends = [run.times[0].clone(), run.times[-1].clone()] if self.bars.ends else []
        # Stages are computed again.
        self.bars = step(run.inputs, run.traced.y0, rows, record._replace(stages=()), more, self.bars, ends)

    def result(self) -> Gradients:
        """Return the gradients."""
        if self.times_bar is not None:
            self.times_bar[0] += self.bars.ends[0]
            self.times_bar[-1] += self.bars.ends[1]
        return Gradients(self.times_bar, self.bars.y + self.gradients.ys[0], self.bars.inputs)

    def _of_outputs(self, index: int, chunk: Chunk) -> list[Tensor]:
        """Pull what the loss wants of saved states back to y0 and the stages of each step."""
        assert chunk.record is not None
        located = self.run.located[index]
        full = [torch.zeros_like(part) for part in (chunk.record.y0, *chunk.record.stages)]
        if not located:
            return full
        record = chunk.record.first(chunk.rows)
        record = record._replace(carry=()).of(
            [part.detach().requires_grad_() for part in (record.t0, record.t1, record.y0, *record.stages)]
        )
        with torch.enable_grad():
            rows = self.run.interpolate(record, located, self.times)
        bars = [found.picks.select(self.gradients.ys[1:-1]) for found in located]
        wanted = [record.y0, *record.stages, *([record.t0, record.t1, self.times] if self.times.requires_grad else [])]
        found = torch.autograd.grad(rows, wanted, bars, allow_unused=True)
        for total, bar in zip(full, found, strict=False):
            if bar is not None:
                total[: chunk.rows] = bar
        if self.times_bar is not None:
            self._of_times(record, *found[len(full) :])
        return full

    def _of_times(self, record: Record, t0: Tensor | None, t1: Tensor | None, times: Tensor | None) -> None:
        """Add the gradients of save times, and of the ends of steps where they are the user's."""
        assert self.times_bar is not None
        moved = record.t0 != record.t1
        if t0 is not None:
            self.times_bar[0] += torch.where(moved & (record.t0 == self.times[0]), t0, 0.0).sum(dim=0).detach()
        if t1 is not None:
            self.times_bar[-1] += torch.where(moved & (record.t1 == self.times[-1]), t1, 0.0).sum(dim=0).detach()
        if times is not None:
            self.times_bar += times
