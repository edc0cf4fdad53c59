"""What ``solve`` returns, and what it raises."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from isocline.graph_break import outside_graphs
from isocline.numbers import everywhere, fetch, spread, total
from isocline.precision import without_autocast
from isocline.restart import SolverState
from isocline.state import ADVICE, State, Status, ended_well
from isocline.transforms import as_lanes
from isocline.tree import Tree, describe

COUNTS = "evaluations", "steps", "accepted", "rejected", "rows", "jacobians"


@dataclass
class Stats:
    """Counts of work. Per lane where lanes differ: integer tensors of the batch shape (0-d in a joint solve).

    Args:
        evaluations: calls of f, over all lanes at once: an int.
        rows: lanes that f was evaluated for, summed over its calls: an int. In a joint solve there is one lane; with
            ``batch_dims`` each call is for the samples that have not ended.
        steps: attempted steps.
        accepted: accepted steps.
        rejected: rejected steps.
        jacobians: Jacobians of f that an implicit method evaluated, over all lanes at once: an int.
        backward: the same for the backward pass (with events, of all segments that were differentiated so far); None
            until ``backward()`` ran, and always with ``DirectAdjoint``, which evaluates nothing again.
    """

    evaluations: int
    steps: "Tensor | int"
    accepted: "Tensor | int"
    rejected: "Tensor | int"
    backward: "Stats | None" = field(default=None)
    rows: int = 0
    jacobians: int = 0

    def plus(self, other: "Stats") -> "Stats":
        """Return the counts of both together."""
        return Stats(**{name: getattr(self, name) + getattr(other, name) for name in COUNTS})

    def total(self) -> "Stats":
        """Return the counts summed over lanes, as ints (one host synchronisation), without those of backward."""
        counts = zip(COUNTS, fetch([total(getattr(self, name)) for name in COUNTS]), strict=True)
        return Stats(**dict(counts))  # type: ignore[arg-type]


class SolveError(RuntimeError):
    """A solve that did not reach its end.

    Args:
        message: where, which lanes, what to try.
        solution: what was reached; states that were not are nan. None in a backward pass.
    """

    def __init__(self, message: str, solution: "Solution | None" = None) -> None:
        """Keep the partial solution."""
        super().__init__(message)
        self.solution = solution


@dataclass(frozen=True)
class Solution:
    """The solution of an initial value problem.

    Args:
        ts: save times, float64 (float32 on devices without it): (T,), or (T, *batch) where lanes have their own.
        ys: states at ts, time axis first, in y0's structure: each tensor (T, *shape of y0's). Not reached: nan.
        status: a ``Status`` a lane, int64, of the batch shape (0-d in a joint solve).
        stats: counts of evaluations and steps.
        event_t: with events, when one ended each lane, float64, of the batch shape; nan where none did.
        event_y: the state then, in y0's structure and shape. Events leave ``ts`` and ``ys`` as they are: at save times
            that were not reached ``ys`` is nan.
        event_index: which of the events it was, -1 for none.
        event_ts: all times at which the event happened, in order: (K, *batch), with nan behind a lane's last. For a
            sequence of events a tuple of these.
        event_ys: the states then, (K, *shape of y0's), before the jump if there is one; likewise.
        state: where the solver stands at the end, for another solve to go on from; None if there were events or
            ``jump_ts``.
        interpolant: with ``dense=True``; call the solution instead.

    Example:
        >>> import isocline as iso, torch
        >>> sol = iso.solve(lambda t, y: -y, torch.ones(3), (0.0, 1.0), dense=True)
        >>> sol.ys.shape, sol(0.5).shape, sol(torch.linspace(0, 1, 7)).shape
        (torch.Size([2, 3]), torch.Size([3]), torch.Size([7, 3]))
    """

    ts: Tensor
    ys: Tree
    status: Tensor
    stats: Stats
    interpolant: Callable[[Tensor], Tree] | None = None
    event_t: Tensor | None = None
    event_y: Tree = None
    event_index: Tensor | None = None
    event_ts: "Tensor | tuple[Tensor, ...] | None" = None
    event_ys: Tree = None
    state: SolverState | None = None

    def __repr__(self) -> str:
        """Say what was solved, how it ended and what it cost, without the numbers themselves."""
        times = f"{len(self.ts)} times from {self.ts[0].min().item():.6g} to {self.ts[-1].max().item():.6g}"
        ended = Counter(Status(status).name for status in self.status.flatten().tolist())
        how = ", ".join(name if self.status.ndim == 0 else f"{count} {name}" for name, count in ended.items())
        work = f"{self.stats.evaluations} evaluations, {int(torch.as_tensor(self.stats.steps).sum())} steps"
        return f"Solution(ys={describe(self.ys)}, {times}; {how}; {work})"

    @outside_graphs
    def __call__(self, t: "Tensor | float") -> Tree:
        """Return the state at any time between start and end, by the method's own interpolant.

        Args:
            t: a time, or times (S,) for all lanes, or (S, *batch) for each. Outside the interval: ValueError.

        Returns:
            In y0's structure: y0's shapes for one time, else with S in front.
        """
        if self.interpolant is None:
            raise ValueError("this solution has no dense output; call solve(..., dense=True)")
        with without_autocast(self.ts.device):
            return self.interpolant(torch.as_tensor(t, dtype=self.ts.dtype, device=self.ts.device))

    @property
    def success(self) -> Tensor:
        """Whether each lane reached its end, or an event that ends it: bool, of the batch shape."""
        return ended_well(self.status)  # type: ignore[no-any-return]


def failure_message(state: State, t_end: Tensor, lanes: Tensor | None = None) -> str | None:
    """Return what went wrong, where, and what to try; None if every lane arrived. ``lanes`` says which the rows are."""
    if everywhere(ended_well(state.status)):
        return None
    each = (spread(x, t_end) for x in (state.t, state.status, state.steps))
    t, statuses, steps, t_end = (as_lanes(x) for x in (*each, t_end))
    failed = (~ended_well(statuses)).nonzero().flatten().tolist()
    names = list(range(len(statuses))) if lanes is None else lanes.tolist()
    lines = []
    for status in sorted(set(statuses[failed].tolist())):
        rows = [row for row in failed if statuses[row] == status]
        row, who = rows[0], "the solve"
        if len(statuses) > 1 or lanes is not None:
            who = f"{len(rows)} of {len(statuses)} lanes ({some([names[row] for row in rows])})"
        lines.append(
            f"{who} stopped at t={t[row].item():.6g} of {t_end[row].item():.6g} after "
            f"{steps[row].item()} steps, {Status(status).name}: {ADVICE[Status(status)]}"
        )
    return "; ".join(lines)


def some(lanes: list[int], most: int = 5) -> str:
    """Return the first few lanes, in words."""
    return ", ".join(map(str, lanes[:most])) + (", ..." if len(lanes) > most else "")
