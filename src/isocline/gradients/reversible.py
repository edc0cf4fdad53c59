"""The exact gradient of the discrete solution, by undoing its steps."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from isocline.checks import check_whole
from isocline.gradients.base import Gradient, run
from isocline.gradients.captured import Captured
from isocline.gradients.node import Cotangents, Gradients, Rule, attach
from isocline.gradients.walk import Walk, put, record, rows_of
from isocline.loop import largest, undo
from isocline.numbers import where
from isocline.observers import Tape
from isocline.problem import Outputs, Problem
from isocline.solvers.base import Carry, Invertible, Solver
from isocline.state import State


@dataclass(frozen=True)
class ReversibleAdjoint(Gradient):
    r"""Undo the accepted steps one by one in the backward pass, and differentiate each.

    For methods whose steps can be undone algebraically. The same gradient as ``DirectAdjoint``, to rounding, and first
    derivatives only, from a number of stored states that does not depend on the number of steps. The accepted times and
    which outputs fell into which step are recorded, never decided again. Each step is undone, then taken once more.

    Undoing steps makes rounding errors grow: on the way back they grow by what the problem makes them shrink by on the
    way there, and by the method's own (about 1 / ``coupling`` a step for ``Reversible``). So a few states along the way
    are kept, from which the reversal starts afresh, and at which it is seen how well it did.

    Args:
        checkpoints: most states kept along the way, spread evenly.

    Raises:
        ValueError: in ``solve``, for a method whose steps cannot be undone.
        RuntimeError: in backward, when more than half of the state's digits were lost between two checkpoints.

    References:
        Kidger, Foster, Li & Lyons 2021, Efficient and Accurate Gradients for Neural SDEs, arXiv:2105.13493.
        McCallum & Foster 2024, Efficient, Accurate and Stable Gradients for Neural ODEs, arXiv:2410.11648.

    Example:
        >>> import isocline as iso, torch
        >>> k = torch.tensor(0.5, requires_grad=True)
        >>> method, gradient = iso.Reversible("tsit5"), iso.ReversibleAdjoint()
        >>> sol = iso.solve(lambda t, y: -k * y, torch.ones(1), (0.0, 1.0), method=method, gradient=gradient)
        >>> sol.ys[-1].sum().backward()
        >>> round(k.grad.item(), 4)  # -exp(-1/2)
        -0.6065
    """

    checkpoints: int = 16

    def __post_init__(self) -> None:
        """Check the budget."""
        check_whole("checkpoints", self.checkpoints, 1)

    def suits(self, solver: Solver) -> bool:
        """Whether steps of the method can be undone."""
        return isinstance(solver, Invertible)

    def solve(self, problem: Problem) -> Outputs:
        """Solve without autograd, recording a tape."""
        if not torch.is_grad_enabled():
            return run(problem)
        if not isinstance(problem.solver, Invertible):
            raise ValueError(
                f"ReversibleAdjoint cannot undo the steps of method {problem.solver.name!r}; write "
                "method=isocline.Reversible('tsit5') or method='reversible_heun', or use RecursiveCheckpointAdjoint()"
            )
        return attach(replace(problem, traced=None), _ReversibleAdjoint(problem.solver, self.checkpoints))


class _ReversibleAdjoint(Rule):
    name = "ReversibleAdjoint"

    def __init__(self, solver: Invertible, checkpoints: int) -> None:
        self.solver = solver
        self.checkpoints = checkpoints
        self.tape: Tape
        self.end: State

    def forward(self, problem: Problem, captured: Captured) -> Outputs:
        outputs, self.tape = record(problem, captured, self.checkpoints)
        self.end = outputs.state
        return outputs

    def backward(
        self, problem: Problem, captured: Captured, ys: Tensor, gradients: Cotangents, times: bool
    ) -> Gradients:
        """Visit the steps backwards, from the states that undoing them gives."""
        walk = Walk(problem, captured, self.tape, gradients, times)
        reversal = _Reversal(walk, self.solver, self.end)
        for index in reversed(range(self.tape.length)):
            walk.visit(index, reversal.undo(index))
        return walk.finish(self.end.t, 2 * self.tape.length)


class _Reversal:
    """Undoes the steps of a tape, the last first; it has the state and carry of all lanes."""

    def __init__(self, walk: Walk, solver: Invertible, end: State) -> None:
        self.walk, self.tape, self.solver = walk, walk.tape, solver
        self.y, self.carry = end.y, end.carry
        self.kept = dict(self.tape.kept)
        self.earlier = (end.y, *end.carry)
        """The next state ahead that is known, for all lanes."""
        self._look_ahead(self.tape.length)
        self.size = largest(end.y)
        """Of each lane since the last checkpoint."""

    def undo(self, index: int) -> tuple[Tensor, Carry]:
        """Return state and carry before step ``index``, for its lanes."""
        lanes = self.tape.lanes[index]
        after = rows_of(self.y, lanes), tuple(rows_of(part, lanes) for part in self.carry)
        y, carry = undo(self.walk.captured.field.of(lanes), self.solver, *self.tape.interval(index), *after)
        if (kept := self.kept.get(index)) is not None:
            self._check(index, y, kept[0])
            y, carry = kept
        self.y = put(self.y, lanes, y)
        self.carry = tuple(put(whole, lanes, part) for whole, part in zip(self.carry, carry, strict=True))
        self.size = largest(self.y) if kept else torch.maximum(self.size, largest(self.y))
        if kept:
            self._look_ahead(index)
        # A lane that failed may be anywhere on its way back: until a gradient comes it is put where f is finite.
        needed = rows_of(self.walk.needs(index), lanes)
        pairs = zip((y, *carry), self.earlier, strict=True)
        before = tuple(where(needed, part, rows_of(whole, lanes)) for part, whole in pairs)
        return before[0], before[1:]

    def _look_ahead(self, index: int) -> None:
        """Have the kept state before step ``index`` ready."""
        before = max((i for i in self.kept if i < index), default=None)
        if before is not None:
            y, carry = self.kept[before]
            lanes = self.tape.lanes[before]
            parts = zip(self.earlier, (y, *carry), strict=True)
            self.earlier = tuple(put(whole, lanes, part) for whole, part in parts)

    def _check(self, index: int, found: Tensor, kept: Tensor) -> None:
        """Raise if a gradient came by states with less than half of their digits (one host synchronisation)."""
        size, reached = (rows_of(x, self.tape.lanes[index]) for x in (self.size, self.walk.reached()))
        allowed = torch.finfo(kept.dtype).eps ** 0.5 * torch.maximum(size, largest(kept))
        lost = ~(largest(found - kept) <= allowed) & reached
        if bool(lost.any()):
            raise RuntimeError(
                f"ReversibleAdjoint: undoing the steps back to step {index} of {self.tape.length} lost more than half "
                f"of the state's digits in {int(lost.sum())} of {len(lost)} lanes. Rounding errors grow on the way "
                "back, or f is not the same each time: keep more states, such as ReversibleAdjoint(checkpoints=64), or "
                "use RecursiveCheckpointAdjoint()"
            )
