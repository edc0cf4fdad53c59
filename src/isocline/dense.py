"""Dense output: the state at any time, from the recorded steps and the method's interpolant."""

from dataclasses import dataclass

import torch
from torch import Tensor

from isocline.layout import Layout
from isocline.numbers import Number
from isocline.problem import Dense
from isocline.solvers.base import Solver
from isocline.state import Step
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
        lanes = self.layout.lanes
        batch = tuple(self.layout.batch_shape)
        if t.ndim > 1 and tuple(t.shape[1:]) != batch:
            raise ValueError(f"times must be one time, (S,) or (S, *batch) with batch {batch}; got {tuple(t.shape)}")
        times = t.reshape(-1, lanes) if t.ndim > 1 else t.reshape(-1, 1).expand(-1, lanes)
        self._check_range(times)
        y = self._evaluate(times)
        return self.layout.unpack(y if t.ndim else y[0])

    def _check_range(self, times: Tensor) -> None:
        early = (times - self.dense.t0[0]) * self.sign < 0
        late = (times - self.dense.t1[-1]) * self.sign > 0
        outside = early | late | times.isnan()
        if not bool(outside.any()):
            return
        row, lane = outside.nonzero()[0].tolist()
        first, last = self.dense.t0[0, lane].item(), self.dense.t1[-1, lane].item()
        raise ValueError(
            f"sol(t) knows times from {first:.6g} to {last:.6g} (lane {lane}); got {times[row, lane].item():.6g}"
        )

    def _evaluate(self, times: Tensor) -> Tensor:
        count, lanes = times.shape
        ends = (self.dense.t1.detach() * self.sign).T.contiguous()
        wanted = (times.detach() * self.sign).T.contiguous()
        # The first step that ends at or after t; the steps in which a lane rested repeat its last end.
        rows = torch.searchsorted(ends, wanted).clamp(max=len(self.dense.t1) - 1).T.flatten()
        columns = torch.arange(lanes, device=rows.device).repeat(count)
        t0, t1, y0, y1, stages = (part[rows, columns] for part in self.dense)
        step = Step(t0, t1, y0, y1, stages.unbind(dim=1), ())
        return self.solver.interpolate(step, times.reshape(-1)).reshape(count, lanes, -1)
