"""A step by extrapolation: of any even order, without a past."""

from torch import Tensor

from isocline.numbers import Number, column
from isocline.solvers.base import Field


def extrapolated(f: Field, t0: Number, t1: Number, y0: Tensor, f0: Tensor, columns: int) -> Tensor:
    """Return y1 (L, n) by midpoint steps extrapolated to size zero: of order ``2 columns``.

    ``columns**2`` evaluations, not counting ``f0``.

    References:
        Gragg 1965, SIAM J. Numer. Anal. 2, doi:10.1137/0702030; Hairer, Norsett & Wanner 1993, II.9.
    """
    rows: list[list[Tensor]] = []
    for j in range(1, columns + 1):
        row = [_midpoint(f, t0, t1, y0, f0, 2 * j)]
        for i in range(1, j):
            row.append(row[-1] + (row[-1] - rows[-1][i - 1]) / ((j / (j - i)) ** 2 - 1))
        rows.append(row)
    return rows[-1][-1]


def _midpoint(f: Field, t0: Number, t1: Number, y0: Tensor, f0: Tensor, count: int) -> Tensor:
    """Return y1 by Euler's step to the first of ``count`` points and the midpoint rule from there on."""
    h = (t1 - t0) / count
    before = y0
    y: Tensor = y0 + column(h, y0) * f0
    for i in range(1, count):
        before, y = y, before + column(2 * h, y0) * f(t0 + i * h, y)
    return y
