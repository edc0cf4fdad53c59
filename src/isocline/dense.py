"""Dense output: the state at any time, from the recorded steps and the method's interpolant."""

from dataclasses import dataclass

import torch
from torch import Tensor

from isocline.layout import Layout
from isocline.numbers import Number, somewhere
from isocline.problem import Dense
from isocline.solvers.base import Solver
from isocline.state import Step
from isocline.transforms import batched
from isocline.tree import Tree


@dataclass(frozen=True)
class Interpolant:
    """Looks up the step that holds a time, for each lane, and interpolates in it."""

    dense: Dense
    sign: Number
    """Direction of time in each lane."""
    layout: Layout
    solver: Solver

    def __call__(self, t: Tensor) -> Tree:
        """Return the state at t: a time, (S,) times, or (S, *batch) times."""
        times = self.times_of_lanes(t)
        check_range(times, self.dense.t0[0], self.dense.t1[-1], self.sign)
        y = self.evaluate(times)
        return self.layout.unpack(y if t.ndim else y[0])

    def times_of_lanes(self, t: Tensor) -> Tensor:
        """Return what the user asks for as (S, L)."""
        lanes = self.layout.lanes
        batch = tuple(self.layout.batch_shape)
        if t.ndim > 1 and tuple(t.shape[1:]) != batch:
            raise ValueError(f"times must be one time, (S,) or (S, *batch) with batch {batch}; got {tuple(t.shape)}")
        return t.reshape(-1, lanes) if t.ndim > 1 else t.reshape(-1, 1).expand(-1, lanes)

    def evaluate(self, times: Tensor, lanes: Tensor | None = None) -> Tensor:
        """Return the states (S, A, n) at times (S, A) that are known to lie inside, of some lanes (A,) or of all."""
        t0, t1, y0, y1, stages = (part[self._places(times, lanes)] for part in self.dense)
        step = Step(t0, t1, y0, y1, stages.unbind(dim=1), ())
        return self.solver.interpolate(step, times.reshape(-1)).reshape(*times.shape, -1)

    def lengths(self, times: Tensor, lanes: Tensor) -> Tensor:
        """Return how long the steps are (S, A) that end at or after times (S, A) in some lanes (A,)."""
        places = self._places(times, lanes)
        return (self.dense.t1[places] - self.dense.t0[places]).abs().reshape(times.shape)

    def _places(self, times: Tensor, lanes: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the row and column, (S A,) each, of the step that holds each time."""
        count, width = times.shape
        ends, sign = (self.dense.t1.detach() * self.sign).T.contiguous(), self.sign
        columns = torch.arange(width, device=times.device)
        if lanes is not None:
            columns, ends, sign = lanes, ends.index_select(0, lanes), self.sign.index_select(0, lanes)
        wanted = (times.detach() * sign).T.contiguous()
        # The first step that ends at or after t; the steps in which a lane rested repeat its last end.
        rows = torch.searchsorted(ends, wanted).clamp(max=len(self.dense.t1) - 1).T.flatten()
        return rows, columns.repeat(count)


def check_range(times: Tensor, first: Tensor, last: Tensor, sign: Number) -> None:
    """Refuse times (S, L) that are not between first and last, (L,) each."""
    outside = ((times - first) * sign < 0) | ((times - last) * sign > 0) | times.isnan()
    if not somewhere(outside):
        return
    if batched(outside):
        raise ValueError("sol(t) was asked for a time before the start or after the end of a sample of vmap")
    row, lane = outside.nonzero()[0].tolist()
    raise ValueError(
        f"sol(t) knows times from {first[lane].item():.6g} to {last[lane].item():.6g} (lane {lane}); got "
        f"{times[row, lane].item():.6g}"
    )


@dataclass(frozen=True)
class Joined:
    """Interpolants of several segments, each from where it begins to where it ends, (L,) each."""

    parts: list[tuple[Interpolant, Tensor, Tensor]]
    sign: Number
    layout: Layout

    def __call__(self, t: Tensor) -> Tree:
        """Return the state at t; where a segment ends that before a jump."""
        lanes, first, last = self.layout.lanes, self.parts[0], self.parts[-1]
        times = first[0].times_of_lanes(t)
        check_range(times, first[1], last[2], self.sign)
        y = None
        for part, start, end in self.parts:
            # A lane that is elsewhere is looked up at an end, and not used.
            inside = torch.minimum(torch.maximum(times * self.sign, start * self.sign), end * self.sign) * self.sign
            states = part.evaluate(inside)
            y = states if y is None else torch.where(((times - start) * self.sign > 0).unsqueeze(2), states, y)
        assert y is not None
        return self.layout.unpack(y if t.ndim else y[0].reshape(lanes, -1))
