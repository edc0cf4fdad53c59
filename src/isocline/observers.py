"""What watches a solve: saving at given times, recording for dense output or replay, and progress."""

from abc import ABC, abstractmethod
from array import array
from bisect import bisect_right
from collections.abc import Callable, MutableSequence
from typing import NamedTuple

import torch
from torch import Tensor

from isocline.field import Field
from isocline.numbers import Number, spread, total
from isocline.rest import completed
from isocline.solvers.base import Carry, Solver
from isocline.solvers.base import Field as FieldOfLanes
from isocline.state import State, Step


class Observer(ABC):
    """Sees every attempted step, without a host synchronisation of its own.

    The loop fetches what all observers ``ask`` for in its one synchronisation and hands each its answer.

    Example:
        >>> import isocline as iso, torch
        >>> class Sizes(iso.Observer):
        ...     def __init__(self):
        ...         self.accepted = []
        ...     def ask(self, step):
        ...         return int(step.t1 != step.t0)
        ...     def see(self, step, moved):
        ...         self.accepted += [step.t1 - step.t0] * moved
        >>> sizes = Sizes()
        >>> sol = iso.solve(lambda t, y: -y, torch.ones(1), (0.0, 1.0), observers=[sizes])
        >>> len(sizes.accepted) == sol.stats.accepted, round(sum(sizes.accepted), 6)
        (tensor(True), 1.0)
    """

    @abstractmethod
    def ask(self, step: Step) -> "Tensor | int":
        """Return the number this observer wants on the host, as a 0-d int64 tensor if it is not there yet."""

    @abstractmethod
    def see(self, step: Step, count: int) -> "Number | None":
        """Take note of the step; ``count`` is what ``ask`` returned for it.

        Returns the rows in which the solve is to end with status EVENT, one flag each, or None for nowhere.
        """

    def begin(self, state: State, goal: Number) -> None:  # noqa: B027
        """Be told that a step is about to be attempted from here, of size ``state.dt`` but not beyond the goal."""

    def narrow(self, rows: Tensor) -> None:  # noqa: B027
        """Expect steps that have only these of the rows they had until now: the other lanes have ended."""


class Picks(NamedTuple):
    """Which save times fell into a step, as pairs (slot, lane).

    With one lane a range of slots and None, else index tensors (M,) each.
    """

    slots: "slice | Tensor"
    lanes: Tensor | None
    rows: Tensor | None = None
    """Where the step has these lanes; None: it has all, in order."""

    def take(self, step: Step) -> Step:
        """Return the step with one row a pair, or unchanged with one lane, where rows broadcast."""
        if self.lanes is None:
            return step
        rows = self.lanes if self.rows is None else self.rows
        t0, t1, y0, y1 = (part[rows] for part in (step.t0, step.t1, step.y0, step.y1))
        return Step(t0, t1, y0, y1, tuple(k[rows] for k in step.stages), ())

    def select(self, values: Tensor) -> Tensor:
        """Return the values (M, ...) of the pairs, from values (T, L, ...) at all save times."""
        return values[self.slots, 0 if self.lanes is None else self.lanes]


class Save(Observer):
    """Interpolates the state at save times inside accepted steps: no forced steps, no evaluations for most methods."""

    def __init__(self, field: Field, solver: Solver, times: Tensor, reach: "Reach") -> None:
        """Save at times (T, L)."""
        self.field = field
        self.solver = solver
        self.times = times
        self.saved = Saved(len(times))
        self.latest: Picks | None = None
        self.reach = reach

    def ask(self, step: Step) -> "Tensor | int":
        """Count the save times inside the step, over all lanes."""
        return self.reach.count(step)

    def see(self, step: Step, count: int) -> None:
        """Interpolate at the ``count`` save times."""
        self.latest = None
        if count:
            self.latest = picks = self.reach.advance(count, step.lanes)
            if count == 1 and not self.solver.completes and self.reach.at_end(step):
                self.saved.add(step.y1, picks, 1)
                return
            f = self.field.of(step.lanes) if self.solver.completes else self.field
            self.saved.add(interpolate(f, self.solver, step, picks, self.times), picks, self.times.shape[1])

    def narrow(self, rows: Tensor) -> None:
        """Follow the lanes that go on."""
        self.reach.narrow(rows)


class Saved:
    """Saved states as they come in, and all of them in the end; each is copied once.

    Args:
        count: how many there are to be between the ends.
    """

    def __init__(self, count: int) -> None:
        """Start empty."""
        self.count = count
        self.rows: list[Tensor] = []
        self.places: list[Tensor] = []

    def add(self, values: Tensor, picks: Picks, lanes: int) -> None:
        """Add the states (M, n) at the picked save times; with one lane they come in order."""
        self.rows.append(values)
        if isinstance(picks.slots, Tensor) and picks.lanes is not None:
            self.places.append(picks.slots * lanes + picks.lanes)

    def between(self, y0: Tensor, end: Tensor) -> Tensor:
        """Return (T, L, n) with the states (L, n) at both ends; nan where a lane did not get."""
        (lanes, n), slots = y0.shape, self.count
        if not self.places:
            missing = y0.new_full((slots * lanes - sum(map(len, self.rows)), n), float("nan"))
            return torch.cat([y0, *self.rows, missing, end]).reshape(slots + 2, lanes, n)
        ys = torch.cat([y0, y0.new_full((slots * lanes, n), float("nan")), end])
        ys = ys.index_put((torch.cat(self.places) + lanes,), torch.cat(self.rows))
        return ys.reshape(slots + 2, lanes, n)


class Reach:
    """How far each lane has come among the save times.

    Args:
        times: save times (T, L), or a list of T floats for one lane whose steps are floats.
        sign: 1 for lanes where they ascend, else -1: (L,), or a float.
    """

    def __init__(self, times: "Tensor | list[float]", sign: Number) -> None:
        """Stand before the first."""
        self.sign = sign
        self.ascending: list[float] | Tensor
        self.done: Number
        if isinstance(times, list):
            self.ascending, self.done = [t * sign for t in times], 0
        else:
            self.ascending, self.done = (times.detach() * sign).T.contiguous(), torch.zeros_like(sign).long()
        self.reached = self.done

    def count(self, step: Step) -> "Tensor | int":
        """Find the save times inside a step, and count them over all lanes."""
        if isinstance(self.ascending, list):
            self.reached = bisect_right(self.ascending, step.t1 * self.sign) if step.t1 != step.t0 else self.done
        else:
            end = (step.t1.detach() * self.sign).unsqueeze(1)
            moved_to = torch.searchsorted(self.ascending, end, right=True).squeeze(1)
            self.reached = torch.where(step.t1 == step.t0, self.done, moved_to)
        return total(self.reached - self.done)

    def advance(self, count: int, lanes: Tensor | None) -> Picks:
        """Go on behind those counted, and return them; ``lanes`` are the step's."""
        first, self.done = self.done, self.reached
        if isinstance(first, Tensor):
            return pairs(first, self.done - first, count, lanes)
        return Picks(slice(first, self.done), None)

    def at_end(self, step: Step) -> bool:
        """Whether the last save time counted is known to be where the step ends: for one lane of float steps."""
        return isinstance(self.ascending, list) and self.ascending[self.reached - 1] == step.t1 * self.sign

    def narrow(self, rows: Tensor) -> None:
        """Follow only the lanes in these rows."""
        assert isinstance(self.ascending, Tensor)
        self.ascending, self.sign = self.ascending.index_select(0, rows), self.sign.index_select(0, rows)
        self.done = self.reached = self.done.index_select(0, rows)


def pairs(first: Tensor, counts: Tensor, total: int, lanes: Tensor | None = None) -> Picks:
    """Return ``counts`` (A,) slots from ``first`` (A,) on in each row; total is their sum, known to the host.

    ``lanes`` says which lanes the rows are, None that they are all.
    """
    index = torch.arange(total, device=first.device)
    rows = torch.arange(len(first), device=first.device)
    rows = torch.repeat_interleave(rows, counts, output_size=total)
    before = counts.cumsum(0) - counts
    slots = index - before[rows] + first[rows]
    if lanes is not None:
        return Picks(slots, lanes[rows], rows)
    return Picks(slots, None if len(first) == 1 else rows)


def interpolate(f: FieldOfLanes, solver: Solver, step: Step, picks: Picks, times: Tensor) -> Tensor:
    """Return the state at the picked save times (M, n), from times (T, L); f is the field of the step's lanes."""
    return solver.interpolate(picks.take(completed(f, solver, step)), picks.select(times))


class Tape(Observer):
    """Records what a replay needs: the accepted grid, the picks, and states to restart from.

    Args:
        room: how many states are kept at most while they are those before every so many steps. When full, every other
            state is dropped, so those kept stay evenly spread whatever the number of steps.
        save: the observer, asked before this one, whose picks are recorded.
    """

    def __init__(self, room: Callable[[int], float], save: Save | None) -> None:
        """Start empty."""
        self.room = room
        self.save = save
        self.length = 0
        self.stride = 1
        self.kept: list[tuple[int, tuple[Tensor, Carry]]] = []
        self.picks: dict[int, Picks] = {}
        self.starts: MutableSequence[Number] = []
        self.ends: MutableSequence[Number] = []
        self.lanes: list[Tensor | None] = []

    def ask(self, step: Step) -> "Tensor | int":
        """Count the lanes that moved."""
        return total(step.t1 != step.t0)

    def see(self, step: Step, count: int) -> None:
        """Record the step if any lane moved."""
        if not count:
            return
        if self.length % self.stride == 0:
            self._keep(self.length, step)
        if self.save is not None and self.save.latest is not None:
            self.picks[self.length] = self.save.latest
        if self.length == 0 and isinstance(step.t0, float):
            self.starts, self.ends = array("d"), array("d")  # 16 bytes a step
        self.length += 1
        self.starts.append(step.t0)
        self.ends.append(step.t1)
        self.lanes.append(step.lanes)

    def interval(self, index: int) -> tuple[Number, Number]:
        """Return the two ends of a step, for the lanes that it has; in one that rests they are equal."""
        return self.starts[index], self.ends[index]

    def _keep(self, index: int, step: Step) -> None:
        if len(self.kept) >= self.room(self.stride):
            self.thin()
            if index % self.stride:
                return
        self.kept.append((index, (step.y0, step.carry)))

    def thin(self) -> None:
        """Drop every other kept state."""
        self.stride *= 2
        self.kept = [entry for entry in self.kept if entry[0] % self.stride == 0]


class Record(Observer):
    """Keeps every accepted step whole, for dense output."""

    def __init__(self) -> None:
        """Start empty."""
        self.steps: list[Step] = []

    def ask(self, step: Step) -> "Tensor | int":
        """Count the lanes that moved."""
        return total(step.t1 != step.t0)

    def see(self, step: Step, count: int) -> None:
        """Keep the step if any lane moved."""
        if count:
            self.steps.append(step._replace(carry=()))


class Progress(Observer):
    """Reports the fraction of the interval done by the slowest lane that is still stepped, in thousandths."""

    def __init__(self, t0: Tensor, t1: Tensor, report: Callable[[int], None]) -> None:
        """Call ``report`` with 0 .. 1000 after each step from t0 to t1 (each (L,))."""
        self.t0 = t0.detach()
        self.span = (t1.detach() - self.t0).abs()
        self.report = report

    def ask(self, step: Step) -> Tensor:
        """Thousandths done."""
        done = (spread(step.t1, self.t0).detach() - self.t0).abs() / torch.where(self.span == 0, 1.0, self.span)
        return (1000 * torch.where(self.span == 0, 1.0, done).min()).to(torch.int64)

    def see(self, step: Step, count: int) -> None:
        """Pass the report on."""
        self.report(count)

    def narrow(self, rows: Tensor) -> None:
        """Follow the lanes that go on."""
        self.t0, self.span = self.t0.index_select(0, rows), self.span.index_select(0, rows)
