"""Stages that solve the equations ``z = h A f(y0 + z)`` together, as functions of all that the equations depend on."""

from typing import Any

import torch
from torch import Tensor

from isocline.history import own_leaf
from isocline.jacobian import jacobian_at, rows
from isocline.newton import SECOND
from isocline.newton import attached as by_newton_steps
from isocline.numbers import column
from isocline.polynomials import Floats, constant
from isocline.solvers.base import Field
from isocline.solvers.polynomial import Rows
from isocline.transforms import orders, transforming


def attached(f: Field, a: Rows, nodes: Floats, t0: Tensor, t1: Tensor, y0: Tensor, z: Tensor, watched: bool) -> Tensor:
    """Return the stages' increments z (L, s, n), which solve the equations, with their derivatives.

    ``watched`` says whether autograd may ask for them; transforms say so themselves.
    """
    if transforming():
        return _transformed(f, a, nodes, t0, t1, y0, z) if orders() or torch.is_grad_enabled() else z
    return _recorded(f, a, nodes, t0, t1, y0, z) if watched else z


def times_of(nodes: Floats, t0: Tensor, t1: Tensor) -> list[Tensor]:
    """Return the stages' times."""
    return [t1 if c == 1.0 else t0 + c * (t1 - t0) for c in nodes]


def _recorded(f: Field, a: Rows, nodes: Floats, t0: Tensor, t1: Tensor, y0: Tensor, z: Tensor) -> Tensor:
    """For autograd: the implicit function theorem in the backward pass."""
    points, values = [], []
    for t, x in zip(times_of(nodes, t0, t1), z.unbind(1), strict=True):
        point = y0 + x
        point = point if point.requires_grad else own_leaf(point)
        points.append(point)
        values.append(f(t, point))
    made = column(t1 - t0, y0).unsqueeze(2) * (constant(a, y0.dtype, y0.device) @ torch.stack(values, dim=1))
    if not made.requires_grad:
        return z
    solved: Tensor = _Implicit.apply(made, z, column(t1 - t0, y0).detach(), a, *points, *values)
    return solved


def _transformed(f: Field, a: Rows, nodes: Floats, t0: Tensor, t1: Tensor, y0: Tensor, z: Tensor) -> Tensor:
    """Inside transforms: Newton steps from the solution."""
    h = column(t1 - t0, y0)
    at = list(zip(times_of(nodes, t0, t1), z.unbind(1), strict=True))
    blocks = torch.stack([jacobian_at(f, t, (y0 + x).detach()) for t, x in at], dim=1)
    factors, pivots, _ = torch.linalg.lu_factor_ex(_matrix(a, h.detach(), blocks))

    def step(z: Tensor) -> Tensor:
        values = [f(t, y0 + x) for t, x in zip(times_of(nodes, t0, t1), z.unbind(1), strict=True)]
        left = h.unsqueeze(2) * (constant(a, y0.dtype, y0.device) @ torch.stack(values, dim=1)) - z
        change: Tensor = torch.linalg.lu_solve(factors, pivots, left.flatten(1).unsqueeze(2))
        return change.reshape(z.shape)

    return by_newton_steps(z, step)


def _matrix(a: Rows, h: Tensor, blocks: Tensor) -> Tensor:
    """Return the matrix of the equations of all stages from df/dy at each, (L, s, n, n): (L, s n, s n)."""
    lanes, s, n, _ = blocks.shape
    # Row (i, p), column (j, q): h a_ij df_p/dy_q at stage j.
    change = torch.einsum("ij,ljpq->lipjq", constant(a, blocks.dtype, blocks.device), blocks)
    return torch.eye(s * n, dtype=blocks.dtype, device=blocks.device) - h.unsqueeze(2) * change.reshape(
        lanes, s * n, s * n
    )


class _Implicit(torch.autograd.Function):
    """z, with the derivative of the solution of its equations; ``made`` is the right side for z held fixed."""

    @staticmethod
    def forward(ctx: Any, made: Tensor, z: Tensor, h: Tensor, a: Rows, *at: Tensor) -> Tensor:
        ctx.save_for_backward(h, *at)
        ctx.a = a
        return z.clone()

    @staticmethod
    def backward(ctx: Any, *bars: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(SECOND)
        h, *at = ctx.saved_tensors
        (bar,) = bars
        lanes, s, n = bar.shape
        blocks = torch.stack([_jacobian(value, point) for point, value in zip(at[:s], at[s:], strict=True)], dim=1)
        factors, pivots, _ = torch.linalg.lu_factor_ex(_matrix(ctx.a, h, blocks).mT)
        pulled = torch.linalg.lu_solve(factors, pivots, bar.reshape(lanes, s * n, 1)).reshape(bar.shape)
        return pulled, *[None] * (3 + 2 * s)


def _jacobian(value: Tensor, point: Tensor) -> Tensor:
    if not value.requires_grad:
        return value.unsqueeze(2) * value.new_zeros(value.shape[1])
    return rows(value, (point,), create_graph=False)[0]
