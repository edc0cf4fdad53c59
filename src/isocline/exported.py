"""A solve inside ``torch.export``: the stepping loop as part of the graph that a program elsewhere runs."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from isocline.compiled.loops import begin
from isocline.controllers import Controller
from isocline.layout import Layout, as_reals, of_reals
from isocline.loop import RUNNING, advance
from isocline.numbers import time_dtype
from isocline.solution import Solution, Stats
from isocline.solvers import Solver
from isocline.state import State, Status
from isocline.tree import Tree, align, leaves


def check_exportable(solver: Solver, **rest: object) -> None:
    """Refuse what has no place in a graph; ``rest`` are the arguments of ``solve`` that need Python while it steps."""
    if not solver.compilable:
        raise ValueError(
            f"{solver.name!r} cannot be exported: how often it iterates depends on values; take an explicit method"
        )
    if given := [name for name, value in rest.items() if isinstance(value, Tensor) or value]:
        raise ValueError(f"torch.export takes solves without {', '.join(given)}")


def solve_in_graph(
    f: Callable[..., Tree],
    y0: Tree,
    ts: "Tensor | Sequence[float | Tensor]",
    args: tuple[Any, ...],
    solver: Solver,
    controller: Controller,
    layout: Layout,
    max_steps: int,
) -> Solution:
    """Step from save time to save time, each way a ``torch.while_loop``, whatever values and batch size will be.

    Nothing here may read a value, so nothing is raised either: states that are not reached are nan. Steps end at save
    times. The solution has no counts.
    """
    start = layout.pack(y0)
    times = _times(ts, layout, start)
    field = _Field(f, args, layout, list(leaves(y0)))
    state = begin(field, solver, controller, times[0], times[-1], start)
    ys = [start]
    for time in times[1:].unbind():
        state = _further(field, solver, controller, time, state, max_steps)
        arrived = (state.status == int(Status.SUCCESS)).unsqueeze(1)
        ys.append(torch.where(arrived, state.y, float("nan")))
        state = state._replace(status=torch.where(arrived.squeeze(1), RUNNING, state.status))
    status = torch.where(state.status == RUNNING, int(Status.SUCCESS), state.status).reshape(layout.batch_shape)
    shared = times[:, 0] if not layout.batch_shape else times.reshape(-1, *layout.batch_shape)
    return Solution(shared, layout.unpack(torch.stack(ys)), status, Stats(0, 0, 0, 0), None)


def _further(
    field: "_Field", solver: Solver, controller: Controller, t_end: Tensor, state: State, max_steps: int
) -> State:
    def going(state: State) -> Tensor:
        left: Tensor = ((state.status == RUNNING) & (state.steps < max_steps)).any()
        return left

    def body(state: State) -> tuple[State]:
        return (advance(field, solver, controller, t_end, state)[0],)

    (state,) = torch.while_loop(going, body, (state,))  # type: ignore[attr-defined]
    out = torch.where(state.status == RUNNING, int(Status.MAX_STEPS), state.status)
    return State(*state)._replace(status=out)


def _times(ts: "Tensor | Sequence[float | Tensor]", layout: Layout, start: Tensor) -> Tensor:
    """Return save times (T, L); their values are not known yet if they are an input of the graph."""
    parts = ts.unbind() if isinstance(ts, Tensor) else [torch.as_tensor(t) for t in ts]
    lanes = start.shape[0]
    rows = [part.to(start.device, time_dtype(start.device)).reshape(-1).expand(lanes) for part in parts]
    return torch.stack(rows)


class _Field:
    """The user's field over lanes, by shapes that are those of tensors: a loop's body may not close over symbols.

    Args:
        function: evaluated as ``function(t, y, *args)``.
        args: its further arguments.
        layout: of its state.
        like: tensors of the user's state.
    """

    def __init__(
        self, function: Callable[..., Tree], args: tuple[Any, ...], layout: Layout, like: list[Tensor]
    ) -> None:
        """Store them."""
        self.function, self.args, self.like = function, args, like
        self.structure, self.build, self.precision, self.dtypes = (
            layout.like,
            layout.build,
            layout.precision,
            layout.dtypes,
        )
        self.single, self.batch_dims = layout.single, len(layout.batch_shape)
        self.ones = (1,) * (len(layout.time_shape) - self.batch_dims)

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        """Evaluate the field for all lanes."""
        time = t.to(self.precision).reshape(self.like[0].shape[: self.batch_dims] + self.ones)
        found = align(self.structure, self.function(time, self._tree(y), *self.args))
        return torch.cat([as_reals(part).reshape(y.shape[0], -1).to(y.dtype) for part in found], dim=1)

    def _tree(self, y: Tensor) -> Tree:
        parts, first = [], 0
        for x, dtype in zip(self.like, self.dtypes, strict=True):
            size = as_reals(x).numel() // y.shape[0]
            parts.append(of_reals(y[:, first : first + size], x.shape, dtype))
            first = first + size
        return parts[0] if self.single else self.build(parts)
