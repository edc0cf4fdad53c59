"""A state that is a tensor, or a tuple of tensors side by side in one flat tensor."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Structure:
    """How the user's state maps to one tensor."""

    shapes: tuple[torch.Size, ...] | None
    """Of a tuple's tensors; None: the state is one tensor, as it is."""

    def pack(self, state: Any) -> Tensor:
        """Return one tensor; its dtype is the one that holds those of all parts."""
        if self.shapes is None:
            return state  # type: ignore[no-any-return]
        return torch.cat([part.reshape(-1) for part in state])

    def unpack(self, y: Tensor) -> Any:
        """Return the user's structure; further dimensions (save times) stay in front."""
        if self.shapes is None:
            return y
        parts, first = [], 0
        for shape in self.shapes:
            last = first + shape.numel()
            # A tuple, because view() without arguments is not the view of a 0-d tensor.
            parts.append(y[..., first:last].view((*y.shape[:-1], *shape)))
            first = last
        return tuple(parts)

    def tolerance(self, name: str, given: Any) -> Any:
        """Return a tolerance for the packed state: a number, or a tensor."""
        assert not (isinstance(given, Tensor) and given.requires_grad), f"{name} cannot require gradient"
        if isinstance(given, Tensor) and given.ndim == 0:
            return given.item()
        if self.shapes is None or not isinstance(given, (Tensor, Sequence)):
            return given
        assert len(given) == len(self.shapes), (
            f"If using tupled {name} it must have the same length as the tuple y0; got {len(given)} for "
            f"{len(self.shapes)}"
        )
        parts = zip(given, self.shapes, strict=True)
        return torch.cat([torch.as_tensor(part).reshape(-1).expand(shape.numel()) for part, shape in parts])


def structure_of(y0: Any) -> Structure:
    """Describe a state."""
    if isinstance(y0, Tensor):
        return Structure(None)
    assert isinstance(y0, tuple), f"y0 must be either a torch.Tensor or a tuple; got {type(y0).__name__}"
    return Structure(tuple(part.shape for part in y0))
