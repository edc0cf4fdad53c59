"""Counts of work over many solves."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from isocline.solution import Stats


class Work:
    """What the solves in a ``with iso.track() as work:`` did together: ints, summed over solves, samples and threads.

    Attributes:
        solves: how many there were, those that failed included.
        forward: their counts.
        backward: the counts of their backward passes so far, also of those that ran behind the block.

    Example:
        >>> import isocline as iso, torch
        >>> with iso.track() as work:
        ...     for _ in range(3):
        ...         sol = iso.solve(lambda t, y: -y, torch.ones(2), (0.0, 1.0))
        >>> work.solves, work.forward.evaluations == 3 * sol.stats.evaluations, work.backward.evaluations
        (3, True, 0)
    """

    def __init__(self) -> None:
        """Count from zero."""
        self.solves = 0
        self.forward = Stats(0, 0, 0, 0)
        self.backward = Stats(0, 0, 0, 0)
        self._lock = Lock()

    def add_forward(self, stats: Stats) -> None:
        """Count a solve."""
        done = stats.total()
        with self._lock:
            self.solves += 1
            self.forward = self.forward.plus(done)

    def add_backward(self, stats: Stats) -> None:
        """Count a backward pass of one."""
        done = stats.total()
        with self._lock:
            self.backward = self.backward.plus(done)

    def __repr__(self) -> str:
        """Show the counts."""
        return f"Work(solves={self.solves}, forward={self.forward}, backward={self.backward})"


_open: list[Work] = []
"""Of the whole process, because replicas of a layer are called in threads of their own."""


@contextmanager
def track() -> Iterator[Work]:
    """Count the work of all solves in the block, by layers or not, and of their backward passes.

    Blocks may be nested; each counts for itself. It costs one read from the device for each solve. Processes of
    data-parallel training count for themselves.

    Example:
        >>> import isocline as iso, torch
        >>> layer = iso.NeuralODE(lambda t, y: -y, gradient=iso.RecursiveCheckpointAdjoint())
        >>> y0 = torch.ones(8, 2, requires_grad=True)
        >>> with iso.track() as work:
        ...     for _ in range(10):
        ...         layer(y0).sum().backward()
        >>> work.forward.evaluations / work.solves == layer.stats.evaluations
        True
        >>> work.backward.steps == work.forward.accepted
        True
    """
    work = Work()
    _open.append(work)
    try:
        yield work
    finally:
        _open.remove(work)


def trackers() -> tuple[Work, ...]:
    """Return who counts now."""
    return tuple(_open)
