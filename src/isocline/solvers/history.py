"""What multistep methods carry from step to step: past times and values, at any spacing."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from isocline.numbers import Number, spread, time_dtype, where
from isocline.polynomials import Newton, newton


def no_past(t0: Number, y0: Tensor, count: int) -> Tensor:
    """Return ``count`` times before t0 (L, count) of which none is valid yet."""
    like = torch.zeros((), dtype=time_dtype(y0.device), device=y0.device)
    return spread(t0, like).unsqueeze(1).repeat(1, count)


def push(newest: Tensor, past: Tensor) -> Tensor:
    """Return the past (L, K, ...) with the newest (L, ...) in front, and without the oldest."""
    return torch.cat([newest.unsqueeze(1), past[:, :-1]], dim=1)


def past_nodes(t0: Number, t1: Number, times: Tensor, count: Tensor) -> Newton:
    """Return the points t0 and those before as nodes, in units of the step and from t0: 0, s_1 < 0, s_2 < s_1, ...

    Args:
        t0: start of the step.
        t1: its end, 1 in these units.
        times: those before t0, the latest first, (L, K - 1).
        count: how many points are valid, t0 included, (L,).
    """
    t0, t1 = spread(t0, times).unsqueeze(1), spread(t1, times).unsqueeze(1)
    h = t1 - t0
    nodes = pad((times - t0) / where(h == 0, 1.0, h), (1, 0))
    index = torch.arange(nodes.shape[1], device=nodes.device)
    # In a lane that rests there is no unit: the newest point must do.
    valid = index < torch.where(h == 0, 1.0, count.unsqueeze(1))
    return newton(torch.where(valid, nodes, -1.0), valid)


def with_end(past: Newton, order: Tensor) -> Newton:
    """Return the nodes with the end of the step in front, and of the past as many as the order (L,)."""
    index = torch.arange(past.nodes.shape[1], device=past.nodes.device)
    valid = pad(past.valid & (index < order.unsqueeze(1)), (1, 0), value=True)
    return newton(pad(past.nodes, (1, 0), value=1.0), valid)
