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
from isocline.gradients.replay import Replay, put, rows
from isocline.gradients.treeverse import reverse
from isocline.loop import take
from isocline.numbers import Number, spread
from isocline.observers import Save, Tape, interpolate
from isocline.problem import Outputs, Problem
from isocline.rest import park
from isocline.solution import Stats
from isocline.solvers.base import Carry, Field


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
        def make(save: Save | None) -> Tape:
            most = float("inf") if self.budget is None else self.budget
            self.tape = Tape(lambda stride: most, save)
            return self.tape

        outputs = run(problem, captured.f0, [make])
        self.end = outputs.state.t
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
        replay = Replay(captured.field, problem.solver, self.tape)
        reverse(stack, self.tape.length, self.budget, replay.advance, walk.visit)
        walk.finish(self.end)
        steps = replay.taken + self.tape.length
        problem.stats.backward = Stats(captured.field.evaluations, steps, steps, 0)
        captured.field.evaluations = 0
        return Gradients(walk.times_bar, walk.y_bar, tuple(walk.inner_bar))


class _Backward:
    """The backward sweep over one tape."""

    def __init__(self, problem: Problem, captured: Captured, tape: Tape, gradients: Cotangents, times: bool) -> None:
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
        """Take step ``index`` with autograd, and pull the gradient back through it."""
        y = state[0].detach().requires_grad_()
        carry = tuple(part.detach().requires_grad_() for part in state[1])
        lanes = self.tape.lanes[index]
        after = [None if bar is None else rows(bar, lanes) for bar in self.carry_bar or [None] * len(carry)]
        with torch.enable_grad():
            t0, t1 = self._ends(index)
            f = self.captured.field.of(lanes)
            step, carry1 = take(f, self.problem.solver, t0, t1, y, carry)
            pairs = [(step.y1, rows(self.y_bar, lanes)), *zip(carry1, after, strict=True)]
            if (picks := self.tape.picks.get(index)) is not None:
                saved = interpolate(f, self.problem.solver, step, picks, self.times[1:-1])
                pairs.append((saved, picks.select(self.gradients.ys[1:-1])))
            if (dense := self.gradients.dense) is not None:
                stages = torch.stack(step.stages, dim=1)
                ends = zip((t0, t1, y, step.y1, stages), (rows(part[index], lanes) for part in dense), strict=True)
                pairs += [(out, bar) for out, bar in ends if isinstance(out, Tensor)]
        bars = self._pull(pairs, (y, *carry))
        self.y_bar = self._put(lanes, self.y_bar, torch.zeros_like(y) if bars[0] is None else bars[0])
        before = self.carry_bar or [None] * len(carry)
        self.carry_bar = tuple(
            None if bar is old is None else self._put(lanes, old, torch.zeros_like(part) if bar is None else bar)
            for part, old, bar in zip(carry, before, bars[1:], strict=True)
        )

    def finish(self, end: Number) -> None:
        """Pull back through the first carry, and add the gradient of the state saved at the start."""
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
        self.y_bar = self.y_bar + self.gradients.ys[0]

    def _ends(self, index: int) -> tuple[Number, Number]:
        """Ends of a step; where it starts or ends the solve they depend on the user's times."""
        t0, t1 = self.tape.grid[index]
        if not self.times.requires_grad:
            return t0, t1
        first, last = (rows(self.times[i], self.tape.lanes[index]) for i in (0, -1))
        t0, t1 = spread(t0, self.times), spread(t1, self.times)
        return torch.where(t0 == first.detach(), first, t0), torch.where(t1 == last.detach(), last, t1)

    def _put(self, lanes: Tensor | None, old: Tensor | None, new: Tensor) -> Tensor:
        """Return gradients for all lanes with those of a step's lanes put in."""
        return put(lanes, new.new_zeros(len(self.problem.y0), *new.shape[1:]) if old is None else old, new)

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
