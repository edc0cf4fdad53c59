"""Error, evaluations and time of every method on a problem, over the tolerances."""

import warnings
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

from benchmarks.problems import Problem
from benchmarks.work_precision.methods import Run, names, solver

Point = dict[str, Any]
TOLERANCES = tuple(10.0**-k for k in range(3, 12))


def measure(problem: Problem, tolerances: tuple[float, ...], most_seconds: float) -> dict[str, list[Point]]:
    """Return the points of each method; a method that takes longer than ``most_seconds`` for one goes no further."""
    return {name: list(series(problem, name, tolerances, most_seconds)) for name in names(problem)}


def series(problem: Problem, name: str, tolerances: tuple[float, ...], most_seconds: float) -> Iterator[Point]:
    for tolerance in tolerances:
        run, seconds = timed(solver(problem, name, tolerance))
        error = None if run.end is None else problem.error(run.end)
        yield {"tolerance": tolerance, "error": error, **run.counts, "seconds": seconds}
        if seconds > most_seconds:
            return


def timed(call: Callable[[], Run], again: float = 0.2) -> tuple[Run, float]:
    """Return a run, and the least time of up to three; those that take long are run once."""
    best = float("inf")
    for _ in range(3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SciPy's, where it gives up
            start = perf_counter()
            run = call()
            best = min(best, perf_counter() - start)
        if best > again:
            break
    return run, best
