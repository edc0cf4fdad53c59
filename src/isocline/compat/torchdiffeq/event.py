"""Solves that end at an event, whose time is differentiable."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

import isocline as iso
from isocline.compat.torchdiffeq.setup import Setup
from isocline.compat.torchdiffeq.solving import solved

HORIZON = 1e10
"""How far in time an event is looked for with adaptive steps."""

MOST = 20_000
"""How many fixed steps are taken to look for one."""


class Crossing(NamedTuple):
    """Where a solve ended."""

    t: Tensor
    """0-d"""
    ys: Tensor
    """Packed states at the start and at the event, (2, ...)."""


def until(
    setup: Setup,
    event_fn: Callable[..., Tensor],
    observers: Sequence[iso.Observer] = (),
    gradient: iso.Gradient | None = None,
    params: Sequence[Tensor] | None = None,
) -> Crossing:
    """Solve until a component of ``event_fn(t, y)`` has not the sign any more that it had at the start.

    Raises:
        RuntimeError: none did.
    """
    start, y0 = setup.t[0], setup.y0
    with torch.no_grad():
        signs = event_fn(start, setup.structure.unpack(y0)).sign()
    if not bool(signs.all()):
        return Crossing(start, torch.stack([y0, y0]))
    reach = HORIZON
    if setup.method.fixed:
        assert "step_size" in setup.options, (
            "Event handling for fixed step solvers currently requires `step_size` to be provided in options."
        )
        reach = MOST * float(setup.options["step_size"])
    end = start.detach().double() + (-reach if setup.descending else reach)

    def first(t: Tensor, y: Tensor) -> Tensor:
        # All are positive at the start: the smallest is the first to change.
        return (event_fn(t, setup.structure.unpack(y)) * signs).min()

    most = MOST if setup.method.fixed else None
    sol = solved(setup, (start, end), observers, gradient, params, iso.Event(first), most=most)
    assert sol.event_t is not None
    if int(sol.status) != iso.Status.EVENT:
        if setup.method.fixed:
            raise RuntimeError(f"Reached maximum number of iterations {MOST}.")
        raise RuntimeError(f"no event until t={end.item():.3g}: event_fn keeps its sign")
    return Crossing(sol.event_t, torch.stack([y0, sol.event_y]))
