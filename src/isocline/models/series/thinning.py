"""Events drawn at a rate that is known where one asks for it."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from isocline.models.series.batch import Series
from isocline.models.series.long import Long, pad

MARGIN = 2.0
"""How far above the largest rate seen the bound is."""


def thin(
    rates: Callable[[Tensor], Tensor], start: Tensor, end: Tensor, points: int, generator: Generator | None
) -> Series:
    """Draw events between start and end, (B,) each.

    Args:
        rates: from times (S, B) to rates (S, B, C).
        start: where to begin.
        end: where to end.
        points: where rates are looked at for their bound.
        generator: source of randomness.
    """
    share = torch.linspace(0, 1, points, dtype=start.dtype, device=start.device).unsqueeze(1)
    bound = MARGIN * rates(start + share * (end - start)).amax(0)
    while True:
        ts, seen, missed = _draw(rates, start, end, bound, generator)
        if not bool(missed.any()):
            break
        bound = torch.where(missed, 2 * bound, bound)
    row, series, kind = seen.nonzero().unbind(1)
    long = Long(series, ts[row, series, kind], kind, torch.ones_like(series, dtype=bound.dtype))
    empty = start.min().item()
    return Series(*pad(long, range(len(start)), range(bound.shape[1]), "mean", empty))


def _draw(
    rates: Callable[[Tensor], Tensor], start: Tensor, end: Tensor, bound: Tensor, generator: Generator | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return candidates (N, B, C), which of them are events, and where the bound (B, C) was too low."""
    span = (end - start).unsqueeze(1)
    count = torch.poisson(bound * span.to(bound.dtype), generator=generator).to(torch.int64)
    shape = max(int(count.max()), 1), *bound.shape
    share, height = (torch.rand(shape, generator=generator, dtype=start.dtype, device=start.device) for _ in range(2))
    ts = start.unsqueeze(1) + share * span
    # Each kind has its own candidates: rates of all kinds at them, of which those of its own count.
    asked = ts.transpose(1, 2).reshape(-1, len(start))
    own = rates(asked).reshape(shape[0], shape[2], shape[1], shape[2]).diagonal(dim1=1, dim2=3)
    drawn = torch.arange(shape[0], device=ts.device).reshape(-1, 1, 1) < count
    return ts, drawn & (height * bound < own), (drawn & (own > bound)).any(0)
