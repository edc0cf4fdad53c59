"""The stepping loop: start, advance, integrate. Everything else watches accepted steps from outside."""

from collections.abc import Sequence

import torch
from torch import Tensor

from isocline.active import Active
from isocline.controllers import Controller, Verdict
from isocline.field import Field as UserField
from isocline.numbers import Number, both, everywhere, fetch, isfinite, negate, read, total, where
from isocline.observers import Observer
from isocline.rest import park
from isocline.solvers.base import Attempt, Carry, Field, Invertible, Solver
from isocline.state import State, Status, Step
from isocline.stops import Marks
from isocline.transforms import recorded, transforming

SMALLEST_TIME = 1e-20
"""Smallest time that counts as different from zero, in units of the time that is left."""

RUNNING = int(Status.RUNNING)


def start(
    f: Field,
    solver: Solver,
    controller: Controller,
    t0: Number,
    y0: Tensor,
    t1: Number,
    f0: Tensor | None = None,
    before: State | None = None,
) -> State:
    """Return the state before the first step from t0 towards t1; f0 is f(t0, y0) if it is known.

    ``before`` is the state in which an earlier solve came here: its step size and what the controller remembers go on,
    and its carry, too, where nothing requires grad: it has no history.
    """
    known = [] if f0 is None else [f0]

    def first() -> Tensor:
        if not known:
            known.append(f(t0, y0))
        return known[0]

    def recorded() -> bool:
        here = y0.requires_grad or (isinstance(t0, Tensor) and t0.requires_grad)
        return transforming() or (torch.is_grad_enabled() and (here or first().requires_grad))

    if before is None or (before.carry and recorded()):
        carry = solver.init(f, t0, y0, first)
    else:
        carry = before.carry
    if before is None:
        dt, memory = controller.init(f, solver, _constant(t0), _constant(t1), y0.detach(), lambda: first().detach())
    else:
        dt, memory = before.dt, before.memory
    usable = _finite(t0, y0, *carry)
    if torch.is_grad_enabled() and carry and y0.shape[0] > 1 and not everywhere(usable):
        # Evaluated again, so that no gradient goes through an f that is nan.
        safe, safe_t, _, safe_y, _ = park(usable, f, t0, t0, y0, ())
        carry = solver.init(safe, safe_t, safe_y, lambda: safe(safe_t, safe_y))
    status = where(usable, RUNNING, int(Status.NON_FINITE))
    return State(t0, y0, carry, dt, memory, status, status * 0, status * 0)


def advance(
    f: Field, solver: Solver, controller: Controller, t_end: Number, state: State, resting: bool = True
) -> tuple[State, Step]:
    """Attempt one step in every running lane; ``resting=False`` says that all lanes are.

    With tensors it is pure: no synchronisation, no branch on values. With Python numbers it reads once.
    """
    running = state.status == RUNNING
    left = t_end - state.t
    # A remainder of rounding errors is no step of its own: stretch this one by up to sqrt(eps), or what adding up
    # times has cost so far.
    eps = _resolution(left)
    last = abs(state.dt) * (1 + eps**0.5) + eps * state.steps * abs(t_end) >= abs(left)
    target = where(last, t_end, _constant(state.t + state.dt))
    target = where(running, target, state.t)
    begin = f, state.t, target, state.y, state.carry
    attempt = solver.step(*(park(running, *begin) if resting else begin))
    with torch.no_grad():
        h = target - state.t
        measured = controller.measure(state.y, attempt), largest(attempt.y1), *(attempt.plan or ())
        error, size, *plan = read(h, measured)
        finite = isfinite(size)
        verdict = Verdict(h, where(finite, error, float("inf")), finite, *(plan or [solver.error_order]))
        accept, dt, memory = controller.adapt(verdict, state.memory)
        accept = both(accept, running)
        # A step cut short by the end says little about the next: keep the larger proposal.
        dt = where(both(both(accept, last), abs(dt) < abs(state.dt)), state.dt, dt)
        status = _judge(state, target, left, dt, running, both(accept, last), finite)
        if resting:
            dt = where(running, dt, state.dt)
            memory = tuple(where(running, new, old) for new, old in zip(memory, state.memory, strict=True))
    step, carry = _merge(accept, state.t, target, state.y, state.carry, attempt)
    steps, accepted = state.steps + running, state.accepted + accept
    return State(step.t1, step.y1, carry, dt, memory, status, steps, accepted), step


def integrate(
    field: UserField,
    solver: Solver,
    controller: Controller,
    state: State,
    t_end: Number,
    max_steps: int,
    observers: Sequence[Observer] = (),
    marks: Marks | None = None,
) -> State:
    """Step until every lane has reached t_end or failed, or max_steps attempts were made; steps end at the marks, too.

    One host synchronisation a step: the counts that the loop and the observers need come over together. Lanes that have
    ended leave when they have become enough to be worth it.
    """
    active = Active(field, solver, controller, t_end)
    n_running, resting = active.rows, True
    for _ in range(max_steps):
        goal = active.t_end if marks is None else marks.target(state.t, active.t_end)
        for observer in observers:
            observer.begin(state, goal)
        new, step = advance(active.f, solver, controller, goal, state, resting)
        if marks is not None:
            on_way = both(new.status == int(Status.SUCCESS), new.t != active.t_end)
            new = new._replace(status=where(on_way, RUNNING, new.status))
        if active.lanes is not None:
            step = step._replace(lanes=active.lanes)
        tried = n_running
        asked = [observer.ask(step) for observer in observers]
        counts = fetch([total(new.status == RUNNING), total(new.accepted - state.accepted), *asked])
        n_running, n_accepted, *counts = counts
        if n_accepted < tried and isinstance(state.t, Tensor) and recorded(new.y):
            new, step = _without_rejected(active.f, solver, state, new, step, n_accepted)
        for observer, count in zip(observers, counts, strict=True):
            stop = observer.see(step, count)
            if stop is not None:
                new = new._replace(status=where(stop, int(Status.EVENT), new.status))
                (n_running,) = fetch([total(new.status == RUNNING)])
        state = new
        del new, step  # its stages would be in memory beside those of the next
        if not n_running:
            return active.whole(state)
        if n_running < active.enough:
            state, stay = active.narrow(state, n_running)
            if stay is not None:
                for watching in (*observers, *([marks] if marks else ())):
                    watching.narrow(stay)
        resting = n_running < active.rows
    out = where(state.status == RUNNING, int(Status.MAX_STEPS), state.status)
    return active.whole(state._replace(status=out))


def take(f: Field, solver: Solver, t0: Number, t1: Number, y0: Tensor, carry: Carry) -> tuple[Step, Carry]:
    """Take a step whose end is known to be good, again; lanes with t1 == t0 rest."""
    moving = t1 != t0
    attempt = solver.step(*park(moving, f, t0, t1, y0, carry))
    return _merge(moving, t0, t1, y0, carry, attempt)


def undo(f: Field, solver: Invertible, t0: Number, t1: Number, y1: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
    """Return state and carry before a step that ended with these; lanes with t1 == t0 rest."""
    moving = t1 != t0
    f, end, begin, beside, rest = park(moving, f, t1, t0, y1, carry)
    y0, before = solver.reverse(f, begin, end, beside, rest)
    return where(moving, y0, y1), tuple(where(moving, new, old) for new, old in zip(before, carry, strict=True))


def _without_rejected(
    f: Field, solver: Solver, state: State, new: State, step: Step, accepted: int
) -> tuple[State, Step]:
    """Return the same outcome with no trace of rejected attempts in the autograd graph.

    Their values are masked out, but a zero gradient times an infinite derivative would be nan. Where every lane was
    rejected there is nothing to keep; where only some were, the step is taken again with the others at rest.
    """
    if not accepted:
        again, carry = Step(state.t, state.t, state.y, state.y, (), state.carry), state.carry
    else:
        again, carry = take(f, solver, state.t, step.t1, state.y, state.carry)
    step = again._replace(lanes=step.lanes)
    return new._replace(t=step.t1, y=step.y1, carry=carry), step


def _merge(accept: Number, t0: Number, t1: Number, y0: Tensor, carry: Carry, attempt: Attempt) -> tuple[Step, Carry]:
    step = Step(t0, where(accept, t1, t0), y0, where(accept, attempt.y1, y0), attempt.stages, carry)
    return step, tuple(where(accept, new, old) for new, old in zip(attempt.carry, carry, strict=True))


def _judge(
    state: State, target: Number, left: Number, dt: Number, running: Number, arrived: Number, finite: Number
) -> Number:
    """Statuses after an attempt: arrived, given up, or as before."""
    # Time no longer moves; near t = 0, where floats are dense, not beside a tiny part of the time that was left either.
    time = target + SMALLEST_TIME * left
    stuck = both(both(running, negate(arrived)), time + dt / 16 == time)
    given_up = where(finite, int(Status.STEP_TOO_SMALL), int(Status.NON_FINITE))
    status = where(stuck, given_up, state.status)
    return where(arrived, int(Status.SUCCESS), status)


def _constant(t: Number) -> Number:
    return t.detach() if isinstance(t, Tensor) else t


def _resolution(t: Number) -> float:
    return torch.finfo(t.dtype if isinstance(t, Tensor) else torch.float64).eps


def largest(y: Tensor) -> Tensor:
    """Return the largest number of each lane: it tells whether all are finite, and unlike a sum it cannot overflow."""
    norm: Tensor = torch.linalg.vector_norm(y.flatten(1), float("inf"), dim=1)
    return norm


def _finite(like: Number, *parts: Tensor) -> Number:
    finite: Number = True
    for size in read(like, [largest(part.detach()) for part in parts]):
        finite = both(finite, isfinite(size))
    return finite
