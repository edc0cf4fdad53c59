"""Times at which f is known to be discontinuous: it is never evaluated on the wrong side of them."""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from isocline.layout import Field
from isocline.tree import Tree


@dataclass(frozen=True)
class Between:
    """A function of (t, y, *args, low, high) that never sees a time outside [low, high]."""

    function: Callable[..., Tree]

    def __call__(self, t: Tensor, y: Tree, *args: Any) -> Tree:
        """Move the time inside, which is a matter of rounding, and keep its gradient."""
        *rest, low, high = args
        return self.function(t + (t.clamp(low, high) - t).detach(), y, *rest)

    @property
    def __self__(self) -> object:
        """Where parameters of f are looked for."""
        return getattr(self.function, "__self__", self.function)


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
        low, high = (
            torch.nextafter(layout.view_time(end), layout.view_time(torch.full_like(end, towards)))
            for end, towards in ((low, float("inf")), (high, float("-inf")))
        )
        # nextafter moves infinity, too.
        low, high = (
            low.where(low > torch.finfo(low.dtype).min, -torch.inf),
            high.where(high < torch.finfo(high.dtype).max, torch.inf),
        )
        side = copy(field)
        side.function, side.args = Between(field.function), (*field.args, low, high)
        side.per_lane = field.per_lane | _places(field.args, 2)
        side.evaluations = side.spared = 0
        return side


def _places(args: tuple[Any, ...], count: int) -> frozenset[int]:
    """Return the places of leaves that follow the arguments, counted as ``PerLane`` counts them."""
    from isocline.tree import leaves

    first = sum(1 for _ in leaves(args))
    return frozenset(range(first, first + count))
