"""How much tensor memory a function needs at its peak, and how many numbers a model has."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_memory(fn: Callable[[], object], device: torch.device | str = "cpu") -> int:
    """The peak of the tensor memory that `fn` allocates and holds at one time.

    What was alive before the call, such as a model's parameters, does not count; what a backward pass makes
    does. On the CPU the outputs of all operations are followed until they are freed; scratch memory inside an
    operation is not seen. On CUDA this is the allocator's own figure, scratch memory included.

    Args:
        fn: Called once, without arguments.
        device: Where `fn` computes.

    Returns:
        The peak, in bytes.
    """
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        fn()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    tracker = _StorageTracker()
    with tracker:
        fn()
    return tracker.peak


class _StorageTracker(TorchDispatchMode):
    """Follows each storage that an operation creates, forward or backward, until it is freed."""

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        # By identity, which is the storage's for as long as its finalizer has not run.
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # A storage first met as an input is older than the measurement: an alias of it must not count.
        for tensor in tree_leaves((args, kwargs)):
            self._meet(tensor, new=False)
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            self._meet(tensor, new=True)
        return result

    def _meet(self, value: Any, new: bool) -> None:
        if not isinstance(value, Tensor):
            return
        storage = value.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes() if new else 0
        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, key, size).atexit = False

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def parameters(model: nn.Module) -> int:
    """How many numbers a model has that are trained."""
    return sum(p.numel() for p in model.parameters())
