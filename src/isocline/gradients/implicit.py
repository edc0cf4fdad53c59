"""Derivatives of what is defined by an equation: event times, and steady states."""

from typing import Any

import torch
from torch import Tensor

from isocline.linear_systems import Product, gmres


def shift(residual: Tensor, matrix: Tensor) -> Tensor:
    """Return by how much the root of an equation shifts with its residual: zero, with the derivative ``-matrix^-1``.

    First derivatives only; infinite or nan where the matrix is singular.

    Args:
        residual: what should be zero, (L, m), with its history.
        matrix: its derivative with respect to what is solved for, (L, m, m), a constant.
    """

    def solve(bar: Tensor) -> Tensor:
        found: Tensor = torch.linalg.solve_ex(matrix.mT, bar.unsqueeze(2))[0]
        return found.squeeze(2)

    moved: Tensor = _Shift.apply(residual, solve)
    return moved


def shift_matrix_free(residual: Tensor, product: Product) -> Tensor:
    """Return the same where the matrix is known by the products of its transpose with vectors; solved by GMRES."""

    def solve(bar: Tensor) -> Tensor:
        tolerance = torch.finfo(bar.dtype).eps ** 0.75
        found = gmres(product, bar, tolerance)
        left = (product(found) - bar).norm(dim=1) > 100 * tolerance * bar.norm(dim=1)
        if bool(left.any()):
            raise RuntimeError(
                f"the gradient of a steady state of {bar.shape[1]} numbers was not found by GMRES in lane "
                f"{int(left.nonzero()[0])}: df/dy is singular or badly conditioned there; solve to a fixed time instead"
            )
        return found

    moved: Tensor = _Shift.apply(residual, solve)
    return moved


class _Shift(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, residual: Tensor, solve: Product) -> Tensor:
        ctx.solve = solve
        return torch.zeros_like(residual)

    @staticmethod
    def backward(ctx: Any, *bars: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "event times and steady states have first derivatives only, but create_graph=True asks for more; for "
                "higher derivatives solve to a fixed time, with gradient=isocline.DirectAdjoint()"
            )
        # Lanes that do not matter must not make nan of zero.
        idle = (bars[0] == 0).all(dim=1, keepdim=True)
        return torch.where(idle, 0.0, -ctx.solve(bars[0])), None
