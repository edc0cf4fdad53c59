"""The stepping loop: start, advance, integrate. Everything else watches accepted steps from outside."""

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from isocline.controllers import Controller
from isocline.observers import Observer
from isocline.solvers.base import Carry, Field, Solver
from isocline.state import State, Status, Step

SMALLEST_TIME = 1e-20
"""Smallest time that counts as different from zero, in units of the time that is left."""


def start(
    f: Field,
    solver: Solver,
    controller: Controller,
    t0: Tensor,
    y0: Tensor,
    t1: Tensor,
    f0: Tensor | None = None,
) -> State:
    """Return the state before the first step from t0 towards t1 (each (L,)); f0 is f(t0, y0) if it is known."""
    first: Callable[[], Tensor] = cache(lambda: f(t0, y0) if f0 is None else f0)
    carry = solver.init(f, t0, y0, first)
    dt, memory = controller.init(f, solver, t0.detach(), t1.detach(), y0.detach(), lambda: first().detach())
    usable = _finite(y0)
    for part in carry:
        usable = usable & _finite(part)
    if carry and len(t0) > 1 and torch.is_grad_enabled() and not bool(usable.all()):
        # Evaluated again, so that no gradient goes through an f that is nan.
        safe_t, _, safe_y, _ = park(usable, t0, t0, y0, ())
        carry = solver.init(f, safe_t, safe_y, lambda: f(safe_t, safe_y))
    status = torch.where(usable, int(Status.RUNNING), int(Status.NON_FINITE))
    zero = torch.zeros_like(status)
    return State(t0, y0, carry, dt, memory, status, zero, zero)


def advance(f: Field, solver: Solver, controller: Controller, t_end: Tensor, state: State) -> tuple[State, Step]:
    """Attempt one step in every running lane. Pure: no synchronisation, no branch on values."""
    running = state.status == Status.RUNNING
    left = t_end - state.t
    # A remainder of rounding errors is no step of its own: stretch this one by up to sqrt(eps), or what adding up
    # times has cost so far.
    eps = torch.finfo(left.dtype).eps
    last = state.dt.abs() * (1 + eps**0.5) + eps * state.steps * t_end.abs() >= left.abs()
    target = torch.where(last, t_end, (state.t + state.dt).detach())
    target = torch.where(running, target, state.t)
    attempt = solver.step(f, *park(running, state.t, target, state.y, state.carry))
    with torch.no_grad():
        h = target - state.t
        finite = _finite(attempt.y1)
        accept, dt, memory = controller.adapt(solver, h, state.y, attempt, finite, state.memory)
        accept = accept & running
        # A step cut short by the end says little about the next: keep the larger proposal.
        dt = torch.where(accept & last & (dt.abs() < state.dt.abs()), state.dt, dt)
        status = _judge(state, target, left, dt, running, accept, last, finite)
    step, carry = _merge(accept, state.t, target, state.y, state.carry, attempt.y1, attempt.stages, attempt.carry)
    steps, accepted = state.steps + running, state.accepted + accept
    return State(step.t1, step.y1, carry, dt, memory, status, steps, accepted), step


def integrate(
    f: Field,
    solver: Solver,
    controller: Controller,
    state: State,
    t_end: Tensor,
    max_steps: int,
    observers: Sequence[Observer] = (),
) -> State:
    """Step until every lane has reached t_end (L,) or failed, or max_steps attempts were made.

    One host synchronisation a step: the counts that the loop and the observers need come over together.
    """
    rejected_before = 0
    for _ in range(max_steps):
        new, step = advance(f, solver, controller, t_end, state)
        running, rejected = (new.status == Status.RUNNING).sum(), (new.steps - new.accepted).sum()
        asked = [observer.ask(step) for observer in observers]
        n_running, n_rejected, *counts = torch.stack([running, rejected, *asked]).tolist()
        if n_rejected > rejected_before and torch.is_grad_enabled():
            new, step = _without_rejected(f, solver, state, new, step)
        rejected_before = n_rejected
        for observer, count in zip(observers, counts, strict=True):
            observer.see(step, count)
        state = new
        if not n_running:
            return state
    return state._replace(status=torch.where(state.status == Status.RUNNING, int(Status.MAX_STEPS), state.status))


def take(f: Field, solver: Solver, t0: Tensor, t1: Tensor, y0: Tensor, carry: Carry) -> tuple[Step, Carry]:
    """Take a step whose end is known to be good, again; lanes with t1 == t0 rest."""
    moving = t1 != t0
    attempt = solver.step(f, *park(moving, t0, t1, y0, carry))
    return _merge(moving, t0, t1, y0, carry, attempt.y1, attempt.stages, attempt.carry)


def _without_rejected(f: Field, solver: Solver, state: State, new: State, step: Step) -> tuple[State, Step]:
    """Return the same outcome with no trace of rejected attempts in the autograd graph.

    Their values are masked out, but a zero gradient times an infinite derivative would be nan. Where every lane was
    rejected there is nothing to keep; where only some were, the step is taken again with the others at rest.
    """
    if step.y0.shape[0] == 1:
        step, carry = Step(state.t, state.t, state.y, state.y, (), state.carry), state.carry
    else:
        step, carry = take(f, solver, state.t, step.t1, state.y, state.carry)
    return new._replace(t=step.t1, y=step.y1, carry=carry), step


def park(moving: Tensor, t0: Tensor, t1: Tensor, y0: Tensor, carry: Carry) -> tuple[Tensor, Tensor, Tensor, Carry]:
    """Put lanes that rest beside one that moves: where they stand, f or its derivative need not be finite.

    What comes of it is masked out, but in a gradient zero times nan would be nan.
    """
    if len(moving) == 1:
        return t0, t1, y0, carry
    lanes = torch.arange(len(moving), device=moving.device)
    source = torch.where(moving, lanes, moving.to(torch.uint8).argmax())
    start = t0.index_select(0, source)
    carry = tuple(part.index_select(0, source) for part in carry)
    return start, torch.where(moving, t1, start), y0.index_select(0, source), carry


def _merge(
    accept: Tensor,
    t0: Tensor,
    t1: Tensor,
    y0: Tensor,
    carry0: Carry,
    y1: Tensor,
    stages: tuple[Tensor, ...],
    carry1: Carry,
) -> tuple[Step, Carry]:
    t1 = torch.where(accept, t1, t0)
    y1 = torch.where(_rows(accept, y1), y1, y0)
    carry = tuple(torch.where(_rows(accept, new), new, old) for new, old in zip(carry1, carry0, strict=True))
    return Step(t0, t1, y0, y1, stages, carry0), carry


def _judge(
    state: State,
    target: Tensor,
    left: Tensor,
    dt: Tensor,
    running: Tensor,
    accept: Tensor,
    last: Tensor,
    finite: Tensor,
) -> Tensor:
    """Statuses after an attempt: arrived, given up, or as before."""
    arrived = accept & last
    # Time no longer moves; near t = 0, where floats are dense, not beside a tiny part of the time that was left either.
    time = target + SMALLEST_TIME * left
    stuck = running & ~arrived & (time + dt / 16 == time)
    given_up = torch.where(finite, int(Status.STEP_TOO_SMALL), int(Status.NON_FINITE))
    status = torch.where(stuck, given_up, state.status)
    return torch.where(arrived, int(Status.SUCCESS), status)


def _rows(mask: Tensor, like: Tensor) -> Tensor:
    return mask.reshape(-1, *([1] * (like.ndim - 1)))


def _finite(y: Tensor) -> Tensor:
    """Whether each lane is finite, by its largest number: one pass, and unlike a sum it cannot overflow."""
    largest: Tensor = torch.linalg.vector_norm(y.flatten(1), float("inf"), dim=1)
    return largest.isfinite()
