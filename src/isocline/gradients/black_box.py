"""Solves by black boxes, lane by lane: forwards, and the adjoint from save time to save time."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from isocline.active import alike
from isocline.controllers import PID, Controller
from isocline.field import Field
from isocline.gradients.captured import Captured
from isocline.layout import as_reals, of_reals
from isocline.numbers import time_dtype
from isocline.problem import Dense, Outputs, Problem
from isocline.solution import SolveError, failure_message
from isocline.solvers.base import BlackBox, Limits, Piece, Trace
from isocline.state import State, Status, Step

FieldOfLane = Callable[[float, Tensor], Tensor]
"""The field of one lane: ``f(t, y (1, n)) -> (1, n)``, in the user's dtype and on the user's device."""


def run_black_box(problem: Problem, solver: BlackBox, f0: Tensor | None = None) -> Outputs:
    """Solve one lane after the other; f0 is f at the start if it is known."""
    limits = limits_of(problem.controller, problem.max_steps, problem.y0.shape[1])
    y0, times = problem.y0.detach(), problem.times.detach()
    with torch.no_grad():
        fields, slopes = lanes_of(problem.field, times[0], y0, f0)
        lanes = zip(fields, y0.cpu().double(), slopes, times.T.tolist(), strict=True)
        traces = [_trace(solver, *lane, limits, problem.dense) for lane in lanes]
        ys = torch.stack([trace.ys for trace in traces], dim=1).to(y0)
    ys[0] = y0
    like = times[0]
    status, steps = (
        like.new_tensor(x, dtype=torch.int64) for x in zip(*((x.status, x.steps) for x in traces), strict=True)
    )
    reached = like.new_tensor([trace.t for trace in traces])
    state = State(reached, ys[-1], (), torch.zeros_like(reached), (), status, steps, steps.clone())
    for observer in problem.observers:
        step = Step(reached, reached, y0, y0, (), ())
        observer.see(step, int(observer.ask(step)))
    return Outputs(ys, _dense([trace.pieces for trace in traces], problem, solver) if problem.dense else None, state)


def limits_of(controller: Controller, max_steps: int, n: int, more: int = 0) -> Limits:
    """Return what a black box is told, for a state of n numbers, or (y, a) of n and a_theta of ``more``."""
    if not isinstance(controller, PID):
        raise ValueError(f"a black box chooses its own steps: give rtol and atol, or a PID; got {controller!r:.60}")
    if controller.dt_min:
        raise ValueError(f"a black box knows no smallest step; leave out dt_min={controller.dt_min}")
    rtol, atol = (_tolerances(controller, name, n, more) for name in ("rtol", "atol"))
    return Limits(rtol, atol, controller.dt0, controller.dt_max, max_steps)


def _tolerances(controller: PID, name: str, n: int, more: int) -> "float | Tensor":
    """Return a tolerance, or one for each component of the state, or of (y, a, a_theta): a has those of y."""
    smallest: float = getattr(controller, name)
    each: Tensor | None = vars(controller).get(f"{name}s")
    if each is None:
        return smallest
    own = each.cpu().double().repeat(n // len(each))
    return torch.cat([own, own.new_full((more,), smallest)])


def lanes_of(field: Field, t0: Tensor, y0: Tensor, f0: Tensor | None = None) -> tuple[list[FieldOfLane], Tensor]:
    """Return the field of each lane, and its values (L, n) at (t0 (L,), y0 (L, n)): f0, if that is known.

    f is evaluated for the row of the lane alone, if that gives the same here; else for all rows, with those of the
    others in the place of the lane.
    """
    lanes = len(y0)
    everything = field(t0, y0) if f0 is None else f0
    if lanes == 1:
        return [field], everything
    fields: list[FieldOfLane] = []
    if len(field.layout.batch_shape) == 1:
        try:
            fields = [_alone(field, lane, y0.device) for lane in range(lanes)]
            rows = [f(float(t), y.unsqueeze(0)) for f, t, y in zip(fields, t0, y0, strict=True)]
            if bool(alike(torch.cat(rows), everything)):
                return fields, torch.cat(rows)
        except Exception:  # whatever f may raise when its rows are not those it expects
            pass
    return [_among_all(field, lane) for lane in range(lanes)], everything


def _alone(field: Field, lane: int, device: torch.device) -> FieldOfLane:
    index = torch.tensor([lane], device=device)
    # The rows of arguments are taken in each evaluation: they are part of its graph.
    return lambda t, y: field.of(index)(t, y)


def _among_all(field: Field, lane: int) -> FieldOfLane:
    def f(t: float, y: Tensor) -> Tensor:
        lanes = field.layout.lanes
        times = torch.full((lanes,), t, dtype=time_dtype(y.device), device=y.device)
        return field(times, y.expand(lanes, -1))[lane : lane + 1]

    return f


def _trace(
    solver: BlackBox, f: FieldOfLane, y0: Tensor, f0: Tensor, ts: list[float], limits: Limits, dense: bool
) -> Trace:
    if ts[0] == ts[-1]:
        return Trace(y0.expand(len(ts), -1), ts[0], Status.SUCCESS, 0, ())
    like = f0.detach()

    def single(t: float, y: Tensor) -> Tensor:
        return f(t, y.to(like).unsqueeze(0)).squeeze(0)

    return solver.trace(single, y0, like.cpu(), ts, limits, dense)


def _dense(pieces: Sequence[Sequence[Piece]], problem: Problem, solver: BlackBox) -> Dense:
    """Stack the steps of all lanes; those that have no more rest at their ends."""
    longest = max(1, max(map(len, pieces)))
    lanes = []
    for own, t, y in zip(pieces, problem.times[0].tolist(), problem.y0.detach().cpu().double(), strict=True):
        end = own[-1] if own else Piece(t, t, y.expand(solver.dense_stages, -1))
        rest = Piece(end.t1, end.t1, end.samples[-1:].expand(solver.dense_stages, -1))
        lanes.append([*own, *[rest] * (longest - len(own))])
    t0, t1 = (problem.times.new_tensor([[part[i] for part in lane] for lane in lanes]).T for i in (0, 1))
    samples = torch.stack([torch.stack([part.samples for part in lane]) for lane in lanes], dim=1).to(problem.y0)
    return Dense(t0.contiguous(), t1.contiguous(), samples[:, :, 0], samples[:, :, -1], samples)


class Restarts:
    """The adjoint solve by a black box: (y, a, a_theta) from each stop to the next, as in Chen et al., Algorithm 1.

    Args:
        captured: the field and what it depends on.
        solver: the black box.
        controller: has its tolerances.
        stops: times (S, L): the last save time first, the start of the forward solve last.
        ys: states saved there, (S, L, n).
        bars: gradients of the loss with respect to them, (S, L, n).
    """

    def __init__(
        self, captured: Captured, solver: BlackBox, controller: Controller, stops: Tensor, ys: Tensor, bars: Tensor
    ) -> None:
        """Begin with nothing done."""
        self.captured, self.solver, self.controller = captured, solver, controller
        self.stops, self.ys, self.bars = stops, ys, bars
        self.inner_bar: list[Tensor | None] = [None] * len(captured.inner)
        self.steps = self.accepted = 0

    def run(self, max_steps: int) -> Tensor:
        """Return a = dL/dy at the start, (L, n), without the gradient of the state saved there.

        Raises:
            SolveError: the backward solve failed.
        """
        with torch.no_grad():
            fields, _ = lanes_of(self.captured.field, self.stops[0], self.ys[0])
        inner = self.captured.inner
        a, by_parameters = zip(*(self._lane(lane, f, max_steps) for lane, f in enumerate(fields)), strict=True)
        parts = torch.stack(by_parameters).sum(dim=0).split([as_reals(x).numel() for x in inner])
        self.inner_bar = [of_reals(part, x.shape, x.dtype).to(x.device) for part, x in zip(parts, inner, strict=True)]
        return torch.stack(a).to(self.ys)

    def _lane(self, lane: int, f: FieldOfLane, max_steps: int) -> tuple[Tensor, Tensor]:
        """Return a (n,) and a_theta of one lane at the start."""
        ys, bars = (x[:, lane].cpu().double() for x in (self.ys, self.bars))
        n, done = ys.shape[1], 0
        adjoint = self._adjoint(f, n)
        a = torch.zeros_like(ys[0])
        total = torch.zeros(sum(as_reals(x).numel() for x in self.captured.inner), dtype=torch.float64)
        for (start, y, bar), (end, *_) in pairwise(zip(self.stops[:, lane].tolist(), ys, bars, strict=True)):
            a = a + bar
            if start == end:
                continue
            state = torch.cat([y, a, total])
            limits = limits_of(self.controller, max_steps - done, 2 * n, len(total))
            trace = self.solver.trace(adjoint, state, adjoint(start, state), [start, end], limits, False)
            done += trace.steps
            self.steps, self.accepted = self.steps + trace.steps, self.accepted + trace.steps
            if (message := _failure(trace, end)) is not None:
                raise SolveError(f"backward pass of BacksolveAdjoint, lane {lane}: {message}")
            _, a, total = trace.ys[-1].split([n, n, len(total)])
        return a, total

    def _adjoint(self, f: FieldOfLane, n: int) -> FieldOfLane:
        """Return the field of (y, a, a_theta): ``(f, -a^T df/dy, -a^T df/dtheta)``."""
        inner, like = self.captured.inner, self.ys

        def adjoint(t: float, state: Tensor) -> Tensor:
            y, a = state[: 2 * n].to(like).reshape(2, 1, n)
            with torch.enable_grad():
                y = y.detach().requires_grad_()
                dy = f(t, y)
            bars: Sequence[Tensor | None] = [None] * (1 + len(inner))
            if dy.requires_grad:
                self.captured.check([dy], known=[y])
                bars = torch.autograd.grad(dy, [y, *inner], -a, allow_unused=True)
            parts = [
                dy.detach(),
                *(torch.zeros_like(x) if bar is None else bar for x, bar in zip([y, *inner], bars, strict=True)),
            ]
            return torch.cat([as_reals(part).reshape(-1).to(like) for part in parts])

        return adjoint


def _failure(trace: Trace, end: float) -> str | None:
    state = State(trace.t, trace.ys[-1:], (), 0.0, (), int(trace.status), trace.steps, trace.steps)
    return failure_message(state, torch.tensor([end], dtype=torch.float64))
