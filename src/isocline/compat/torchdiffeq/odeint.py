"""``odeint``: one solve, differentiated through its steps."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

import isocline as iso
from isocline.compat.torchdiffeq.callbacks import callbacks
from isocline.compat.torchdiffeq.event import until
from isocline.compat.torchdiffeq.methods import DEFAULT
from isocline.compat.torchdiffeq.setup import Setup, make_setup
from isocline.compat.torchdiffeq.solving import shown, solved


def odeint(
    func: Callable[..., Any],
    y0: Any,
    t: Tensor,
    *,
    rtol: Any = 1e-7,
    atol: Any = 1e-9,
    method: str | None = None,
    options: dict[str, Any] | None = None,
    event_fn: Callable[..., Tensor] | None = None,
) -> Any:
    """Solve ``dy/dt = func(t, y)``, ``y(t[0]) = y0``, as torchdiffeq's ``odeint`` does.

    Gradients go through the accepted steps to y0, t, and every tensor that func uses; of any order for explicit
    methods.

    Args:
        func: returns the derivative at a 0-d time and a state.
        y0: a tensor, or a tuple of tensors.
        t: times (T,) to solve for, strictly increasing or decreasing.
        rtol: relative tolerance: a number, a tensor like y0, or for a tuple a sequence with one for each member.
        atol: absolute tolerance; likewise.
        method: one of the names in ``methods.SOLVERS``; None is "dopri5".
        options: of the method; unknown ones are warned of.
        event_fn: the solve ends where a component of ``event_fn(t, y)`` first changes its sign; of t, which has two
            times, only the first and the direction count.

    Returns:
        The states at t, (T, *shape of y0), or a tuple of such. With ``event_fn`` the pair of the event's time, 0-d,
        and the states at the start and there, (2, *shape of y0).

    Raises:
        ValueError: an unknown method, or options that do not fit.
        AssertionError: states, times or tolerances of the wrong kind; a solve that did not arrive ("max_num_steps
            exceeded", "underflow in dt").

    References:
        Chen 2018, torchdiffeq, https://github.com/rtqichen/torchdiffeq.

    Example:
        >>> import torch
        >>> from isocline.compat.torchdiffeq import odeint
        >>> ys = odeint(lambda t, y: -y, torch.ones(3), torch.linspace(0.0, 1.0, 5))
        >>> ys.shape, round(ys[-1, 0].item(), 4)
        (torch.Size([5, 3]), 0.3679)
    """
    setup = make_setup(func, y0, t, rtol, atol, method, options, event_fn is not None)
    watching = callbacks(func, setup.method, method or DEFAULT, shown(setup))
    return results(setup, event_fn, watching, lambda ys: ys)


def results(
    setup: Setup,
    event_fn: Callable[..., Tensor] | None,
    watching: Sequence[iso.Observer],
    mark: Callable[[Tensor], Tensor],
    gradient: iso.Gradient | None = None,
    params: Sequence[Tensor] | None = None,
) -> Any:
    """Solve and return what the user sees; ``mark`` is applied to the packed states first."""
    if event_fn is not None:
        found = until(setup, event_fn, watching, gradient, params)
        return found.t.to(setup.t), setup.structure.unpack(mark(found.ys))
    if len(setup.t) == 1:
        return setup.structure.unpack(mark(setup.y0.unsqueeze(0)))
    return setup.structure.unpack(mark(solved(setup, setup.t, watching, gradient, params).ys))
