"""Tolerances: one number, or one for each component of the state."""

from collections.abc import Hashable
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from isocline.checks import check_numbers
from isocline.tree import leaves, map_leaves

Tolerance = Any
"""A number, a tensor that broadcasts against the state of a lane, or the user's structure of such."""


def own_tolerance(name: str, tolerance: Tolerance) -> Tolerance:
    """Return a tolerance, copied where it is in tensors; raise TypeError if it is none."""
    if isinstance(tolerance, (Tensor, tuple, list, dict)):
        return map_leaves(lambda x: _leaf(name, x), tolerance)
    check_numbers(f"{name} must be a number, a tensor, or tensors in y0's structure", tolerance)
    return tolerance


def _leaf(name: str, x: object) -> Tensor:
    if isinstance(x, Tensor) and x.is_complex():
        raise TypeError(f"{name} must be real: it is for both parts of a complex number; got {x.dtype}")
    if isinstance(x, Tensor):
        return x.detach().clone()
    check_numbers(f"{name} must hold numbers or tensors", x)
    return torch.tensor(x, dtype=torch.float64)


def least(tolerance: Tolerance) -> float:
    """Return the smallest of the tolerances."""
    if isinstance(tolerance, Real):
        return float(tolerance)
    return float(min(x.min().item() if not bool(x.isnan().any()) else float("nan") for x in leaves(tolerance)))


def frozen(value: Any) -> Hashable:
    """Return a setting as something to compare by value."""
    if isinstance(value, Tensor):
        return (tuple(value.shape), *value.flatten().tolist())
    if isinstance(value, (tuple, list, dict)):
        return (repr(map_leaves(lambda _: None, value)), *map(frozen, leaves(value)))
    return value  # type: ignore[no-any-return]
