"""Memory that is used again: of fresh memory every page costs about as much as computing what is written there."""

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import finalize

import torch
from torch import Tensor

LARGEST = 2**27
"""Most bytes kept for later."""

Shapes = tuple[tuple[torch.Size, torch.dtype], ...]


@dataclass(eq=False)
class Block:
    """Some tensors that are taken and given back together."""

    shapes: Shapes
    tensors: list[Tensor]

    @property
    def nbytes(self) -> int:
        """Their size."""
        return sum(x.nbytes for x in self.tensors)


_spare: list[Block] = []
"""The oldest first."""


def take(shapes: Sequence[tuple[torch.Size, torch.dtype]], device: torch.device) -> Block:
    """Return uninitialised tensors. CUDA's allocator keeps memory by itself."""
    key = tuple(shapes)
    for block in reversed(_spare.copy() if device.type == "cpu" else ()):
        if block.shapes == key and _claim(block):
            return block
    return Block(key, [torch.empty(shape, dtype=dtype, device=device) for shape, dtype in key])


def give_back_with(owner: object, block: Block) -> None:
    """Keep the tensors for later as soon as nothing uses their owner any more."""
    if block.tensors[0].device.type == "cpu":
        finalize(owner, _keep, block).atexit = False


def _claim(block: Block) -> bool:
    """Whether a block was still there: finalizers and other threads may change the list at any time."""
    try:
        _spare.remove(block)
    except ValueError:
        return False
    return True


def _keep(block: Block) -> None:
    _spare.append(block)
    while (kept := _spare.copy()) and sum(block.nbytes for block in kept) > LARGEST:
        _claim(kept[0])
