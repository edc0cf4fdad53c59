"""Lanes that have ended leave: those still running are stepped as a smaller batch."""

from collections.abc import Callable

import torch
from torch import Tensor

from isocline.controllers import Controller
from isocline.field import Field
from isocline.numbers import Number
from isocline.solvers.base import Attempt, Solver
from isocline.state import State, Status, join, select
from isocline.transforms import batched, plain

FULL = 7 / 8
"""Lanes leave when no more than this part of those stepped still run: at most an eighth of the work is on others."""

ALIKE = 100
"""Two results of f for the same lane are the same up to so many units of rounding."""


class Active:
    """The lanes that are stepped, and what became of the others.

    Attributes:
        f: the field over them.
        t_end: where they end.
        lanes: which they are, ascending; None if they are all.
        rows: how many, over all samples inside ``vmap``.
    """

    def __init__(self, field: Field, solver: Solver, controller: Controller, t_end: Number) -> None:
        """Begin with all lanes."""
        self.field, self.solver, self.controller = field, solver, controller
        self.f: Callable[[Number, Tensor], Tensor] = field
        self.t_end = t_end
        self.lanes: Tensor | None = None
        self.rows = plain(t_end).numel() if isinstance(t_end, Tensor) else 1
        self.enough = self._enough()
        self._ended: list[tuple[Tensor, State]] = []

    def narrow(self, state: State, running: int) -> tuple[State, Tensor | None]:
        """Let the lanes leave that do not run; return the state of the others, and which of its rows they were.

        If f cannot be evaluated for some lanes alone, nothing changes, now and later in this solve: then None.
        """
        ended = (state.status != int(Status.RUNNING)).to(torch.uint8)
        stay, leave = ended.argsort(stable=True).tensor_split((running,))
        if self.lanes is None and not self._separable(state, stay):
            self.enough = 0
            return state, None
        lanes = torch.arange(self.rows, device=stay.device) if self.lanes is None else self.lanes
        self._ended.append((lanes.index_select(0, leave), select(state, leave)))
        self.lanes, self.rows = lanes.index_select(0, stay), running
        self.f, self.t_end = self.field.of(self.lanes), self.t_end.index_select(0, stay)
        self.enough = self._enough()
        return select(state, stay), stay

    def whole(self, state: State) -> State:
        """Return the state of all lanes, those that left included."""
        if self.lanes is None:
            return state
        lanes = torch.cat([*(lanes for lanes, _ in self._ended), self.lanes])
        return select(join([*(ended for _, ended in self._ended), state]), lanes.argsort())

    def _enough(self) -> int:
        """Fewer running lanes than this: the others leave. Only one batch dimension can have fewer rows."""
        whole = self.rows == 1 or len(self.field.layout.batch_shape) != 1 or batched(self.t_end)
        return 0 if whole else int(self.rows * FULL) + 1

    def _separable(self, state: State, stay: Tensor) -> bool:
        """Whether f and the controller's norm give the same for lanes alone as for all together (one host sync).

        They might have been made for all lanes (closing over tensors with a row for each), mix lanes, or go by the
        place of a row: so they get the lanes in another order, and the last one by itself.
        """
        try:
            everything = self._sample(None, self._beside(state, stay))
            same = []
            for rows in (stay.flip(0), stay[-1:])[: len(stay)]:
                some = self._sample(rows, select(state, rows))
                same += [alike(b, a.index_select(0, rows)) for a, b in zip(everything, some, strict=True)]
        except Exception:  # whatever f may raise when its rows are not those it expects
            return False
        return bool(torch.stack(same).all())

    def _sample(self, lanes: Tensor | None, state: State) -> tuple[Tensor, Tensor]:
        """Return f, and a number made of it by the controller's norm."""
        slope = self.solver.slope(state.carry) if lanes is None else None
        dy = self.field.of(lanes)(state.t, state.y) if slope is None else slope
        dy, y = dy.detach(), state.y.detach()
        return dy, self.controller.measure(y, Attempt(y, dy, (dy,), ())).unsqueeze(1)

    def _beside(self, state: State, stay: Tensor) -> State:
        """Put the lanes that have ended beside one that runs: where they are, f may raise."""
        if self.solver.slope(state.carry) is not None:
            return state
        running = state.status == int(Status.RUNNING)
        return select(state, torch.where(running, torch.arange(self.rows, device=stay.device), stay[0]))


def alike(a: Tensor, b: Tensor) -> Tensor:
    """Whether two results agree, beside the largest number of each lane."""
    bound = ALIKE * torch.finfo(a.dtype).eps * torch.maximum(a.abs(), b.abs()).amax(dim=1, keepdim=True)
    return ((a == b) | ((a - b).abs() <= bound) | (a.isnan() & b.isnan())).all()
