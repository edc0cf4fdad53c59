"""``odeint_event``: until an event, with its time as a differentiable result."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from isocline.compat.torchdiffeq.odeint import odeint


def odeint_event(
    func: Callable[..., Any],
    y0: Any,
    t0: Tensor,
    *,
    event_fn: Callable[..., Tensor],
    reverse_time: bool = False,
    odeint_interface: Callable[..., Any] = odeint,
    **kwargs: Any,
) -> Any:
    """Solve until ``event_fn(t, y)`` is zero; the time and the state there are differentiable.

    Gradients go to y0, t0, and all tensors that func and event_fn use.

    Args:
        func: as in ``odeint``.
        y0: likewise.
        t0: when to start: one number.
        event_fn: a tensor of any shape; the first component that changes its sign ends the solve.
        reverse_time: solve backwards in time.
        odeint_interface: ``odeint`` (the default) or ``odeint_adjoint``.
        kwargs: further arguments of it.

    Returns:
        The time of the event, 0-d, and the states at t0 and there, (2, *shape of y0).

    References:
        Chen, Amos & Nickel 2021, arXiv:2011.03902.

    Example:
        >>> import torch
        >>> from isocline.compat.torchdiffeq import odeint_event
        >>> fall = lambda t, y: (y[1], -torch.ones(()))
        >>> y0 = torch.tensor(2.0, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64)
        >>> t, (height, speed) = odeint_event(fall, y0, torch.tensor(0.0), event_fn=lambda t, y: y[0])
        >>> round(t.item(), 6), round(speed[-1].item(), 6)
        (2.0, -2.0)
    """
    start = t0.reshape(-1)
    t = torch.cat([start, start.detach() + (-1.0 if reverse_time else 1.0)])
    return odeint_interface(func, y0, t, event_fn=event_fn, **kwargs)
