"""Arithmetic of what belongs to a lane: the same formulas for (L,) tensors and for Python numbers.

Several lanes, or a compiled loop, keep times, step sizes and statuses in tensors. A single lane that is stepped eagerly
keeps them in Python numbers: an operation on a float costs far less than one on a tensor of one element, and the loop
reads the size of the error once a step anyway. Code that must work for both uses the functions here instead of torch's.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

Number = Any
"""A tensor (L,), or a Python number for a single lane."""


WITHOUT_FLOAT64 = {"mps"}
"""Types of devices that have no float64."""


def time_dtype(device: torch.device) -> torch.dtype:
    """float64, whatever the state's dtype is, except on devices that have none."""
    return torch.float32 if device.type in WITHOUT_FLOAT64 else torch.float64


def spread(x: Number, like: Tensor) -> Tensor:
    """Return numbers as a tensor (L,) on the device of ``like``; times in its dtype, counts and statuses int64."""
    if isinstance(x, Tensor):
        return x
    return torch.full((1,), x, dtype=like.dtype if isinstance(x, float) else torch.int64, device=like.device)


def stack(xs: Sequence[Number], like: Tensor) -> Tensor:
    """Return a sequence of times as (N, L), in the dtype and on the device of ``like``."""
    if isinstance(xs[0], Tensor):
        return torch.stack(list(xs))
    return torch.tensor(xs, dtype=like.dtype, device=like.device).unsqueeze(1)


def where(condition: Number, a: Any, b: Any) -> Any:
    """``a`` in lanes where the condition holds, else ``b``; numbers, or rows of tensors (L, ...)."""
    if not isinstance(condition, Tensor):
        return a if condition else b
    like = a if isinstance(a, Tensor) else b
    if isinstance(like, Tensor) and like.ndim > condition.ndim:
        condition = condition.reshape(-1, *([1] * (like.ndim - 1)))
    return torch.where(condition, a, b)


def both(a: Number, b: Number) -> Number:
    """Logical and."""
    return a & b


def negate(a: Number) -> Number:
    """Logical not."""
    return ~a if isinstance(a, Tensor) else not a


def isfinite(x: Number) -> Number:
    """Whether neither inf nor nan."""
    return x.isfinite() if isinstance(x, Tensor) else math.isfinite(x)


def sign(x: Number) -> Number:
    """1.0, -1.0, or 0.0 for zero."""
    return x.sign() if isinstance(x, Tensor) else math.copysign(1.0, x) if x else 0.0


def column(x: Number, like: Tensor) -> Any:
    """Return what multiplies rows (L, n) of ``like``: (L, 1) in its dtype, or the Python number."""
    return x.to(like.dtype).unsqueeze(1) if isinstance(x, Tensor) else x


def clip(x: Number, low: float, high: float) -> Number:
    """Limit to [low, high]; nan stays nan in tensors."""
    if isinstance(x, Tensor):
        return x.clamp(low, high)
    return min(max(x, low), high)


def read(like: Number, tensors: Sequence[Tensor]) -> Sequence[Number]:
    """Return the tensors (L,) as numbers of the kind of ``like``: for Python numbers by one host synchronisation."""
    if isinstance(like, Tensor):
        return [x.to(like.dtype) for x in tensors]
    return torch.cat(tuple(tensors)).tolist()


def total(x: Number) -> "Tensor | int":
    """Sum over lanes of counts or flags."""
    return x.sum() if isinstance(x, Tensor) else int(x)


def fetch(counts: "Sequence[Tensor | int]") -> list[int]:
    """Return 0-d integer tensors and integers as integers, by at most one host synchronisation."""
    if not any(isinstance(count, Tensor) for count in counts):
        return list(counts)  # type: ignore[arg-type]
    device = next(count.device for count in counts if isinstance(count, Tensor))
    values: list[int] = torch.stack([torch.as_tensor(count, device=device) for count in counts]).tolist()
    return values
