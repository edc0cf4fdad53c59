"""The backward solve of ``BacksolveAdjoint``: state and adjoint together, from the last save time to the first."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from isocline.compiled import Leap
from isocline.controllers import Controller
from isocline.gradients.captured import Captured
from isocline.gradients.node import add
from isocline.loop import advance, start, take
from isocline.numbers import fetch, where
from isocline.observers import Observer, interpolate, pairs
from isocline.polynomials import gauss
from isocline.rest import completed
from isocline.solution import SolveError, failure_message
from isocline.solvers.base import Carry, Field, Solver
from isocline.state import State, Status, Step
from isocline.stops import Marks, Stops, make_stops

INSIDE = 3
"""Evaluations in each step for the parameters' integral, if the method's own do not give it: an error of O(h^7)."""


class Evaluation(NamedTuple):
    """One evaluation of the adjoint field, with what is needed for the part of the parameters."""

    k: Tensor
    """What the adjoint field returned; held so that its identity stays its own."""
    a: Tensor
    dy: Tensor | None
    """f with its graph, if lanes may step differently: then their weights must be known before the product."""
    bars: Sequence[Tensor | None]
    """``-a^T df/dtheta``, if there is one lane: its step may be weighed afterwards, and the graph is gone by now."""


class AdjointField:
    """The field of (y, a), each (L, n), side by side: ``(f, -a^T df/dy)``.

    It remembers its evaluations, so that the part of the parameters can be had for those that lie on an accepted step.
    """

    def __init__(self, captured: Captured) -> None:
        """Differentiate the captured field."""
        self.captured = captured
        self.evaluations: dict[int, Evaluation] = {}

    def __call__(self, t: Tensor, ya: Tensor) -> Tensor:
        """Evaluate f once, and its vector-Jacobian product with a."""
        return self._evaluate(self.captured.field, t, ya)

    def beside(self, source: Tensor) -> Field:
        """Return it for lanes put in the place of others."""
        with torch.enable_grad():
            return partial(self._evaluate, self.captured.field.beside(source))

    def _evaluate(self, field: Field, t: Tensor, ya: Tensor) -> Tensor:
        y, a = ya.tensor_split(2, dim=1)
        with torch.enable_grad():
            y = y.detach().requires_grad_()
            dy = field(t, y)
        inner = self.captured.inner
        da: Tensor | None = None
        bars: Sequence[Tensor | None] = [None] * len(inner)
        if dy.requires_grad:
            self.captured.check([dy], known=[y])
            if len(t) == 1:
                da, *bars = torch.autograd.grad(dy, [y, *inner], -a, allow_unused=True)
            else:
                (da,) = torch.autograd.grad(dy, y, -a, retain_graph=bool(inner), allow_unused=True)
        k = torch.cat([dy.detach(), torch.zeros_like(a) if da is None else da], dim=1)
        self.evaluations[id(k)] = Evaluation(k, a, dy if len(t) > 1 and dy.requires_grad else None, bars)
        return k

    def pull(self, evaluation: Evaluation, weight: Tensor) -> Sequence[Tensor | None]:
        """Return ``sum over lanes of weight (L,) a^T df/dtheta`` for each captured tensor."""
        if len(weight) == 1:
            return [None if bar is None else bar * -weight.to(bar.dtype) for bar in evaluation.bars]
        if evaluation.dy is None:
            return evaluation.bars
        bar = weight.to(evaluation.a.dtype).unsqueeze(1) * evaluation.a
        return torch.autograd.grad(evaluation.dy, self.captured.inner, bar, allow_unused=True, retain_graph=True)


class Sweep:
    """One continuous solve backwards through the stops.

    Args:
        captured: the field and what it depends on.
        solver: method for (y, a).
        controller: its step sizes.
        stops: times (S, L): the last save time first, the start of the forward solve last.
        ys: states saved there, (S, L, n).
        bars: gradients of the loss with respect to them, (S, L, n).
        leap: a compiled loop from stop to stop, or None to make each attempt here.
        marks: times at which steps are to end, too, (J, L), or None.
        observers: what watches the attempts.
    """

    def __init__(
        self,
        captured: Captured,
        solver: Solver,
        controller: Controller,
        stops: Tensor,
        ys: Tensor,
        bars: Tensor,
        leap: "Callable[[Leap, Stops, int], tuple[Leap, int]] | None" = None,
        marks: Tensor | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        """Stand at the last save time."""
        self.leap = leap
        self.captured, self.solver, self.controller = captured, solver, controller
        self.stops, self.ys, self.bars = stops, ys, bars
        self.f = AdjointField(captured)
        self.lanes = torch.arange(stops.shape[1], device=stops.device)
        self.on_way = make_stops(stops)
        self.marks = None if marks is None else Marks(marks, self.on_way.sign)
        self.observers = observers
        self.place = self.on_way.passed(stops[0])
        self.first: Evaluation | None = None
        self.inner_bar: list[Tensor | None] = [None] * len(captured.inner)
        self.steps = self.accepted = 0

    def run(self, max_steps: int) -> Tensor:
        """Return a = dL/dy at the start, (L, n), without the gradient of the state saved there.

        Raises:
            SolveError: the backward solve failed.
        """
        # Stops that tie with the first jump at once: in a lane that goes nowhere all but the start do.
        ahead = torch.arange(len(self.stops), device=self.lanes.device).unsqueeze(1) <= self.place
        ahead[-1] = False
        a = (self.bars * ahead.unsqueeze(2)).sum(dim=0)
        y = torch.cat([self.ys[0], a], dim=1)
        state = start(self.f, self.solver, self.controller, self.stops[0], y, self.stops[-1])
        self.first = self._evaluation(state.carry)
        left = max_steps
        n_running = 1
        while n_running and left:
            state, n_running, attempts = self._attempt(state) if self.leap is None else self._leap(state, left)
            left -= attempts
        if n_running:
            state = state._replace(
                status=torch.where(state.status == Status.RUNNING, int(Status.MAX_STEPS), state.status)
            )
        if (message := failure_message(state, self.stops[-1])) is not None:
            raise SolveError(f"backward pass of BacksolveAdjoint: {message}")
        return state.y[:, y.shape[1] // 2 :]

    def _leap(self, state: State, most: int) -> tuple[State, int, int]:
        """Solve until a stop is reached, with one lane; return as ``_attempt`` does."""
        assert self.leap is not None
        zeros = tuple(torch.zeros_like(x) for x in self.captured.inner)
        at, attempts = self.leap(Leap(state, self.place, state.t, zeros), self.on_way, most)
        self.inner_bar = add(self.inner_bar, at.inputs)
        new, place = at.state, at.place
        inside = (place - self.place - 1).clamp(min=0)
        counts = [new.status == Status.RUNNING, new.accepted - state.accepted, place > self.place, inside]
        n_running, n_moved, n_arrived, n_inside = torch.stack([c.sum() for c in counts]).tolist()
        self.steps, self.accepted = self.steps + attempts, self.accepted + n_moved
        if n_arrived:
            new = self._arrive(new, at.t0, place, inside, n_inside)
        self.place = place
        if n_running:
            new = new._replace(carry=self.solver.init(self.f, new.t, new.y, lambda: self.f(new.t, new.y)))
        self.captured.field.evaluations += attempts * self.solver.evaluations
        return new, n_running, attempts

    def _attempt(self, state: State) -> tuple[State, int, int]:
        """Try one step in every lane; return the state, how many lanes still run (one host sync), and 1 attempt."""
        self.f.evaluations.clear()
        goal = self.on_way.target(state.t, state.dt, self.place)
        if self.marks is not None:
            goal = self.marks.target(state.t, goal)
        for observer in self.observers:
            observer.begin(state, goal)
        new, step = advance(self.f, self.solver, self.controller, goal, state)
        place = self.on_way.passed(new.t)
        on_the_way = (new.status == Status.SUCCESS) & (place < len(self.stops) - 1)
        new = new._replace(status=torch.where(on_the_way, int(Status.RUNNING), new.status))
        tried, moved = state.status == Status.RUNNING, step.t1 != step.t0
        inside = (place - self.place - 1).clamp(min=0)
        counts = [new.status == Status.RUNNING, tried, moved, tried & ~moved, place > self.place, inside]
        n_running, n_tried, n_moved, n_rested, n_arrived, n_inside = torch.stack([c.sum() for c in counts]).tolist()
        self.steps, self.accepted = self.steps + n_tried, self.accepted + n_moved
        for observer in self.observers:
            observer.see(step, *fetch([observer.ask(step)]))
        if n_moved:
            self._integrate_parameters(step)
            self.first = self._evaluation(step.stages[-1:])
        if n_arrived:
            new = self._arrive(new, step.t0, place, inside, n_inside)
        # Methods with a past have none of a single attempt: it is lost only where the state jumps.
        elsewhere = n_moved and n_rested and self.solver.weights is not None
        if n_running and (n_arrived or elsewhere):
            new = self._begin_again(new, place > self.place)
        self.place = place
        return new, n_running, 1

    def _begin_again(self, state: State, jumped: Tensor) -> State:
        """Carry nothing over in lanes whose state jumped; lanes now stand at stages of different attempts.

        So the first stage of the next step is evaluated once for all lanes, where each has it.
        """
        t, y, f = state.t, state.y, self.f
        first = self.solver.start_of(y, state.carry)
        at = y if first is None else where(jumped, y, first)
        fresh = self.solver.init(f, t, y, lambda: f(t, at))
        self.first = self._evaluation(fresh)
        carry = tuple(where(jumped, new, old) for new, old in zip(fresh, state.carry, strict=True))
        dt = state.dt
        if self.solver.weights is None:
            # Without a past the order is low, and the step size that went with another is too large.
            again, _ = self.controller.init(f, self.solver, t, self.stops[-1], y, lambda: f(t, y))
            dt = torch.where(jumped, again, dt)
        return state._replace(carry=carry, dt=dt)

    def _evaluation(self, ks: Carry) -> Evaluation | None:
        return self.f.evaluations.get(id(ks[0])) if ks else None

    def _integrate_parameters(self, step: Step) -> None:
        """Add ``integral of a^T df/dtheta`` over the step, by the method's own weights if it has any."""
        if not self.inner_bar:
            return
        h = step.t0 - step.t1  # time runs backwards here, the integral forwards
        if self.solver.weights is None:
            self._integrate_inside(step, h)
            return
        # Stages beyond those with weights serve interpolation only.
        for weight, k in zip(self.solver.weights, step.stages, strict=False):
            evaluation = self.f.evaluations.get(id(k), self.first)
            if weight and evaluation is not None:
                self.inner_bar = add(self.inner_bar, self.f.pull(evaluation, weight * h))

    def _integrate_inside(self, step: Step, h: Tensor) -> None:
        """Add the same integral, by Gauss's quadrature on the method's interpolant."""
        step = completed(self.f, self.solver, step)
        for place, weight in zip(*gauss(INSIDE), strict=True):
            t = step.t0 + place * (step.t1 - step.t0)
            k = self.f(t, self.solver.interpolate(step, t))
            self.inner_bar = add(self.inner_bar, self.f.pull(self.f.evaluations[id(k)], weight * h))

    def _arrive(self, new: State, t0: Tensor, place: Tensor, inside: Tensor, n_inside: int) -> State:
        """Jump in the lanes that reached a stop: y becomes the saved state, a gains the loss's gradient there."""
        y, a = new.y.tensor_split(2, dim=1)
        arrived = (place > self.place).unsqueeze(1)
        y = torch.where(arrived, self.ys[place, self.lanes], y)
        at_start = (place == len(self.stops) - 1).unsqueeze(1)
        a = a + torch.where(arrived & ~at_start, self.bars[place, self.lanes], 0.0)
        if n_inside:
            a = a + self._passed_inside(new.t, t0, y, inside, n_inside)
        return new._replace(y=torch.cat([y, a], dim=1))

    def _passed_inside(self, t0: Tensor, t1: Tensor, y: Tensor, inside: Tensor, count: int) -> Tensor:
        """Gradient with respect to y at t0 of the stops passed between t1 and t0, through one forward step to t1.

        A saved state is an output of that step, and what the loss wants of it is pulled back through the step at once:
        however many stops there are, it costs the stages of one step.
        """
        f = self.captured.field
        picks = pairs(self.place + 1, inside, count)
        with torch.enable_grad():
            y = y.detach().requires_grad_()
            end = torch.where(inside > 0, t1, t0)
            step, _ = take(f, self.solver, t0, end, y, self.solver.init(f, t0, y, lambda: f(t0, y)))
            rows = interpolate(f, self.solver, step, picks, self.stops)
        self.captured.check([rows], known=[y])
        bars = torch.autograd.grad(rows, [y, *self.captured.inner], picks.select(self.bars), allow_unused=True)
        self.inner_bar = add(self.inner_bar, bars[1:])
        return bars[0]
