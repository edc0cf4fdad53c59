"""Polynomials through values at nodes of any spacing, a set of nodes for each lane; and at fixed points of [0, 1]."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

Floats = tuple[float, ...]


class Newton(NamedTuple):
    """Newton's form: ``P(s) = sum_(q<k) D_q N_q(s)`` goes through the values at the first k nodes.

    ``N_q(s) = (s - s_0) ... (s - s_(q-1))``, and ``D_q = sum_(j<=q) W_jq v_j`` are divided differences of the values v.
    """

    nodes: Tensor
    """(L, K)"""
    valid: Tensor
    """Which of them there are, (L, K): the first few."""
    differences: Tensor
    """W, (L, K, K), upper triangular."""

    def basis(self, points: Tensor) -> Tensor:
        """Return ``N_0, ..., N_K`` at points (Q,): (L, Q, K + 1)."""
        factors = points.unsqueeze(1) - self.nodes.unsqueeze(1)
        return pad(factors.cumprod(dim=2), (1, 0), value=1.0)

    def weights(self, coefficients: Tensor) -> Tensor:
        """Return what multiplies the values in sums ``sum_q c_q D_q``: (L, M, K) for coefficients c (L, M, K)."""
        return coefficients @ self.differences.mT


def newton(nodes: Tensor, valid: Tensor) -> Newton:
    """Prepare Newton's form on nodes (L, K), which differ where they are valid."""
    same = torch.eye(nodes.shape[1], dtype=torch.bool, device=nodes.device)
    apart = valid.unsqueeze(1) & valid.unsqueeze(2) & ~same
    gaps = torch.where(apart, nodes.unsqueeze(2) - nodes.unsqueeze(1), 1.0)
    return Newton(nodes, valid, gaps.cumprod(dim=2).reciprocal().triu())


def gauss(count: int) -> tuple[Floats, Floats]:
    """Return points and weights of Gauss-Legendre quadrature on [0, 1]: exact up to degree ``2 count - 1``."""
    points, weights = np.polynomial.legendre.leggauss(count)
    return tuple(((points + 1) / 2).tolist()), tuple((weights / 2).tolist())


def chebyshev(count: int) -> Floats:
    """Return Chebyshev's points from 1 to 0, both ends included: interpolation on them is well conditioned."""
    return tuple(((1 + np.cos(np.linspace(0, np.pi, count))) / 2).tolist())


def through_chebyshev(count: int, integrated: bool) -> tuple[Floats, ...]:
    """Return what multiplies values at Chebyshev's points, for ``evaluate``: of polynomials that are zero at zero.

    They are the Lagrange polynomials of all points but zero, or the integrals from zero of those of all points. A row
    for each of Chebyshev's polynomials on [0, 1] has the coefficients of them all, divided by theta.
    """
    chebyshevs = np.polynomial.chebyshev
    found = np.linalg.inv(chebyshevs.chebvander(2 * np.array(chebyshev(count)) - 1, count - 1))
    found = chebyshevs.chebint(found, lbnd=-1) / 2 if integrated else found[:, :-1]
    # Fitted where theta is not zero.
    degree = len(found) - 2
    x = chebyshevs.chebpts1(degree + 1)
    quotients = chebyshevs.chebval(x, found).T / ((x + 1) / 2).reshape(-1, 1)
    rows = np.linalg.solve(chebyshevs.chebvander(x, degree), quotients)
    return tuple(map(tuple, rows.tolist()))


def evaluate(rows: tuple[Floats, ...], theta: Tensor) -> Tensor:
    """Return what multiplies the values, (M, ...), at theta (M,), from ``through_chebyshev``; exactly zero at zero.

    By recurrence: powers of theta would cancel.
    """
    x = 2 * theta - 1
    found = [torch.ones_like(x), x]
    while len(found) < len(rows):
        found.append(2 * x * found[-1] - found[-2])
    return theta.unsqueeze(1) * (torch.stack(found[: len(rows)], dim=1) @ constant(rows, theta.dtype, theta.device))


@lru_cache
def constant(values: "Floats | tuple[Floats, ...]", dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return numbers as a tensor, made once for each dtype and device."""
    with torch.inference_mode(False):  # a later use may be one that autograd watches
        return torch.tensor(values, dtype=dtype, device=device)
