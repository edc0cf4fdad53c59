"""A solve of the adjoint ODE backwards through stops, at which the loss's gradient joins."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from isocline.compiled import Leap
from isocline.controllers import Controller
from isocline.gradients.adjoint import AdjointField, Evaluation
from isocline.gradients.node import add
from isocline.loop import advance, start, take
from isocline.numbers import fetch, where
from isocline.observers import Observer, interpolate, pairs
from isocline.polynomials import gauss
from isocline.rest import completed
from isocline.solvers.base import Carry, Solver
from isocline.state import State, Status, Step
from isocline.stops import Marks, Stops, make_stops

INSIDE = 3
"""Points of Gauss's quadrature in a step of a method of variable order: an error of O(h^7)."""


def points(solver: Solver) -> int:
    """Return how many points of Gauss's quadrature over its steps are as accurate as a method."""
    return INSIDE if solver.weights is None else (solver.order + 1) // 2


class Sweep:
    """One continuous solve backwards through the stops.

    Args:
        f: the adjoint field.
        solver: method for it.
        controller: its step sizes.
        stops: times (S, L): the last save time first, where the way back ends last.
        bars: gradients of the loss with respect to the states there, (S, L, n).
        leap: a compiled loop from stop to stop, or None to make each attempt here.
        marks: times at which steps are to end, too, (J, L), or None.
        observers: what watches the attempts.
    """

    def __init__(
        self,
        f: AdjointField,
        solver: Solver,
        controller: Controller,
        stops: Tensor,
        bars: Tensor,
        leap: "Callable[[Leap, Stops, int], tuple[Leap, int]] | None" = None,
        marks: Tensor | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        """Stand at the last save time."""
        self.f, self.solver, self.controller, self.leap = f, solver, controller, leap
        self.stops, self.bars = stops, bars
        self.lanes = torch.arange(stops.shape[1], device=stops.device)
        self.on_way = make_stops(stops)
        self.marks = None if marks is None else Marks(marks, self.on_way.sign)
        self.observers = observers
        self.place = self.on_way.passed(stops[0])
        self.first: Evaluation | None = None
        self.inner_bar: list[Tensor | None] = [None] * len(f.captured.inner)
        self.steps = self.accepted = self.attempts = 0

    def run(self, x: Tensor, most: int, before: State | None = None, joined: Tensor | None = None) -> State:
        """Solve to the last stop, from x at the first, to which the loss's gradient there is still to be added.

        Args:
            x: the state, for ``f``.
            most: most attempts.
            before: has step sizes, and what the controller remembers, from a solve that came here.
            joined: lanes of which it has none, (L,).

        Returns:
            State: with what is reached, without the gradient of the state saved at the last stop; or failed.
        """
        # Stops that tie with the first jump at once: in a lane that goes nowhere all but the start do.
        ahead = torch.arange(len(self.stops), device=self.lanes.device).unsqueeze(1) <= self.place
        ahead[-1] = False
        y, a = self.f.trajectory.split(self.stops[0], x)
        x = self.f.trajectory.join(y, a + (self.bars * ahead.unsqueeze(2)).sum(dim=0))
        state = self._start(x, before, joined)
        self.first = self._evaluation(state.carry)
        n_running = 1
        while n_running and self.attempts < most:
            if self.leap is None:
                state, n_running, attempts = self._attempt(state)
            else:
                state, n_running, attempts = self._leap(state, most - self.attempts)
            self.attempts += attempts
        if n_running:
            out = torch.where(state.status == Status.RUNNING, int(Status.MAX_STEPS), state.status)
            state = state._replace(status=out)
        return state

    def _start(self, x: Tensor, before: State | None, joined: Tensor | None) -> State:
        f, t, t_end = self.f, self.stops[0], self.stops[-1]
        if before is None or joined is not None:
            state = start(f, self.solver, self.controller, t, x, t_end)
        else:
            carry = self.solver.init(f, t, x, lambda: f(t, x))
            state = start(f, self.solver, self.controller, t, x, t_end, before=before._replace(carry=carry))
        if before is not None and joined is not None:
            memory = tuple(where(joined, new, old) for new, old in zip(state.memory, before.memory, strict=True))
            state = state._replace(dt=where(joined, state.dt, before.dt), memory=memory)
        return state._replace(status=where(t == t_end, int(Status.SUCCESS), state.status))

    def _leap(self, state: State, most: int) -> tuple[State, int, int]:
        """Solve until a stop is reached, with one lane; return as ``_attempt`` does."""
        assert self.leap is not None
        captured = self.f.captured
        zeros = tuple(torch.zeros_like(x) for x in captured.inner)
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
        captured.field.evaluations += attempts * self.solver.evaluations
        return new, n_running, attempts

    def _attempt(self, state: State) -> tuple[State, int, int]:
        """Try one step in every lane; return the state, how many lanes still run (one host sync), and 1 attempt."""
        self.f.evaluations.clear()
        goal = self._target(state)
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
        # Lanes at stages of different attempts have no one evaluation to weigh.
        elsewhere = n_moved and n_rested and self.f.weighed
        if n_running and (n_arrived or elsewhere):
            new = self._begin_again(new, place > self.place)
        self.place = place
        return new, n_running, 1

    def _target(self, state: State) -> Tensor:
        """Return where the next step may end: at the next stop, or one behind it that is within reach.

        Stops inside are pulled back through a single step of the forward method. Methods with a past have none; and
        of a stiff one the interpolant, which is made of slopes, turns what the step damps into something huge. There
        is no reach with these.
        """
        trajectory = self.f.trajectory
        solver = trajectory.solver
        reach = trajectory.reach(state.t, state.dt) if solver.weights and solver.integrates else 0.0 * state.dt
        return self.on_way.target(state.t, reach, self.place)

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
        """Add ``integral of a^T df/dtheta`` over the step, by the method's own weights if its stages are weighed."""
        if not self.inner_bar:
            return
        h = step.t0 - step.t1  # time runs backwards here, the integral forwards
        if not self.f.weighed:
            self._integrate_inside(step, h)
            return
        # Stages beyond those with weights serve interpolation only.
        for weight, k in zip(self.solver.weights or (), step.stages, strict=False):
            evaluation = self.f.evaluations.get(id(k), self.first)
            if weight and evaluation is not None:
                self.inner_bar = add(self.inner_bar, self.f.pull(evaluation, weight * h))

    def _integrate_inside(self, step: Step, h: Tensor) -> None:
        """Add the same integral, by Gauss's quadrature on the method's interpolant."""
        step = completed(self.f, self.solver, step)
        for place, weight in zip(*gauss(points(self.solver)), strict=True):
            t = step.t0 + place * (step.t1 - step.t0)
            x = self.solver.interpolate(step, t)
            self.inner_bar = add(self.inner_bar, self.f.by_parameters(t, x, weight * h))

    def _arrive(self, new: State, t0: Tensor, place: Tensor, inside: Tensor, n_inside: int) -> State:
        """Jump in the lanes that reached a stop: y becomes the saved state, a gains the loss's gradient there."""
        y, a = self.f.trajectory.split(new.t, new.y)
        arrived = place > self.place
        y = self.f.trajectory.corrected(y, place, arrived)
        jumps = arrived & (place < len(self.stops) - 1)
        a = a + torch.where(jumps.unsqueeze(1), self.bars[place, self.lanes], 0.0)
        if n_inside:
            a = a + self._passed_inside(new.t, t0, y, inside, n_inside)
        return new._replace(y=self.f.trajectory.join(y, a))

    def _passed_inside(self, t0: Tensor, t1: Tensor, y: Tensor, inside: Tensor, count: int) -> Tensor:
        """Gradient with respect to y at t0 of the stops passed between t1 and t0, through one forward step to t1.

        A saved state is an output of that step, and what the loss wants of it is pulled back through the step at once:
        however many stops there are, it costs the stages of one step.
        """
        f, captured, solver = self.f.field, self.f.captured, self.f.trajectory.solver
        picks = pairs(self.place + 1, inside, count)
        with torch.enable_grad():
            y = y.detach().requires_grad_()
            end = torch.where(inside > 0, t1, t0)
            step, _ = take(f, solver, t0, end, y, solver.init(f, t0, y, lambda: f(t0, y)))
            rows = interpolate(f, solver, step, picks, self.stops)
        captured.check([rows], known=[y])
        bars = torch.autograd.grad(
            rows, [y, *captured.inner], picks.select(self.bars), allow_unused=True, retain_graph=self.f.shared
        )
        self.inner_bar = add(self.inner_bar, bars[1:])
        return bars[0]
