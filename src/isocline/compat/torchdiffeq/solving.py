"""A checked call -> ``isocline.solve``, with torchdiffeq's exceptions where it fails."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

import isocline as iso
from isocline.compat.torchdiffeq.function import Function
from isocline.compat.torchdiffeq.norms import of_row
from isocline.compat.torchdiffeq.setup import Setup


def solved(
    setup: Setup,
    ts: "Tensor | Sequence[Any]",
    observers: Sequence[iso.Observer] = (),
    gradient: iso.Gradient | None = None,
    params: Sequence[Tensor] | None = None,
    event: iso.Event | None = None,
    dense: bool = False,
    most: int | None = None,
) -> iso.Solution:
    """Solve for the times ts, in at most so many steps.

    Raises:
        AssertionError: an adaptive method did not arrive. (A fixed one has nan from where the state is not finite.)
    """
    how = setup.how
    # torchdiffeq counts from save time to save time.
    max_steps = most or how.max_steps * max(len(ts) - 1, 1)
    try:
        return iso.solve(
            Function(setup.func, setup.structure),
            setup.y0,
            ts,
            method=how.solver,
            controller=how.controller,
            step_ts=how.step_t,
            jump_ts=how.jump_t,
            gradient=gradient,
            params=params,
            event=event,
            dense=dense,
            observers=observers,
            max_steps=max_steps,
            throw=not setup.method.fixed,
        )
    except iso.SolveError as error:
        spent = error.solution is not None and int(error.solution.status) == iso.Status.MAX_STEPS
        reason = f"max_num_steps exceeded ({how.max_steps}>={how.max_steps})" if spent else "underflow in dt"
        raise AssertionError(f"{reason}: {error}") from error


def shown(setup: Setup) -> Callable[[Tensor], Any]:
    """Return what shows a packed row (1, n) as the user's state."""
    return lambda rows: setup.structure.unpack(of_row(rows, setup.y0))
