"""Taking the accepted steps of a tape again, from a kept state."""

import torch
from torch import Tensor

from isocline.field import Field
from isocline.loop import take
from isocline.observers import Tape
from isocline.solvers.base import Carry, Solver
from isocline.state import Step

Kept = tuple[Tensor, Carry]
"""The state and carry before a step, with rows for the lanes that the step has."""


class Replay:
    """The steps of a tape.

    Attributes:
        taken: how many were taken so far.
    """

    def __init__(self, field: Field, solver: Solver, tape: Tape) -> None:
        """Take none yet."""
        self.field, self.solver, self.tape = field, solver, tape
        self.taken = 0

    def take(self, index: int, kept: Kept) -> tuple[Step, Kept]:
        """Take a step without autograd; return it, and what comes before the next."""
        self.taken += 1
        lanes, (y, carry) = self.tape.lanes[index], kept
        step, carry = take(self.field.of(lanes), self.solver, *self.tape.interval(index), y, carry)
        stay = self._stay(index + 1)
        return step._replace(lanes=lanes), (rows(step.y1, stay), tuple(rows(part, stay) for part in carry))

    def advance(self, kept: Kept, first: int, last: int) -> Kept:
        """Take the steps first .. last-1, and return what comes before step ``last``."""
        for index in range(first, last):
            _, kept = self.take(index, kept)
        return kept

    def _stay(self, index: int) -> Tensor | None:
        """Return which rows of the step before go on in step ``index``, or None for all."""
        if index == self.tape.length:
            return None
        return rows_of(self.tape.lanes[index - 1], self.tape.lanes[index])


def rows_of(before: Tensor | None, lanes: Tensor | None) -> Tensor | None:
    """Return which rows of a step with the lanes ``before`` those of some of them are, or None for all."""
    if lanes is None or lanes is before:
        return None
    return lanes if before is None else torch.searchsorted(before, lanes)


def rows(values: Tensor, lanes: Tensor | None) -> Tensor:
    """Return the rows of some lanes, or all."""
    return values if lanes is None else values.index_select(0, lanes)


def put(lanes: Tensor | None, old: Tensor, new: Tensor) -> Tensor:
    """Return values for all lanes, with new ones for some."""
    return new if lanes is None else old.index_copy(0, lanes, new)
