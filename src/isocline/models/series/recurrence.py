"""What reads a series one observation after another, in either direction."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from isocline.models.series.batch import Series


class Recurrence(nn.Module, ABC):
    """A hidden state (B, size) that changes at observations, and between them.

    Backwards it encodes a series (``encode``), for a ``LatentODE``; forwards it predicts one (``Forecaster``). It sees
    times only as lengths of gaps, which are positive in both directions.

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


def step(cell: Recurrence, h: Tensor, x: Tensor, observed: Tensor, gap: Tensor) -> Tensor:
    """Return the state a gap (B,) behind an observation: what was not observed at all leaves no trace."""
    gap = gap.to(x.dtype).unsqueeze(1)
    after = cell.observe(h, x, observed.to(x.dtype), gap)
    return cell.evolve(torch.where(observed.any(1, keepdim=True), after, h), gap)


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
    gaps = torch.cat([start, series.ts]).diff(dim=0)
    h = cell.start(series.values[0])
    for row in reversed(range(len(gaps))):
        h = step(cell, h, series.values[row], series.observed[row], gaps[row])
    return h
