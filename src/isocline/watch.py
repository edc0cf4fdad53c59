"""The observer that finds events in accepted steps, and stops lanes there."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from isocline.controllers import PID, Controller
from isocline.events import AnyEvent, Event, SteadyState
from isocline.field import Field
from isocline.numbers import Number, spread
from isocline.observers import Observer, Picks
from isocline.rest import completed
from isocline.roots import find_roots
from isocline.solvers.base import Solver
from isocline.state import Step
from isocline.tree import describe

POINTS = 0.0, 0.25, 0.5, 0.75, 1.0
"""Where in a step the signs are looked at."""

FIRST_POINTS = 0.0, 1e-6, 1e-4, 1e-2, *POINTS[1:]
"""The same in the first step of a segment: a lane that begins on a surface may come back to it at once."""

NOISE = 1000
"""An event function is on its surface if it is no larger than so many units of rounding of its largest in a step."""

IS_NAN, IS_FRESH = 1 << 32, 1 << 33
"""Added to the number of events if an event function was nan; and if a lane has not made its first step yet."""


class Happening(NamedTuple):
    """An event in some of the lanes: one row for all lanes."""

    event: int
    """Which of the events."""
    t: Tensor
    """(L,), nan where nothing happened."""
    y: Tensor
    """(L, n)"""


class Found(NamedTuple):
    """Changes of sign in one step, for the lanes that it has, in order of events and parts."""

    event: list[int]
    place: Tensor
    """As a part of the step, (R, A); inf where there is none."""


class Watch(Observer):
    """Looks for events in accepted steps of one segment of a solve.

    Args:
        field: the user's field; event functions get its arguments.
        f: the field as it is solved.
        solver: whose interpolant is used.
        events: what to look for.
        scale: judges the size of f for a steady state.
        t0: where the segment starts, (L,).
        y0: the state there, (L, n).
        counts: how often each event has happened before, (E, L).
        fresh: lanes that have just been put where they are, not only interrupted there, (L,).
        sign: signs of the crossing events' values at the start, in the others, (C, L).
        noise: how large these values may be though they should be zero, in fresh lanes, (C, L).
    """

    def __init__(
        self,
        field: Field,
        f: Field,
        solver: Solver,
        events: Sequence[AnyEvent],
        scale: Controller,
        t0: Tensor,
        y0: Tensor,
        counts: Tensor,
        fresh: Tensor,
        sign: Tensor,
        noise: Tensor,
    ) -> None:
        """Evaluate the event functions at the start."""
        self.field, self.f, self.solver, self.events, self.scale = field, f, solver, events, scale
        self.crossing = [i for i, event in enumerate(events) if isinstance(event, Event)]
        self.wanted = t0.new_tensor([event.direction for event in events if isinstance(event, Event)]).reshape(-1, 1)
        self.either = self.wanted == 0
        self.t, self.y = t0.clone(), y0.clone()
        self.lanes: Tensor | None = None
        self.value = self._values(self.t, self.y)
        self.fresh = fresh.clone()
        self.sign = torch.where(fresh, self.value.sign(), sign)
        self.counts, self.start_noise, self.noise = counts.clone(), noise, torch.zeros_like(noise)
        self.step: Step | None = None
        self.points: tuple[float, ...] = FIRST_POINTS
        self.happened: list[Happening] = []
        self.stop_t, self.stop_y = torch.full_like(t0, float("nan")), y0.clone()
        self.stop_event = torch.full_like(t0, -1, dtype=torch.int64)
        """Which event ended a lane, or made its state jump."""

    def ask(self, step: Step) -> "Tensor | int":
        """Count changes of sign, over all lanes and events."""
        self.step = None
        if isinstance(step.t0, float) and step.t0 == step.t1:
            return 0
        self.step = step = completed(self.f.of(self.lanes), self.solver, step)
        self.t0, self.t1 = (spread(t, self.t).detach() for t in (step.t0, step.t1))
        self.moved = self.t0 != self.t1
        self.values = torch.stack([self._rows(self.value), *self._samples()])
        self.signs = signs = self._signs()
        change = signs[1:] - signs[:-1]
        self.crossed = (signs[:-1] != 0) & (change != 0) & (self.either | (change * self.wanted > 0)) & self.moved
        self.steady = self._steady(step)
        asked = self.crossed.sum() + (self.values.isnan() & self.moved).any() * IS_NAN
        if len(self.steady):
            asked = asked + self.steady.sum()
        if self.points is FIRST_POINTS:
            asked = asked + (self._rows(self.fresh) & ~self.moved).any() * IS_FRESH
        return asked

    def see(self, step: Step, count: int) -> Number | None:
        """Find when, and stop lanes that end or jump."""
        if self.step is None:
            return None
        if count & IS_NAN:
            self._refuse()
        stop = self._record(self._locate()) if count % IS_NAN else None
        self.points = FIRST_POINTS if count & IS_FRESH else POINTS
        lanes = slice(None) if self.lanes is None else self.lanes
        self.value[:, lanes] = torch.where(self.moved, self.values[-1], self.values[0])
        self.sign[:, lanes] = torch.where(self.moved, self.signs[-1], self.sign[:, lanes])
        self.fresh[lanes] &= ~self.moved
        if stop is None:
            return None
        return bool(stop) if isinstance(step.t0, float) else stop

    def narrow(self, rows: Tensor) -> None:
        """Follow the lanes that go on; event functions get all lanes nevertheless."""
        self.lanes = rows if self.lanes is None else self.lanes.index_select(0, rows)

    def _rows(self, x: Tensor) -> Tensor:
        """Return the part (..., A) that belongs to the step's lanes."""
        return x if self.lanes is None else x.index_select(-1, self.lanes)

    def _signs(self) -> Tensor:
        """Return the signs at the points of the step; 0 while a lane that starts on the surface has not left it."""
        signs = torch.cat([self._rows(self.sign).unsqueeze(0), self.values[1:].sign()])
        if self.points is POINTS:
            return signs
        noise = torch.maximum(self._noise(), self._rows(self.start_noise))
        gone = (self.values.abs() > noise).cumsum(dim=0) > 0
        return torch.where(self._rows(self.fresh) & ~gone, 0.0, signs)

    def _noise(self) -> Tensor:
        """Return how large values in this step may be where they should be zero: (E, A)."""
        eps = torch.finfo(self.y.dtype).eps
        time = torch.maximum(self.t0.abs(), self.t1.abs()) / torch.where(self.moved, self.t1 - self.t0, 1.0).abs()
        return NOISE * eps * (1 + time) * self.values[1:].abs().amax(dim=0)

    def _steady(self, step: Step) -> Tensor:
        """Whether f has become small, for each steady state asked for: (events, A)."""
        wanted = [event for event in self.events if isinstance(event, SteadyState)]
        if not wanted:
            return self.moved.new_zeros(0, len(self.moved))
        f = self.f.of(self.lanes)(step.t1, step.y1)
        return torch.stack([(self._scale(event).scaled(step.y1, f) <= 1) & self.moved for event in wanted])

    def _scale(self, event: SteadyState) -> Controller:
        if event.rtol is None and event.atol is None:
            return self.scale
        base = getattr(self.scale, "given", self.scale) if isinstance(self.scale, PID) else PID()
        rtol = base.rtol if event.rtol is None else event.rtol
        return PID(rtol, base.atol if event.atol is None else event.atol).fitted(self.field.layout)

    def _samples(self) -> list[Tensor]:
        """Return the values of all event functions at the points of the step but the first, each (E, A)."""
        if not self.crossing:
            return [self._rows(self.value)] * (len(self.points) - 1)
        assert self.step is not None
        inner = self.points[1:-1]
        t = self.t0 + self.t.new_tensor(inner).unsqueeze(1) * (self.t1 - self.t0)
        rows = self.step if len(self.t0) == 1 else _repeated(self.step, len(inner))
        y = self.solver.interpolate(rows, t.flatten()).reshape(len(inner), *self.step.y1.shape)
        return [*map(self._at, t.unbind(), y.unbind()), self._at(self.t1, self.step.y1)]

    def _at(self, t: Tensor, y: Tensor, only: "int | None" = None) -> Tensor:
        """Return the values of all event functions, or one, for the step's lanes: (E, A) or (A,)."""
        if self.lanes is not None:
            t, y = self.t.index_copy(0, self.lanes, t), self.y.index_copy(0, self.lanes, y)
        values = self._rows(self._values(t, y, only))
        return values if only is None else values[0]

    def _state(self, place: Tensor) -> tuple[Tensor, Tensor]:
        """Return time and state at these parts of the step (A,); its ends exactly."""
        assert self.step is not None
        t = torch.where(place == 1, self.t1, self.t0 + place * (self.t1 - self.t0))
        y = self.solver.interpolate(self.step, t)
        return t, torch.where((place == 1).unsqueeze(1), self.step.y1, y)

    def _values(self, t: Tensor, y: Tensor, only: "int | None" = None) -> Tensor:
        """Evaluate event functions for all lanes: (E, L) in the dtype of time."""
        which = self.crossing if only is None else [only]
        values = [evaluate(self.field, self.events[i], t, y).to(self.t.dtype) for i in which]
        return torch.stack(values) if values else t.new_zeros(0, len(t))

    def _locate(self) -> Found:
        """Find the roots in brackets where the sign changes in any lane (one host sync)."""
        events, places = [], []
        for part, flags in enumerate(self.crossed.any(dim=2).tolist()):
            for row, any_lane in enumerate(flags):
                if any_lane:
                    events.append(self.crossing[row])
                    places.append(self._root(part, row))
        steady = [i for i, event in enumerate(self.events) if isinstance(event, SteadyState)]
        for event, flag in zip(steady, self.steady, strict=True):
            events.append(event)
            places.append(torch.where(flag, 1.0, float("inf")))
        return Found(events, torch.stack(places))

    def _root(self, part: int, row: int) -> Tensor:
        crossed = self.crossed[part, row]
        a = torch.full_like(self.t0, self.points[part])
        b = torch.where(crossed, self.points[part + 1], a)
        fa, fb = self.values[part, row], self.values[part + 1, row]
        # A value of zero at the end counts as the other side.
        fb = torch.where(fb == 0, -fa.sign() * torch.finfo(fb.dtype).tiny, fb)
        h = torch.where(self.moved, self.t1 - self.t0, 1.0).abs()
        eps = torch.finfo(self.t.dtype).eps
        tolerance = eps * (2 * torch.maximum(self.t0.abs(), self.t1.abs()) / h).clamp(min=1.0)
        event = self.crossing[row]
        root = find_roots(lambda place: self._at(*self._state(place), event), a, b, fa, fb, tolerance)
        return torch.where(crossed, root, float("inf"))

    def _record(self, found: Found) -> Tensor:
        """Take note of what happened until a lane stops; return which lanes do, (A,)."""
        event = torch.tensor(found.event, device=self.t.device)
        last = torch.tensor([e.last if isinstance(e, Event) else 1 for e in self.events], device=self.t.device)
        jumps = torch.tensor([isinstance(e, Event) and e.jump is not None for e in self.events], device=self.t.device)
        lanes = slice(None) if self.lanes is None else self.lanes
        happens = found.place.isfinite()
        same = (event.unsqueeze(0) == event.unsqueeze(1)).unsqueeze(2)
        rank = (same & (found.place.unsqueeze(0) <= found.place.unsqueeze(1)) & happens.unsqueeze(0)).sum(dim=1)
        rank = rank + self.counts[event][:, lanes]
        limit = last[event].unsqueeze(1)
        ends = happens & (jumps[event].unsqueeze(1) | ((limit > 0) & (rank >= limit)))
        stop, which = torch.where(ends, found.place, float("inf")).min(dim=0)
        stops = stop.isfinite()
        for index, place in zip(found.event, found.place, strict=True):
            here = place.isfinite() & (place <= stop)
            t, y = self._state(torch.where(here, place, 1.0))
            self.counts[index, lanes] += here
            self._note(index, here, t, y, lanes)
        t, y = self._state(torch.where(stops, stop, 1.0))
        self.noise[:, lanes] = torch.where(stops, self._noise(), self.noise[:, lanes])
        self.stop_t[lanes] = torch.where(stops, t, self.stop_t[lanes])
        self.stop_y[lanes] = torch.where(stops.unsqueeze(1), y, self.stop_y[lanes])
        self.stop_event[lanes] = torch.where(stops, event[which], self.stop_event[lanes])
        return stops

    def _note(self, event: int, here: Tensor, t: Tensor, y: Tensor, lanes: "slice | Tensor") -> None:
        all_t, all_y = torch.full_like(self.t, float("nan")), torch.full_like(self.y, float("nan"))
        all_t[lanes] = torch.where(here, t, float("nan"))
        all_y[lanes] = torch.where(here.unsqueeze(1), y, float("nan"))
        self.happened.append(Happening(event, all_t, all_y))

    def _refuse(self) -> None:
        bad = (self.values.isnan() & self.moved).nonzero()[0].tolist()
        part, row, lane = bad
        t = (self.t0 + self.points[part] * (self.t1 - self.t0))[lane].item()
        lane = lane if self.lanes is None else int(self.lanes[lane])
        raise ValueError(
            f"event function {self.crossing[row]} returned nan at t={t:.6g} (lane {lane}); it is evaluated on both "
            "sides of where the event happens, so it must be finite there: write y[0] rather than y[0].sqrt()"
        )


def _repeated(step: Step, times: int) -> Step:
    """Return a step with its rows repeated, for interpolation at several points."""
    rows = torch.arange(len(step.y0), device=step.y0.device).repeat(times)
    return Picks(rows, rows).take(step)


def evaluate(field: Field, event: AnyEvent, t: Number, y: Tensor) -> Tensor:
    """Return the value of an event function for all lanes, (L,); the field's arguments are those it gets."""
    assert isinstance(event, Event)
    value = field.apply(event.function, t, y)
    batch = field.layout.batch_shape
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise TypeError(f"an event function must return a floating point tensor, got {describe(value)}")
    if value.shape[: len(batch)] != batch or value.numel() != len(y):
        expected = f"one number for each sample, shape {tuple(batch)}" if batch else "one number, a 0-d tensor"
        raise ValueError(
            f"an event function returned {describe(value)}, expected {expected}; pick one with y[..., 0], or reduce "
            "with .amin(-1)"
        )
    return value.reshape(-1)
