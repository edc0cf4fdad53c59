"""Single readings (series, time, channel, value) put together as padded tensors."""

from collections.abc import Hashable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Duplicates = Literal["error", "mean"]


class Long(NamedTuple):
    """Readings in any order, (N,) each."""

    series: Tensor
    """Which series, from 0 on."""
    time: Tensor
    """float64"""
    channel: Tensor
    """Which channel, from 0 on."""
    value: Tensor


class Padded(NamedTuple):
    """Readings with a row for each time of each series; see ``Series``."""

    ts: Tensor
    values: Tensor
    mask: Tensor


def pad(
    long: Long,
    names: Sequence[Hashable],
    channels: Sequence[Hashable],
    duplicates: Duplicates,
    empty: "Tensor | float | None",
) -> Padded:
    """Sort by time, give readings of one time one row, and pad each series at its end with its own last time.

    Args:
        long: the readings.
        names: what the series are called, each of them; numbers will do.
        channels: likewise.
        duplicates: what to do if a channel has different values at one time.
        empty: when series begin that have no readings, (B,) or one time; None refuses them.

    Raises:
        ValueError: a series without readings if ``empty`` is None, or two values for one time and channel.
    """
    order = long.time.argsort(stable=True)
    order = order[long.series[order].argsort(stable=True)]
    series, time, channel, value = (part[order] for part in long)
    counts = torch.zeros(len(names), dtype=torch.int64, device=series.device)
    if len(series):
        begins = torch.ones_like(series, dtype=torch.bool)  # a row of its own
        begins[1:] = (series.diff() != 0) | (time.diff() != 0)
        counts.index_add_(0, series[begins], torch.ones_like(series[begins]))
        row = begins.cumsum(0) - 1 - (counts.cumsum(0) - counts)[series]
    else:
        row = series
    if empty is None and not bool(counts.all()):
        lacking = int((counts == 0).nonzero()[0])
        raise ValueError(
            f"series {names[lacking]!r} has no observation; leave it out, or say at which time it starts: empty=0.0"
        )
    shape = max(int(counts.max()), 1), len(names), len(channels)
    cell = (row * len(names) + series) * len(channels) + channel
    cells, mean, differs = _averaged(cell, value)
    if duplicates == "error" and bool(differs.any()):
        first = int(differs.nonzero()[0])
        name, kind = names[int(series[first])], channels[int(channel[first])]
        raise ValueError(
            f"series {name!r} has different values for channel {kind!r} at time {time[first].item():.6g}; keep one of "
            'them, or take their mean: duplicates="mean"'
        )
    values, mask = value.new_zeros(shape), torch.zeros(shape, dtype=torch.bool, device=cell.device)
    values.view(-1)[cells], mask.view(-1)[cells] = mean, True
    start = torch.as_tensor(0.0 if empty is None else empty, dtype=time.dtype, device=time.device)
    ts = start.expand(shape[:2]).clone()
    ts[row, series] = time
    last = ts.gather(0, (counts - 1).clamp(min=0).unsqueeze(0))
    place = torch.arange(shape[0], device=ts.device).unsqueeze(1)
    return Padded(torch.where(place < counts, ts, last), values, mask)


def _averaged(cell: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return each cell once, the mean of its readings, and which of the readings (N,) differ from that."""
    cells, place, count = cell.unique(return_inverse=True, return_counts=True)
    mean = value.new_zeros(len(cells)).index_add(0, place, value) / count
    return cells, mean, (count[place] > 1) & (value != mean[place])
