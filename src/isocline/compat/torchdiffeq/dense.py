"""``odeint_dense``: the solution as a function of time."""

from collections.abc import Callable
from typing import Any

import torch

from isocline.compat.torchdiffeq.setup import make_setup
from isocline.compat.torchdiffeq.solving import solved


def odeint_dense(
    func: Callable[..., Any],
    y0: Any,
    t0: Any,
    t1: Any,
    *,
    rtol: Any = 1e-7,
    atol: Any = 1e-9,
    method: str | None = None,
    options: dict[str, Any] | None = None,
) -> Callable[[Any], Any]:
    """Solve from t0 to t1 and return the state as a function of time, by the method's own interpolant.

    Any method will do, and any state; gradients go through the steps as with ``odeint``.

    Args:
        func: as in ``odeint``.
        y0: likewise.
        t0: start, a number or a 0-d tensor.
        t1: end; likewise.
        rtol: as in ``odeint``.
        atol: likewise.
        method: likewise.
        options: likewise.

    Returns:
        A function of a time, or of times (S,), between t0 and t1.

    Example:
        >>> import torch
        >>> from isocline.compat.torchdiffeq import odeint_dense
        >>> y = odeint_dense(lambda t, y: -y, torch.ones(2), torch.tensor(0.0), torch.tensor(1.0))
        >>> y(torch.tensor(0.5)).shape, y(torch.linspace(0, 1, 7)).shape
        (torch.Size([2]), torch.Size([7, 2]))
    """
    times = [torch.as_tensor(x) for x in (t0, t1)]
    t = torch.stack([x if x.is_floating_point() else x.to(torch.get_default_dtype()) for x in times])
    setup = make_setup(func, y0, t, rtol, atol, method, options, events=False)
    sol = solved(setup, setup.t, dense=True)
    return lambda t: setup.structure.unpack(sol(t))
