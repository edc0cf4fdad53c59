"""Cubic Hermite interpolation, for methods that have no interpolant of their own."""

from torch import Tensor

from isocline.numbers import Number, column, where
from isocline.state import Step


def fraction(step: Step, t: Tensor) -> Tensor:
    """Return how far into the step the times t (M,) are: (M,), 0 at its start and 1 at its end."""
    h = step.t1 - step.t0
    theta: Tensor = (t - step.t0) / where(h == 0, 1.0, h)
    return theta


def hermite(step: Step, t: Tensor, moved: Tensor, f0: Tensor, f1: Tensor) -> Tensor:
    """Return the cubic (M, n) that leaves y0 with slope f0 and ends at y0 + moved with slope f1; it errs by O(h^4).

    Args:
        step: the step, of M rows or one.
        t: times in it (M,).
        moved: y1 - y0.
        f0: f at its start.
        f1: f at its end.
    """
    theta = fraction(step, t)
    h: Number = step.t1 - step.t0
    first, last = theta * (1 - theta) ** 2, -(theta**2) * (1 - theta)
    straight: Tensor = column(theta**2 * (3 - 2 * theta), moved) * moved
    bent: Tensor = column(h * first, f0) * f0 + column(h * last, f1) * f1
    return step.y0 + straight + bent
