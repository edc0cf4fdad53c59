"""The polynomial through past slopes (values of f), for Adams' methods: its integral over the step, and within."""

import torch
from torch import Tensor

from isocline.numbers import column, where
from isocline.polynomials import Newton, chebyshev, constant, evaluate, gauss, through_chebyshev
from isocline.solvers.history import with_end
from isocline.state import Step

HIGHEST = 12
"""Highest order of Adams' methods."""

_POINTS, _WEIGHTS = gauss(HIGHEST // 2 + 1)
_WITHIN = chebyshev(HIGHEST + 1)
_INTEGRALS = through_chebyshev(HIGHEST + 1, integrated=True)


def over_step(nodes: Newton) -> tuple[Tensor, Tensor]:
    """Return of ``N_0, ..., N_K`` the integral from 0 to 1, and the value at 1: (L, K + 1) each."""
    points = constant((*_POINTS, 1.0), nodes.nodes.dtype, nodes.nodes.device)
    basis = nodes.basis(points)
    return constant(_WEIGHTS, basis.dtype, basis.device) @ basis[:, :-1], basis[:, -1]


def slopes(nodes: Newton, order: Tensor, past: Tensor, f1: Tensor) -> tuple[Tensor, ...]:
    """Return the polynomial through f1 (L, n) and as many past values (L, K, n) as the order (L,), at fixed points.

    The first of those points is the end of the step, the last its start: ``HIGHEST + 1`` tensors (L, n).
    """
    nodes = with_end(nodes, order)
    basis = nodes.basis(constant(_WITHIN, nodes.nodes.dtype, past.device))[:, :, :-1]
    weights = nodes.weights(basis * nodes.valid.unsqueeze(1)).to(past.dtype)
    return (weights @ torch.cat([f1.unsqueeze(1), past], dim=1)).unbind(1)


def integrate(step: Step, t: Tensor) -> Tensor:
    """Return the state within a step at t (M,), (M, n): ``y0`` plus the integral of the slopes.

    It has the slopes f at both ends. What it misses y1 by, since the step used the predicted value of f there, goes
    with ``theta^2 (3 - 2 theta)``.
    """
    h = step.t1 - step.t0
    theta = (t - step.t0) / where(h == 0, 1.0, h)
    bend = theta**2 * (3 - 2 * theta)
    inside, whole = (evaluate(_INTEGRALS, x) for x in (theta, torch.ones_like(theta)))
    weights = (column(h, inside) * (inside - bend.unsqueeze(1) * whole)).to(step.y0.dtype)
    y: Tensor = step.y0 + column(bend, step.y0) * (step.y1 - step.y0)
    for weight, slope in zip(weights.unsqueeze(2).unbind(1), step.stages, strict=True):
        y = torch.addcmul(y, weight, slope)
    return y
