"""Times at which f is known to be discontinuous: it is never evaluated on the wrong side of them."""

import math

import torch
from torch import Tensor

from isocline.field import Field, Window


class Breaks:
    """Discontinuities of f in time, and where lanes are among them.

    Args:
        times: of each lane, in any order, (J, L).
        t0: start of each lane, (L,).
        t1: end of each lane, (L,).
    """

    def __init__(self, times: Tensor, t0: Tensor, t1: Tensor) -> None:
        """Describe the way."""
        self.times, self.t1 = times, t1
        self.sign = torch.where(t1 < t0, -1.0, 1.0).to(t0.dtype)

    def goal(self, t: Tensor) -> Tensor:
        """Return where the solve is to be interrupted next, on the way from t (L,): the end, or a break before it."""
        if not len(self.times):
            return self.t1
        ahead = ((self.times - t) * self.sign > 0) & ((self.t1 - self.times) * self.sign > 0)
        nearest, row = torch.where(ahead, self.times.detach() * self.sign, float("inf")).min(dim=0)
        return torch.where(nearest.isfinite(), self.times.gather(0, row.unsqueeze(0)).squeeze(0), self.t1)

    def field(self, field: Field, t: Tensor) -> Field:
        """Return the field on this side of the breaks, for going on from t (L,); it counts for itself."""
        if not len(self.times):
            return field
        behind = (self.times - t) * self.sign <= 0
        ordered = (self.times * self.sign).detach()
        last = torch.where(behind, ordered, float("-inf")).amax(dim=0) * self.sign
        following = torch.where(behind, float("inf"), ordered).amin(dim=0) * self.sign
        forwards = self.sign > 0
        low, high = torch.where(forwards, last, following), torch.where(forwards, following, last)
        layout = field.layout
        side = field.like(field.function, field.args)
        side.window = Window(_beyond(layout.view_time(low), math.inf), _beyond(layout.view_time(high), -math.inf))
        return side


def _beyond(end: Tensor, towards: float) -> Tensor:
    """Return the next number of its dtype; infinity stays."""
    following = torch.nextafter(end, torch.full_like(end, towards))
    return torch.where(end.isinf(), end, following)
