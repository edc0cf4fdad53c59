"""Where a solve that runs backwards is interrupted."""

from typing import NamedTuple

import torch
from torch import Tensor


class Stops(NamedTuple):
    """Where a backward solve is interrupted: the last save time first, the start of the forward solve last."""

    times: Tensor
    """(S, L)"""
    ascending: Tensor
    """The times with the sign, (L, S)."""
    sign: Tensor
    """-1 where they descend, else 1: (L,)."""

    def passed(self, t: Tensor) -> Tensor:
        """Return the index of the last stop at or before t (L,) on the way, (L,)."""
        return torch.searchsorted(self.ascending, (t * self.sign).unsqueeze(1), right=True).squeeze(1) - 1

    def target(self, t: Tensor, dt: Tensor, place: Tensor) -> Tensor:
        """Return where a step from t may end: at the farthest stop within reach, else it heads for the next."""
        reachable = torch.maximum(self.passed(t + dt), place + 1).clamp(max=len(self.times) - 1)
        return self.times.gather(0, reachable.unsqueeze(0)).squeeze(0)


def make_stops(times: Tensor) -> Stops:
    """Describe stops at times (S, L)."""
    sign = torch.where(times[-1] < times[0], -1.0, 1.0).to(times.dtype)
    return Stops(times, (times * sign).T.contiguous(), sign)
