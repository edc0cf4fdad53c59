"""Lanes that rest while others step."""

import torch
from torch import Tensor

from isocline.numbers import Number
from isocline.solvers.base import Carry, Field, Solver
from isocline.state import Step


def park(
    moving: Number, f: Field, t0: Number, t1: Number, y0: Tensor, carry: Carry
) -> tuple[Field, Number, Number, Tensor, Carry]:
    """Put lanes that rest beside one that moves: where they stand, f or its derivative need not be finite.

    What comes of it is masked out, but in a gradient zero times nan would be nan. They get the arguments of the other
    lane, too, if f knows which those are.
    """
    # shape[0], not len(): that would make a number of it, and compiled programs fit one number of lanes only.
    if y0.shape[0] == 1:
        return f, t0, t1, y0, carry
    lanes = torch.arange(moving.shape[0], device=moving.device)
    source = torch.where(moving, lanes, moving.to(torch.uint8).argmax())
    f = f.beside(source) if hasattr(f, "beside") else f
    start = t0.index_select(0, source)
    carry = tuple(part.index_select(0, source) for part in carry)
    return f, start, torch.where(moving, t1, start), y0.index_select(0, source), carry


def completed(f: Field, solver: Solver, step: Step) -> Step:
    """Return the step with all that its interpolation reads; rows that rest have no meaning then."""
    if not solver.completes:
        return step
    count, moving = len(step.carry), step.t1 != step.t0
    f, t0, t1, y0, rest = park(moving, f, step.t0, step.t1, step.y0, (*step.carry, step.y1, *step.stages))
    carry, (y1, *stages) = rest[:count], rest[count:]
    return solver.complete(f, Step(t0, t1, y0, y1, tuple(stages), carry))
