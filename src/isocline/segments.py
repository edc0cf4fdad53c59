"""A solve in segments: until an event, or a known discontinuity of f, and on from there."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from isocline.breaks import Breaks
from isocline.events import AnyEvent, Event, SteadyState
from isocline.gradients.base import Gradient, run
from isocline.gradients.implicit import shift, shift_matrix_free
from isocline.jacobian import linearize
from isocline.numbers import spread
from isocline.problem import Dense, Outputs, Problem
from isocline.rest import park
from isocline.state import State, Status
from isocline.times import Times
from isocline.watch import Happening, Watch, evaluate

RUNNING, SUCCESS, EVENT, MAX_STEPS = (
    int(status) for status in (Status.RUNNING, Status.SUCCESS, Status.EVENT, Status.MAX_STEPS)
)

DENSE = 512
"""Up to this size of a state its Jacobian is made for the gradient of a steady state; beyond GMRES needs none."""


class Piece(NamedTuple):
    """Dense output of one segment."""

    dense: Dense
    t0: Tensor
    """Where it begins, (L,)."""
    t1: Tensor
    """Where it ends; the last step may go beyond."""


@dataclass(frozen=True)
class Pieces:
    """What came of a solve in segments."""

    outputs: Outputs
    dense: list[Piece]
    happened: list[tuple[Tensor, Tensor]]
    """For each event all times and states, padded with nan: (K, L), (K, L, n)."""
    index: Tensor
    """Which event ended each lane, -1 for none: (L,)."""
    t: Tensor
    """When it did, else nan: (L,)."""
    y: Tensor
    """The state then, (L, n)."""


class Leg(NamedTuple):
    """What came of one segment."""

    state: State
    saved: Tensor
    """States at its save times, (S, L, n)."""
    t: Tensor
    """Where it ended: its goal, an event, or where the lane failed; (L,)."""
    y: Tensor
    """(L, n)"""
    event: Tensor
    """Which event ended it, or -1: (L,)."""
    happened: list[Happening]
    dense: Dense | None


class Segments:
    """The driver. Every segment is solved by the gradient method as a problem of its own.

    Where events are looked for, a segment is solved without gradients first. If gradients are asked for it is solved
    again, with the same steps, and the events in it become save times, so any gradient method gives the states there.
    The time of an event itself is differentiated by the implicit function theorem, and what follows (a jump, the next
    segment) starts from it.
    """

    def __init__(self, problem: Problem, gradient: Gradient, events: Sequence[AnyEvent], breaks: Tensor) -> None:
        """Stand at the start."""
        self.problem, self.gradient, self.events = problem, gradient, events
        times = problem.times
        self.breaks = Breaks(breaks, times[0].detach(), times[-1])
        self.sign = self.breaks.sign
        self.t, self.y = times[0], problem.y0
        self.status = torch.full_like(self.t, RUNNING, dtype=torch.int64)
        self.steps, self.accepted = torch.zeros_like(self.status), torch.zeros_like(self.status)
        self.counts = self.status.new_zeros(len(events), len(self.status))
        self.noise = self.t.new_zeros(sum(isinstance(event, Event) for event in events), len(self.t))
        self.sign_of_events, self.fresh = self.noise, torch.ones_like(self.t, dtype=torch.bool)
        self.ys = torch.full((len(times), *self.y.shape), float("nan"), dtype=self.y.dtype, device=self.y.device)
        self.ys = torch.cat([self.y.unsqueeze(0), self.ys[1:]])
        self.missing = torch.ones_like(times, dtype=torch.bool)
        self.missing[0] = False
        self.left = problem.max_steps
        self.happened: list[Happening] = []
        self.index = torch.full_like(self.status, -1)
        self.dense: list[Piece] = []

    def run(self) -> Pieces:
        """Solve segment by segment."""
        while bool((self.status == RUNNING).any()):
            if self.left <= 0:
                self.status = torch.where(self.status == RUNNING, MAX_STEPS, self.status)
                break
            self._go_on()
        state = State(self.t, self.y, (), self.t, (), self.status, self.steps, self.accepted)
        happened = [
            _in_order([h for h in self.happened if h.event == i], self.sign, self.y) for i in range(len(self.events))
        ]
        ended = self.status == EVENT
        t = torch.where(ended, self.t, float("nan"))
        y = torch.where(ended.unsqueeze(1), self.y, float("nan"))
        return Pieces(Outputs(self.ys, None, state), self.dense, happened, self.index, t, y)

    def _go_on(self) -> None:
        """Solve one segment in the lanes that run; the others stay where they are."""
        running = self.status == RUNNING
        goal = torch.where(running, self.breaks.goal(self.t.detach()), self.t)
        times, rows = self._save_times(goal, running)
        field = self.breaks.field(self.problem.field, self.t.detach())
        before = self.problem.before if self.left == self.problem.max_steps else None
        part = replace(
            self.problem,
            segment=True,
            before=before,
            field=field,
            max_steps=self.left,
            y0=self.y,
            ts=self._times(times),
        )
        leg = self._leg(part, running) if self.events else _plain(self.gradient.solve(part), part)
        if field is not self.problem.field:
            self.problem.field.evaluations += field.evaluations
            self.problem.field.spared += field.spared
            self.problem.field.jacobians += field.jacobians
        self._save(leg, rows, running)
        if leg.dense is not None:
            self.dense.append(Piece(leg.dense, self.t.detach(), leg.t.detach()))
        steps, accepted = (spread(x, self.t) for x in (leg.state.steps, leg.state.accepted))
        self.steps, self.accepted = self.steps + steps * running, self.accepted + accepted * running
        self.left -= int((steps * running).max())
        self._arrive(leg, goal, running)

    def _times(self, values: Tensor) -> Times:
        return Times(values, False, values.detach()[:, 0].tolist() if values.shape[1] == 1 else None)

    def _save_times(self, goal: Tensor, running: Tensor) -> tuple[Tensor, Tensor]:
        """Return the times of a segment, start and end included, and which rows of the user's they are."""
        saves = self.problem.times[1:-1]
        early, late = (saves - self.t) * self.sign < 0, (saves - goal) * self.sign > 0
        rows = (~early & ~late & running & self.missing[1:-1]).any(dim=1).nonzero().flatten()
        saves, early, late = saves[rows], early[rows], late[rows]
        inside = torch.where(early, self.t.detach(), torch.where(late, goal.detach(), saves))
        return torch.cat([self.t.unsqueeze(0), inside, goal.unsqueeze(0)]), rows + 1

    def _save(self, leg: Leg, rows: Tensor, running: Tensor) -> None:
        """Keep the states at save times until the end of the segment; at an event that is the state before it."""
        ahead = torch.cat([rows, rows.new_tensor([len(self.ys) - 1])])
        times = self.problem.times[ahead]
        reached = running & self.missing[ahead] & ((times - self.t) * self.sign >= 0)
        at_end = times == leg.t
        # A lane that failed has its last state for its own use only.
        failed = (spread(leg.state.status, self.t) != SUCCESS) & (leg.event < 0)
        inside = reached & ((leg.t - times) * self.sign >= 0) & ~(at_end & failed)
        last = leg.y.unsqueeze(0)
        states = torch.cat([leg.saved, last])
        states = torch.where((at_end | (self.t == leg.t)).unsqueeze(2), last, states)
        kept = torch.where(inside.unsqueeze(2), states, self.ys[ahead])
        self.ys = self.ys.index_copy(0, ahead, kept)
        self.missing = self.missing.index_copy(0, ahead, self.missing[ahead] & ~inside)

    def _arrive(self, leg: Leg, goal: Tensor, running: Tensor) -> None:
        """Stand at the end of the segment, behind the jump if there is one."""
        status = spread(leg.state.status, self.t)
        final = goal.detach() == self.breaks.t1.detach()
        status = torch.where((status == SUCCESS) & ~final, RUNNING, status)
        t, y = leg.t, leg.y
        for i, event in enumerate(self.events):
            here = running & (leg.event == i)
            if isinstance(event, Event) and event.jump is not None and bool(here.any()):
                here = here & ((self.counts[i] < event.last) if event.last else True)
                field, at, _, before, _ = park(here, self.problem.field, t, t, y, ())
                after = self.problem.field.layout.pack(field.apply(event.jump, at, before), "jump")  # type: ignore[attr-defined]
                y = torch.where(here.unsqueeze(1), after, y)
                status = torch.where(here, RUNNING, status)
        self.t, self.y = torch.where(running, t, self.t), torch.where(running.unsqueeze(1), y, self.y)
        self.status = torch.where(running, status, self.status)
        self.index = torch.where(running & (status == EVENT), leg.event, self.index)

    def _leg(self, part: Problem, running: Tensor) -> Leg:
        """Solve until an event; twice if gradients are asked for."""
        history = torch.is_grad_enabled() and (
            part.times.requires_grad or part.field.has_history(part.ts.number(0), part.y0)
        )
        begin = part.times[0].detach(), part.y0.detach()
        known = self.counts, self.fresh, self.sign_of_events, self.noise
        watches: list[Watch] = []

        def make(_: object) -> Watch:
            scale, field = self.problem.controller, self.problem.field
            watches.append(Watch(field, part.field, part.solver, self.events, scale, *begin, *known))
            return watches[-1]

        with torch.no_grad():
            first = replace(part, y0=begin[1], ts=self._times(part.times.detach()), dense=part.dense and not history)
            outputs = run(first, None, [make])
        (watch,) = watches
        self.counts, self.sign_of_events, self.noise = watch.counts, watch.sign, watch.noise
        self.fresh = watch.stop_event >= 0
        reached = torch.where(spread(outputs.state.status, self.t) == SUCCESS, part.times[-1], outputs.state.t)
        stopped = watch.stop_event >= 0
        end = torch.where(stopped, watch.stop_t, reached)
        y_end = torch.where(stopped.unsqueeze(1), watch.stop_y, outputs.state.y)
        leg = Leg(outputs.state, outputs.ys[1:-1], end, y_end, watch.stop_event, watch.happened, outputs.dense)
        if history:
            leg = self._again(part, leg, reached, running)
        return self._differentiable(part, leg, running) if torch.is_grad_enabled() else self._noted(leg)

    def _again(self, part: Problem, leg: Leg, reached: Tensor, running: Tensor) -> Leg:
        """Solve with gradients, saving at events, too; the steps are those of the first time."""
        steady = leg.event.new_tensor([i for i, event in enumerate(self.events) if isinstance(event, SteadyState)])
        alone = len(steady) == len(self.events) and not len(leg.saved) and not part.dense
        if alone and bool(((leg.event >= 0) | ~running).all()):
            return leg  # what led to a steady state does not matter
        start = part.times[0].detach()
        inside = [torch.where(h.t.isnan(), start, h.t) for h in leg.happened]
        rows = torch.stack([*inside, leg.t.detach()])
        saves = part.times[1:-1]
        beyond = (saves - leg.t) * self.sign > 0
        rows = torch.cat([torch.where(beyond, leg.t.detach(), saves), rows])
        order = (rows.detach() * self.sign).argsort(dim=0, stable=True)
        times = torch.cat([part.times[:1], rows.gather(0, order), reached.unsqueeze(0)])
        outputs = self.gradient.solve(replace(part, ts=self._times(times), observers=()))
        place = order.argsort(dim=0).unsqueeze(2).expand(-1, -1, part.y0.shape[1])
        states = outputs.ys[1:-1].gather(0, place)
        count = len(saves)
        happened = [
            h._replace(y=torch.where(h.t.isnan().unsqueeze(1), float("nan"), y))
            for h, y in zip(leg.happened, states[count:-1], strict=True)
        ]
        # The same steps again should come to the same end; if not, the lane failed.
        status = spread(outputs.state.status, self.t)
        status = torch.where(status == SUCCESS, spread(leg.state.status, self.t), status)
        stopped = (leg.event >= 0).unsqueeze(1)
        y = torch.where(stopped, states[-1], torch.where((start == reached).unsqueeze(1), part.y0, outputs.ys[-1]))
        t = torch.where(leg.event >= 0, leg.t, reached)
        state = leg.state._replace(status=status)
        return leg._replace(state=state, saved=states[:count], t=t, y=y, happened=happened, dense=outputs.dense)

    def _noted(self, leg: Leg) -> Leg:
        self.happened += leg.happened
        return leg

    def _differentiable(self, part: Problem, leg: Leg, running: Tensor) -> Leg:
        """Let the times of events depend on what they depend on."""
        noted = [self._moved(part, h, torch.isfinite(h.t)) for h in leg.happened]
        self.happened += noted
        t, y = leg.t, leg.y
        for h in noted:
            # The last of a lane's events is the one that ended its segment.
            here = running & (leg.event == h.event) & (h.t.detach() == leg.t.detach())
            t, y = torch.where(here, h.t, t), torch.where(here.unsqueeze(1), h.y, y)
        return leg._replace(t=t, y=y)

    def _moved(self, part: Problem, h: Happening, here: Tensor) -> Happening:
        event = self.events[h.event]
        t, y = torch.where(here, h.t, part.times[0].detach()), torch.where(here.unsqueeze(1), h.y, part.y0.detach())
        change = self._of_steady_state if isinstance(event, SteadyState) else self._of_crossing
        t, y = change(part, event, t, y, here)
        return Happening(h.event, torch.where(here, t, h.t), torch.where(here.unsqueeze(1), y, h.y))

    def _of_crossing(self, part: Problem, event: AnyEvent, t: Tensor, y: Tensor, here: Tensor) -> tuple[Tensor, Tensor]:
        """``g(t, y(t)) = 0``: t moves by ``-dg / (g_t + g_y f)``, and y by f times that."""
        g_field, at, _, beside, _ = park(here, self.problem.field, t, t, y, ())
        times, states = at.detach(), beside.detach()
        if not (y.requires_grad or evaluate(g_field, event, times, states).requires_grad):  # type: ignore[arg-type]
            return t, y
        g = evaluate(g_field, event, times.requires_grad_(), states.requires_grad_())  # type: ignore[arg-type]
        by_time, by_state = torch.autograd.grad(
            g.sum(), (times, states), retain_graph=True, allow_unused=True, materialize_grads=True
        )
        f, at, _, _, _ = park(here, part.field, t, t, y, ())
        with torch.no_grad():
            slope = f(at, states)
        residual = g + (by_state * (beside - beside.detach())).sum(dim=1)
        rate = by_time + (by_state * slope).sum(dim=1)
        move = shift(residual.to(t.dtype).unsqueeze(1), rate.reshape(-1, 1, 1).to(t.dtype)).squeeze(1)
        move = torch.where(here, move, 0.0)
        return t + move, y + slope * move.to(y.dtype).unsqueeze(1)

    def _of_steady_state(
        self, part: Problem, event: AnyEvent, t: Tensor, y: Tensor, here: Tensor
    ) -> tuple[Tensor, Tensor]:
        """``f(t, y) = 0``: y moves by ``-(df/dy)^-1 df``."""
        f, at, _, beside, _ = park(here, part.field, t, t, y, ())
        at, beside = at.detach(), beside.detach()
        residual = f(at, beside)
        if not residual.requires_grad:
            return t.detach(), y.detach()
        if beside.shape[1] <= DENSE:
            move = shift(residual, linearize(f, at, beside).by_state)
        else:
            states = beside.requires_grad_()
            slope = f(at, states)
            move = shift_matrix_free(
                residual, lambda w: torch.autograd.grad(slope, states, w, retain_graph=True, materialize_grads=True)[0]
            )
        return t.detach(), y.detach() + torch.where(here.unsqueeze(1), move, 0.0)


def _plain(outputs: Outputs, part: Problem) -> Leg:
    """Return what came of a segment without events."""
    state = outputs.state
    times, t = part.times, spread(state.t, part.times)
    arrived = spread(state.status, t) == SUCCESS
    y = torch.where((times[0] == times[-1]).unsqueeze(1), part.y0, outputs.ys[-1])
    end = torch.where(arrived, times[-1], t)
    y = torch.where(arrived.unsqueeze(1), y, state.y.detach())
    none = torch.full_like(arrived, -1, dtype=torch.int64)
    return Leg(state, outputs.ys[1:-1], end, y, none, [], outputs.dense)


def _in_order(rows: Sequence[Happening], sign: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the times (K, L) and states (K, L, n) of one event, in order, without rows that are empty."""
    if not rows:
        return sign.new_zeros(0, len(sign)), y.new_zeros(0, *y.shape)
    t, states = torch.stack([h.t for h in rows]), torch.stack([h.y for h in rows])
    key = torch.where(t.isnan(), float("inf"), t * sign).detach()
    order = key.argsort(dim=0, stable=True)[: int(t.isfinite().sum(dim=0).max())]
    return t.gather(0, order), states.gather(0, order.unsqueeze(2).expand(-1, -1, y.shape[1]))
