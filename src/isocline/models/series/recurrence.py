"""What reads a series one observation after another, in either direction."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from isocline.models.series.batch import Series


class Recurrence(nn.Module, ABC):
    """A hidden state (B, size) that changes at observations, and between them.

    Backwards it encodes a series (``encode``), for a ``LatentODE``; forwards it sums one up (``read``) or predicts it
    (``Forecaster``). It sees times only as lengths of gaps, which are positive in both directions.

    Attributes:
        size: numbers of the hidden state.
    """

    size: int

    @abstractmethod
    def start(self, like: Tensor) -> Tensor:
        """Return the state (B, size) before anything was observed; ``like`` is any tensor (B, ...)."""

    @abstractmethod
    def observe(self, h: Tensor, x: Tensor, mask: Tensor, gap: Tensor) -> Tensor:
        """Return the state behind an observation.

        Args:
            h: the state before, (B, size).
            x: values (B, C), 0 where there is none.
            mask: where there is one, 0 or 1, (B, C).
            gap: time to the next observation, (B, 1).
        """

    @abstractmethod
    def evolve(self, h: Tensor, gap: Tensor) -> Tensor:
        """Return the state a time ``gap`` (B, 1) later; where that is 0 it must be the same."""


Reading = tuple[Tensor, Tensor, Tensor | None, Tensor]
"""Values (B, C), where there are some, 0 or 1, (B, C), in which series there are any, bool (B, 1), None if in all, and
the gap behind, (B, 1)."""


def readings(series: Series, gaps: Tensor) -> list[Reading]:
    """Return the rows of a series as ``step`` takes them, from gaps (T, B)."""
    dtype, rows = series.values.dtype, series.rows
    seen = [None if whole else row for whole, row in zip(rows.all(1).tolist(), rows.unsqueeze(2), strict=True)]
    return list(zip(series.values, series.observed.to(dtype), seen, gaps.to(dtype).unsqueeze(2), strict=True))


def step(cell: Recurrence, h: Tensor, reading: Reading) -> Tensor:
    """Return the state a gap behind an observation: what was not observed at all leaves no trace."""
    x, mask, seen, gap = reading
    observed = cell.observe(h, x, mask, gap)
    return cell.evolve(observed if seen is None else torch.where(seen, observed, h), gap)


def encode(cell: Recurrence, series: Series, t0: float | None) -> Tensor:
    """Read all series backwards, from the last observation of each to t0 (its first observation if None).

    Returns:
        The state (B, size) at t0.

    Raises:
        ValueError: a series has a time before t0.
    """
    if t0 is not None and bool((series.ts[0] < t0).any()):
        raise ValueError(
            f"series start at t0={t0:.6g}, but one has an observation at {series.ts.min().item():.6g}; choose an "
            "earlier t0, or t0=None to start each at its own first observation"
        )
    start = series.ts[:1] if t0 is None else torch.full_like(series.ts[:1], t0)
    h = cell.start(series.values[0])
    for reading in reversed(readings(series, torch.cat([start, series.ts]).diff(dim=0))):
        h = step(cell, h, reading)
    return h


def read(cell: Recurrence, series: Series, until: "Tensor | float") -> Tensor:
    """Read all series forwards, from the first observation of each to ``until``: one time, or (B,).

    Returns:
        The state (B, size) then; for a classifier, say.

    Raises:
        ValueError: a series has a time after that.
    """
    end = torch.as_tensor(until, dtype=series.ts.dtype, device=series.ts.device)
    if bool((series.ts[-1] > end).any()):
        raise ValueError(
            f"series are to be read until {end.min().item():.6g}, but one has an observation at "
            f"{series.ts.max().item():.6g}; leave later ones out: series.until(t)"
        )
    h = cell.start(series.values[0])
    for reading in readings(series, gaps_until(series, end)):
        h = step(cell, h, reading)
    return h


def gaps_until(series: Series, end: Tensor) -> Tensor:
    """Return the time (T, B) from each observation to the next, from the last to the end, () or (B,); 0 in padding."""
    last = torch.arange(len(series.ts), device=series.ts.device).unsqueeze(1) == series.lengths - 1
    return torch.where(last, end, torch.cat([series.ts[1:], series.ts[-1:]])) - series.ts
