"""Where steps have to end: at times that the user names, and where a backward solve is interrupted."""

from bisect import bisect_right
from typing import NamedTuple

import torch
from torch import Tensor

from isocline.numbers import Number


class Marks:
    """Times at which steps of a forward solve end.

    Args:
        times: of each lane, in any order, (J, L).
        sign: direction of time, a float for one lane whose steps are floats, else (L,).
    """

    def __init__(self, times: Tensor, sign: Number) -> None:
        """Sort them."""
        self.sign = sign
        ascending = (times.detach() * sign).sort(dim=0).values.T.contiguous()
        self.ascending: Tensor | list[float] = ascending[0].tolist() if isinstance(sign, float) else ascending

    def target(self, t: Number, t_end: Number) -> Number:
        """Return the first mark behind t, if it comes before the end, else the end."""
        if isinstance(self.ascending, list):
            number = bisect_right(self.ascending, t * self.sign)
            following = self.ascending[number] if number < len(self.ascending) else float("inf")
            return following * self.sign if following < t_end * self.sign else t_end
        place = torch.searchsorted(self.ascending, (t.detach() * self.sign).unsqueeze(1), right=True)
        last = self.ascending.shape[1] - 1
        ahead = self.ascending.gather(1, place.clamp(max=last)).squeeze(1)
        return torch.where((place.squeeze(1) <= last) & (ahead < t_end * self.sign), ahead * self.sign, t_end)

    def narrow(self, rows: Tensor) -> None:
        """Follow only the lanes in these rows."""
        assert isinstance(self.ascending, Tensor)
        self.ascending, self.sign = self.ascending.index_select(0, rows), self.sign.index_select(0, rows)


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
