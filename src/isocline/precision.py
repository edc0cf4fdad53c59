"""Autocast: functions of the user run under it, as where ``solve`` was called; all else is in the state's precision."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

Enter = Callable[[], AbstractContextManager[object]]


def autocast_of(device: torch.device) -> Enter:
    """Return what enters the autocast that is on here again, later and elsewhere; nothing if it is off."""
    kind = device.type
    if not torch.is_autocast_enabled(kind):
        return nullcontext
    dtype = torch.get_autocast_dtype(kind)
    # Torch before 2.11 hands out weights that it converted without gradients where gradients are recorded, and they
    # are lost: pytorch/pytorch#65766.
    return lambda: torch.autocast(kind, dtype=dtype, cache_enabled=torch.is_grad_enabled())


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Switch autocast off, which would take a solver's own matrix products for those of a network."""
    kind = device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def restored(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what autocast made of other precision in the dtype it should have; any other mismatch is left."""
    if x.dtype == dtype or not torch.is_autocast_enabled(x.device.type):
        return x
    floats = x.is_floating_point() and dtype.is_floating_point
    return x.to(dtype) if floats and x.dtype.itemsize <= max(4, dtype.itemsize) else x
