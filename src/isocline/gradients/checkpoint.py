"""The exact gradient of the discrete solution, from few stored states."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from isocline.checks import check_whole
from isocline.gradients.base import Gradient
from isocline.gradients.captured import Captured
from isocline.gradients.node import Cotangents, Gradients, Rule, attach
from isocline.gradients.recorded import Recorded
from isocline.gradients.treeverse import reverse
from isocline.gradients.walk import Walk, record, rows_of
from isocline.loop import take
from isocline.numbers import Number
from isocline.observers import Tape
from isocline.problem import Outputs, Problem
from isocline.solvers.base import Carry, Solver


@dataclass(frozen=True)
class RecursiveCheckpointAdjoint(Gradient):
    """Take the accepted steps again in the backward pass, one at a time, from stored states.

    The same gradient as ``DirectAdjoint``, to rounding, and first derivatives only. The forward pass keeps states, not
    the evaluations behind them; backward recomputes one step at a time and differentiates it. The accepted times and
    which outputs fell into which step are recorded, never decided again.

    Args:
        checkpoints: most states stored at once, K. None stores the state before every accepted step: each is evaluated
            once more. With K of them memory is O(K) however many steps there are, and steps between checkpoints are
            repeated by the binomial schedule (few times: 10 states reverse 1000 steps at under 5 repetitions each).

    References:
        Griewank & Walther 2000, doi:10.1145/347837.347846.

    Example:
        >>> import isocline as iso, torch
        >>> net = torch.nn.Linear(2, 2)
        >>> sol = iso.solve(lambda t, y: net(y), torch.ones(2), (0.0, 1.0), gradient=iso.RecursiveCheckpointAdjoint(4))
        >>> sol.ys[-1].sum().backward()
        >>> net.weight.grad.shape
        torch.Size([2, 2])
    """

    checkpoints: int | None = None

    def __post_init__(self) -> None:
        """Check the budget."""
        if self.checkpoints is not None:
            check_whole("checkpoints", self.checkpoints, 1)

    def solve(self, problem: Problem) -> Outputs:
        """Solve without autograd, recording a tape."""
        if problem.traced is not None and self.checkpoints is None:
            return attach(problem, Recorded(problem.traced, keep=False))
        return attach(replace(problem, traced=None), _RecursiveCheckpointAdjoint(self.checkpoints))


class _RecursiveCheckpointAdjoint(Rule):
    name = "RecursiveCheckpointAdjoint"

    def __init__(self, budget: int | None) -> None:
        self.budget = budget
        self.tape: Tape
        self.end: Number

    def forward(self, problem: Problem, captured: Captured) -> Outputs:
        outputs, self.tape = record(problem, captured, self.budget)
        self.end = outputs.state.t
        if self.budget is not None and self.tape.length > self.budget:
            while len(self.tape.kept) > max(1, self.budget // 2):
                self.tape.thin()  # the other half of the budget serves the reversal
        return outputs

    def backward(
        self, problem: Problem, captured: Captured, ys: Tensor, gradients: Cotangents, times: bool
    ) -> Gradients:
        """Visit the steps backwards, from states that are kept or made again."""
        walk = Walk(problem, captured, self.tape, gradients, times)
        again = _Again(problem.solver, captured, self.tape)
        # Within a budget the tape's own states make room for others; without one they can serve another backward pass.
        stack = list(self.tape.kept) if self.budget is None else self.tape.kept
        reverse(stack, self.tape.length, self.budget, again.advance, walk.visit)
        return walk.finish(self.end, again.steps + self.tape.length)


class _Again:
    """Takes steps of a tape again, without autograd."""

    def __init__(self, solver: Solver, captured: Captured, tape: Tape) -> None:
        self.solver, self.captured, self.tape = solver, captured, tape
        self.steps = 0

    def advance(self, state: tuple[Tensor, Carry], first: int, last: int) -> tuple[Tensor, Carry]:
        """Take the steps first .. last-1."""
        y, carry = state
        for index in range(first, last):
            self.steps += 1
            f = self.captured.field.of(self.tape.lanes[index])
            step, carry = take(f, self.solver, *self.tape.interval(index), y, carry)
            stay = self._stay(index + 1)
            y, carry = rows_of(step.y1, stay), tuple(rows_of(part, stay) for part in carry)
        return y, carry

    def _stay(self, index: int) -> Tensor | None:
        """Return which rows of the step before go on in step ``index``, or None for all."""
        before, lanes = self.tape.lanes[index - 1], self.tape.lanes[index]
        if lanes is None or lanes is before:
            return None
        return lanes if before is None else torch.searchsorted(before, lanes)
