"""Linear systems ``(I - d J) x = r``, one a lane: by LU of a dense matrix, or matrix-free."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from isocline.numbers import Number, somewhere

Product = Callable[[Tensor], Tensor]
"""A matrix times vectors, lane by lane: (L, n) -> (L, n)."""


class System(Protocol):
    """A factored, or merely known, matrix."""

    def solve(self, r: Tensor) -> Tensor:
        """Return x (L, n) for right-hand sides r (L, n); inf or nan in lanes whose matrix is singular."""


class Dense(NamedTuple):
    """LU factors of dense matrices; made by ``dense``."""

    factors: Tensor
    """(L, n, n)"""
    pivots: Tensor
    """(L, n)"""

    def solve(self, r: Tensor) -> Tensor:
        """Substitute forwards and backwards."""
        x: Tensor = torch.linalg.lu_solve(self.factors, self.pivots, r.unsqueeze(2))
        return x.squeeze(2)


def dense(jacobian: Tensor, d: Number) -> Dense:
    """Factor ``I - d J`` for J (L, n, n) and d (L,); what cannot be factored does not raise."""
    jacobian = without_inf(jacobian)
    if isinstance(d, Tensor):
        d = d.to(jacobian.dtype).reshape(-1, 1, 1)
    matrix = torch.eye(jacobian.shape[1], dtype=jacobian.dtype, device=jacobian.device) - d * jacobian
    factors, pivots, _ = torch.linalg.lu_factor_ex(matrix)
    return Dense(factors, pivots)


def without_inf(matrix: Tensor) -> Tensor:
    """Return a matrix with nan for inf: one over inf would be zero, as if all were solved, and nobody would notice."""
    return torch.where(matrix.isfinite(), matrix, float("nan"))


class MatrixFree(NamedTuple):
    """A matrix that is known by its products only."""

    product: Product
    tolerance: float
    """Residual left, relative to the right-hand side."""

    def solve(self, r: Tensor) -> Tensor:
        """Solve by GMRES."""
        return gmres(self.product, r, self.tolerance)


DIRECTIONS = 100
"""Most directions that GMRES searches, and keeps."""


def gmres(product: Product, r: Tensor, tolerance: float, directions: int = DIRECTIONS) -> Tensor:
    """Return x (L, n) with ``|A x - r| <= tolerance |r|`` in every lane, or the best that so many directions give.

    One host synchronisation a direction.

    References:
        Saad & Schultz 1986, SIAM J. Sci. Stat. Comput. 7, doi:10.1137/0907058.
    """
    tiny = torch.finfo(r.dtype).tiny
    size = r.norm(dim=1, keepdim=True)
    basis = (r / size.clamp(min=tiny)).unsqueeze(2)
    columns: list[Tensor] = []
    for _ in range(min(directions, r.shape[1])):
        column, w = _orthogonal(basis, product(basis[:, :, -1]))
        length = w.norm(dim=1, keepdim=True)
        columns.append(torch.cat([column, length], dim=1))
        q, triangle = torch.linalg.qr(_hessenberg(columns), mode="complete")
        left = q[:, 0, -1].abs()
        if not somewhere(left > tolerance):
            break
        basis = torch.cat([basis, (w / length.clamp(min=tiny)).unsqueeze(2)], dim=2)
    count = len(columns)
    triangle = triangle[:, :count]
    # A lane that was done before the others has no more directions: empty columns.
    empty = torch.diag_embed((triangle.diagonal(dim1=1, dim2=2) == 0).to(r.dtype))
    weights = torch.linalg.solve_triangular(triangle + empty, (q[:, 0, :count] * size).unsqueeze(2), upper=True)
    x: Tensor = basis[:, :, :count] @ weights
    return x.squeeze(2)


def _orthogonal(basis: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Return the components (L, j) of w along the basis (L, n, j), and what is left of it: twice, against rounding."""
    total = basis.new_zeros(len(basis), basis.shape[2])
    for _ in range(2):
        part = (w.unsqueeze(1) @ basis).squeeze(1)
        w = w - (basis @ part.unsqueeze(2)).squeeze(2)
        total = total + part
    return total, w


def _hessenberg(columns: list[Tensor]) -> Tensor:
    """Return columns (L, 2), (L, 3), ... as one matrix (L, j + 1, j)."""
    rows = len(columns) + 1
    padded = [torch.nn.functional.pad(column, (0, rows - column.shape[1])) for column in columns]
    return torch.stack(padded, dim=2)
