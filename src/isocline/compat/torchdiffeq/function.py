"""The user's function as isocline evaluates it."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from isocline.compat.torchdiffeq.structure import Structure


class Function:
    """``func(t, y)`` over a packed state, with the freedoms that torchdiffeq leaves it.

    It may change y in place: its first call in a solve gets a copy, and if it did, so do all others. It may write its
    results into one buffer, return a list for a tuple, other shapes of as many numbers, and another dtype.
    """

    def __init__(self, func: Callable[..., Any], structure: Structure) -> None:
        """Know nothing of its habits yet."""
        self.func, self.structure = func, structure
        self.changes: bool | None = None
        """Whether it changes y; None before the first call."""

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        """Evaluate."""
        if self.changes is False:
            return self._evaluate(t, y)
        own = y.clone()
        dy = self._evaluate(t, own)
        if self.changes is None:
            self.changes = _changed(own)
        return dy

    def _evaluate(self, t: Tensor, y: Tensor) -> Tensor:
        dy = self.structure.pack(self.func(t, self.structure.unpack(y)))
        if dy.shape != y.shape:
            dy = dy.reshape(y.shape) if dy.numel() == y.numel() else dy.expand_as(y)
        if dy.dtype != y.dtype:
            dy = dy.to(y.dtype)
        # What was written in place may be a buffer that the next call overwrites.
        return dy.clone() if _changed(dy) else dy


def _changed(x: Tensor) -> bool:
    """Whether a tensor was written to since it was made; torch does not count that in inference mode."""
    return x.is_inference() or x._version > 0
