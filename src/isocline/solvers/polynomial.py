"""Polynomials in the position within a step, of which interpolants are made."""

from functools import lru_cache

import torch
from torch import Tensor

from isocline.numbers import where
from isocline.polynomials import constant
from isocline.state import Step

Rows = tuple[tuple[float, ...], ...]


def polynomials(rows: Rows, step: Step, t: Tensor) -> Tensor:
    """Return polynomials without a constant term at ``theta = (t - t0) / (t1 - t0)``.

    Args:
        rows: for each of s polynomials the coefficients of theta, theta^2, ...
        step: a step with one row for each time, or one for all.
        t: times within it (M,).

    Returns:
        Tensor: (M, s), in the state's dtype.
    """
    h = step.t1 - step.t0
    theta = (t - step.t0) / where(h == 0, 1.0, h)
    matrix = _columns(rows, theta.dtype, theta.device)
    powers = [theta]
    while len(powers) < len(matrix):
        powers.append(powers[-1] * theta)
    return (torch.stack(powers, dim=1) @ matrix).to(step.y0.dtype)


@lru_cache
def _columns(rows: Rows, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the coefficients as (degree, s)."""
    degree = max(map(len, rows))
    return constant(tuple((*row, *[0.0] * (degree - len(row))) for row in rows), dtype, device).T.contiguous()
