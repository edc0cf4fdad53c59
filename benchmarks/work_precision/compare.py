"""Work at equal error, interpolated between the tolerances."""

from math import exp, log
from typing import Any

import numpy as np

from benchmarks.problems.problem import references

Point = dict[str, Any]
LEVELS = 25
"""At how many errors, evenly spread in the logarithm over those that both reach, work is compared."""

LARGEST_ERROR = 0.1
"""What is further off is no solution."""


def smallest_error(problem: str) -> float:
    """Return the error below which the reference itself, or rounding, decides."""
    digits = references()[problem].get("digits", {})
    return float(10 ** -min(max(digits.values(), default=12.5) - 0.5, 12.5))


def curve(points: list[Point], smallest: float, work: str) -> tuple[list[float], list[float]]:
    """Return log error, rising, and log work."""
    usable = [p for p in points if p["error"] is not None and smallest < p["error"] < LARGEST_ERROR]
    usable.sort(key=lambda p: p["error"])
    return [log(p["error"]) for p in usable], [log(p[work]) for p in usable]


def ratio(ours: list[Point], theirs: list[Point], smallest: float, work: str = "evaluations") -> float | None:
    """Return our work over theirs at equal error, the geometric mean over errors that both reach; None if none."""
    (x, u), (y, v) = curve(ours, smallest, work), curve(theirs, smallest, work)
    if len(x) < 2 or len(y) < 2:
        return None
    low, high = max(x[0], y[0]), min(x[-1], y[-1])
    if low >= high:
        return None
    at = np.linspace(low, high, LEVELS)
    return float(np.exp(np.mean(np.interp(at, x, u) - np.interp(at, y, v))))


def mean(ratios: list[float]) -> float:
    """Geometric mean."""
    return exp(sum(map(log, ratios)) / len(ratios))
