"""The adjoint ODE along the forward solve's own interpolant: what the methods have in common that solve it so."""

from abc import abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from isocline.checks import check_whole
from isocline.gradients.base import run
from isocline.gradients.blocks import Blocks, How
from isocline.gradients.captured import Captured
from isocline.gradients.continuous import Continuous, ContinuousRule, Way
from isocline.gradients.node import attach
from isocline.gradients.replay import Kept, Replay
from isocline.gradients.treeverse import reverse
from isocline.numbers import Number
from isocline.observers import Save, Tape
from isocline.problem import Outputs, Problem
from isocline.solvers.base import BlackBox, Solver
from isocline.solvers.splitting import Splitting


@dataclass(frozen=True)
class Along(Continuous):
    """The adjoint ODE with y(t) from the steps of the forward solve, which are taken again in blocks."""

    checkpoints: int | None = None

    @property
    @abstractmethod
    def weighs(self) -> bool:
        """Whether parameters are integrated by the method's own weights, if it has any."""

    def __post_init__(self) -> None:
        """Check the budget, too."""
        super().__post_init__()
        if self.checkpoints is not None:
            check_whole("checkpoints", self.checkpoints, 1)

    def suits(self, solver: Solver) -> bool:
        """Whether it can solve backwards by this method, if it has none of its own, and has its steps."""
        return super().suits(solver) and not (self.method is None and isinstance(solver, Splitting))

    def solve(self, problem: Problem) -> Outputs:
        """Solve without autograd, recording a tape."""
        if not torch.is_grad_enabled():
            return run(problem)
        name, solver = type(self).__name__, self._backward_solver(problem)
        if isinstance(solver, (BlackBox, Splitting)):
            raise ValueError(
                f"{name} cannot solve backwards by method {solver.name!r}; name another: {name}(method='tsit5')"
            )
        controller = self._fitted(problem, solver, self._backward_controller(problem))
        weighed = self.weighs and solver.integrates and solver.weights is not None
        how = How(solver.tuned(controller), controller, weighed, self.max_steps or problem.max_steps, name)
        return attach(replace(problem, traced=None), _Along(how, self.checkpoints))


class _Along(ContinuousRule):
    """Keeps a tape on the way there.

    Without a budget K a block is as many steps as lie between kept states, about the root of all. With one it has at
    most K, and the states before blocks are had by the binomial schedule.
    """

    def __init__(self, how: How, budget: int | None) -> None:
        self.name = how.name
        self.how, self.budget = how, budget
        self.tape: Tape
        self.size: int
        self.stack: list[tuple[int, Kept]]
        self.end: Number

    def _solve(self, problem: Problem, captured: Captured) -> Outputs:
        def make(save: Save | None) -> Tape:
            budget = self.budget
            self.tape = Tape(lambda stride: stride if budget is None else budget, save)
            return self.tape

        outputs = run(problem, captured.f0, [make])
        tape, budget, self.end = self.tape, self.budget, outputs.state.t
        self.size = tape.stride
        if budget is not None:
            self.size = 1 << (budget.bit_length() - 1)
            while tape.stride < self.size:
                tape.thin()
            if tape.length > self.size * budget:
                while len(tape.kept) > max(1, budget // 2):
                    tape.thin()  # the other half of the budget serves the reversal
        self.stack, tape.kept = [(index // self.size, kept) for index, kept in tape.kept], []
        return outputs

    def _back(self, problem: Problem, captured: Captured, stops: Tensor, ys: Tensor, bars: Tensor) -> Way:
        replay = Replay(captured.field, problem.solver, self.tape)
        how = self.how._replace(most=self.how.most + len(stops) + -(-self.tape.length // self.size))
        blocks = Blocks(captured, replay, self.size, self.end, how, stops, bars)
        # As with checkpoints: states within a budget make room for others.
        stack = list(self.stack) if self.budget is None else self.stack
        reverse(stack, -(-self.tape.length // self.size), self.budget, blocks.advance, blocks.visit)
        # What the loss wants of save times that are the start.
        at_start = (bars[:-1] * (stops[:-1] == stops[-1]).unsqueeze(2)).sum(dim=0)
        return Way(blocks.a + at_start, tuple(blocks.inner_bar), blocks.steps, blocks.accepted)
