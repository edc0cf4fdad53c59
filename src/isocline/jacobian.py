"""Derivatives of a field with respect to state and time, for methods that linearise it."""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from isocline.numbers import Number, spread, time_dtype
from isocline.solvers.base import Field


class Linear(NamedTuple):
    """A field near a point (t, y): ``f + J dy + f_t dt``."""

    f: Tensor
    """(L, n)"""
    by_state: Tensor
    """J (L, n, n): row i, column j is df_i/dy_j."""
    by_time: Tensor
    """f_t (L, n)."""


def linearize(f: Field, t: Number, y: Tensor, create_graph: bool = False) -> Linear:
    """Return f and its derivatives at (t (L,), y (L, n)), by one evaluation and n backward passes through it, batched.

    Lanes do not depend on each other, so row i of all their Jacobians comes from one product.

    Args:
        f: the field.
        t: time of each lane.
        y: states.
        create_graph: whether the derivatives are to be differentiated themselves; else they are constants.
    """
    like = torch.zeros((), dtype=time_dtype(y.device), device=y.device)
    with torch.enable_grad():
        t, y = (_leaf(x, create_graph) for x in (spread(t, like), y))
        dy = f(t, y)
        if not dy.requires_grad:
            zero = dy.unsqueeze(2) * y.new_zeros(y.shape[1])
            return Linear(dy, zero, torch.zeros_like(dy))
        by_state, by_time = rows(dy, (y, t), create_graph)
    by_time = by_time.squeeze(2).to(dy.dtype)
    return Linear(dy, by_state, by_time) if create_graph else Linear(dy.detach(), by_state.detach(), by_time.detach())


def _leaf(x: Tensor, create_graph: bool) -> Tensor:
    return x if create_graph and x.requires_grad else x.detach().requires_grad_()


def rows(dy: Tensor, inputs: Sequence[Tensor], create_graph: bool) -> list[Tensor]:
    """Return the derivatives of dy (L, n) with respect to each input (L, ...) as (L, n, numbers of a lane)."""
    lanes, n = dy.shape
    each = torch.eye(n, dtype=dy.dtype, device=dy.device).unsqueeze(1).expand(n, lanes, n)

    def pull(bar: Tensor, batched: bool) -> tuple[Tensor | None, ...]:
        return torch.autograd.grad(
            dy, inputs, bar, create_graph=create_graph, retain_graph=True, allow_unused=True, is_grads_batched=batched
        )

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*performance drop")
            found = pull(each, batched=True)
    except RuntimeError:  # an operation, or an autograd.Function of the user, that torch cannot batch
        rows = [pull(bar, batched=False) for bar in each]
        found = tuple(None if parts[0] is None else torch.stack(parts) for parts in zip(*rows, strict=True))
    missing = ((n, *x.shape) for x in inputs)
    filled = (dy.new_zeros(shape) if part is None else part for part, shape in zip(found, missing, strict=True))
    return [part.reshape(n, lanes, -1).transpose(0, 1) for part in filled]
