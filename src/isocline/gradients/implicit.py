"""Derivatives of what is defined by an equation: event times, and steady states."""

from typing import Any

import torch
from torch import Tensor


def shift(residual: Tensor, matrix: Tensor) -> Tensor:
    """Return by how much the root of an equation shifts with its residual: zero, with the derivative ``-matrix^-1``.

    First derivatives only; infinite or nan where the matrix is singular.

    Args:
        residual: what should be zero, (L, m), with its history.
        matrix: its derivative with respect to what is solved for, (L, m, m), a constant.
    """
    moved: Tensor = _Shift.apply(residual, matrix)
    return moved


class _Shift(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, residual: Tensor, matrix: Tensor) -> Tensor:
        ctx.save_for_backward(matrix)
        return torch.zeros_like(residual)

    @staticmethod
    def backward(ctx: Any, *bars: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "event times and steady states have first derivatives only, but create_graph=True asks for more"
            )
        (matrix,) = ctx.saved_tensors
        found, _ = torch.linalg.solve_ex(matrix.mT, bars[0].unsqueeze(2))
        # Lanes that do not matter must not make nan of zero.
        return torch.where((bars[0] == 0).all(dim=1, keepdim=True), 0.0, -found.squeeze(2)), None
