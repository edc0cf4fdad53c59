"""The exact gradient of the discrete solution, from few stored states."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from isocline.checks import check_whole
from isocline.gradients.base import Gradient, run
from isocline.gradients.captured import Captured
from isocline.gradients.node import Cotangents, Gradients, Rule, add, attach
from isocline.gradients.recorded import Recorded
from isocline.gradients.treeverse import reverse
from isocline.loop import park, take
from isocline.numbers import Number, spread
from isocline.observers import Save, Tape, interpolate
from isocline.problem import Outputs, Problem
from isocline.solution import Stats
from isocline.solvers.base import Carry


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
            return attach(problem, Recorded(problem.traced))
        return attach(replace(problem, traced=None), _RecursiveCheckpointAdjoint(self.checkpoints))


class _RecursiveCheckpointAdjoint(Rule):
    name = "RecursiveCheckpointAdjoint"

    def __init__(self, budget: int | None) -> None:
        self.budget = budget
        self.tape: Tape

    def forward(self, problem: Problem, captured: Captured) -> Outputs:
        def make(save: Save | None) -> Tape:
            self.tape = Tape(problem.ts.number(0), self.budget, save)
            return self.tape

        outputs = run(problem, captured.f0, [make])
        if self.budget is not None and self.tape.length > self.budget:
            while len(self.tape.kept) > max(1, self.budget // 2):
                self.tape.thin()  # the other half of the budget serves the reversal
        return outputs

    def backward(
        self, problem: Problem, captured: Captured, ys: Tensor, gradients: Cotangents, times: bool
    ) -> Gradients:
        """Visit the steps backwards, carrying the gradient of the loss with respect to state and carry."""
        walk = _Backward(problem, captured, self.tape, gradients, times)
        # Within a budget the tape's own states make room for others; without one they can serve another backward pass.
        stack = list(self.tape.kept) if self.budget is None else self.tape.kept
        reverse(stack, self.tape.length, self.budget, walk.advance, walk.visit)
        walk.finish()
        problem.stats.backward = Stats(captured.field.evaluations, walk.steps, walk.steps, 0)
        captured.field.evaluations = 0
        return Gradients(walk.times_bar, walk.y_bar, tuple(walk.inner_bar))


class _Backward:
    """The backward sweep over one tape."""

    def __init__(self, problem: Problem, captured: Captured, tape: Tape, gradients: Cotangents, times: bool) -> None:
        self.problem = problem
        self.captured = captured
        self.tape = tape
        self.grid = tape.grid
        self.gradients = gradients
        self.times = problem.times.detach().requires_grad_(times)
        self.times_bar = torch.zeros_like(self.times) if times else None
        self.y_bar = gradients.ys[-1].clone()
        self.carry_bar: tuple[Tensor | None, ...] | None = None
        self.inner_bar: list[Tensor | None] = [None] * len(captured.inner)
        self.steps = 0

    def advance(self, state: tuple[Tensor, Carry], first: int, last: int) -> tuple[Tensor, Carry]:
        """Take the steps first .. last-1 without autograd."""
        y, carry = state
        for index in range(first, last):
            self.steps += 1
            step, carry = take(
                self.captured.field, self.problem.solver, self.grid[index], self.grid[index + 1], y, carry
            )
            y = step.y1
        return y, carry

    def visit(self, index: int, state: tuple[Tensor, Carry]) -> None:
        """Take step ``index`` with autograd, and pull the gradient back through it."""
        self.steps += 1
        y = state[0].detach().requires_grad_()
        carry = tuple(part.detach().requires_grad_() for part in state[1])
        with torch.enable_grad():
            t0, t1 = self._ends(index)
            step, carry1 = take(self.captured.field, self.problem.solver, t0, t1, y, carry)
            pairs = [(step.y1, self.y_bar), *zip(carry1, self.carry_bar or [None] * len(carry1), strict=True)]
            if (picks := self.tape.picks.get(index)) is not None:
                rows = interpolate(self.problem.solver, step, picks, self.times[1:-1])
                pairs.append((rows, picks.select(self.gradients.ys[1:-1])))
            if (dense := self.gradients.dense) is not None:
                stages = torch.stack(step.stages, dim=1)
                ends = zip((t0, t1, y, step.y1, stages), (part[index] for part in dense), strict=True)
                pairs += [(out, bar) for out, bar in ends if isinstance(out, Tensor)]
        bars = self._pull(pairs, (y, *carry))
        self.y_bar = torch.zeros_like(y) if bars[0] is None else bars[0]
        self.carry_bar = tuple(bars[1:])

    def finish(self) -> None:
        """Pull back through the first carry, and add the gradient of the state saved at the start."""
        problem = self.problem
        if self.carry_bar and any(bar is not None for bar in self.carry_bar):
            y = problem.y0.detach().requires_grad_()
            f = self.captured.field
            with torch.enable_grad():
                moved = self.grid[-1] != self.grid[0]
                t0 = self.times[0] if self.times.requires_grad else self.grid[0]
                t0, _, start, _ = park(moved, t0, t0, y, ())
                carry = problem.solver.init(f, t0, start, lambda: f(t0, start))
            (bar,) = self._pull(list(zip(carry, self.carry_bar, strict=True)), (y,))
            self.y_bar = self.y_bar if bar is None else self.y_bar + bar
        self.y_bar = self.y_bar + self.gradients.ys[0]

    def _ends(self, index: int) -> tuple[Number, Number]:
        """Ends of a step; where it starts or ends the solve they depend on the user's times."""
        t0, t1 = self.grid[index], self.grid[index + 1]
        if not self.times.requires_grad:
            return t0, t1
        t0, t1, first, last = spread(t0, self.times), spread(t1, self.times), self.times[0], self.times[-1]
        return torch.where(t0 == first.detach(), first, t0), torch.where(t1 == last.detach(), last, t1)

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
