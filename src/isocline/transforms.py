"""Inside torch's transforms (``torch.func``, forward-mode AD): what a solve has to know of them.

There tensors are wrapped: by ``vmap`` one tensor stands for those of all samples, by ``grad`` and ``jvp`` it carries
derivatives that ``requires_grad`` knows nothing of. A solve consists of plain operations, which torch transforms one by
one; only where the host reads numbers, and where a derivative is made by hand, it has to know. This is the only file
that asks torch about it.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch._C._functorch import (
    TransformType,
    get_interpreter_stack,
    get_unwrapped,
    is_batchedtensor,
    is_functorch_wrapped_tensor,
    is_gradtrackingtensor,
    maybe_current_level,
    maybe_get_bdim,
)
from torch.autograd import forward_ad


def transforming() -> bool:
    """Whether a transform of ``torch.func``, or a level of forward-mode AD, is around."""
    return maybe_current_level() is not None or forward_ad._current_level >= 0


def vmapping() -> bool:
    """Whether ``torch.vmap`` is around."""
    return TransformType.Vmap in _kinds()


def pulling() -> bool:
    """Whether a transform for reverse-mode derivatives is around: ``grad``, ``vjp``, ``jacrev``."""
    return TransformType.Grad in _kinds()


def orders() -> int:
    """How many derivatives are taken by the transforms around."""
    kinds = _kinds()
    dual = forward_ad._current_level >= 0 and TransformType.Jvp not in kinds
    return kinds.count(TransformType.Grad) + kinds.count(TransformType.Jvp) + dual


def batched(x: object) -> bool:
    """Whether a tensor is different for the samples of a ``vmap``."""
    return any(map(is_batchedtensor, _unwrapping(x))) if isinstance(x, Tensor) else False


def followed(x: Tensor) -> bool:
    """Whether a derivative with respect to x may be asked for."""
    if not transforming():
        return x.requires_grad and torch.is_grad_enabled()
    if any(layer.requires_grad or is_gradtrackingtensor(layer) for layer in _unwrapping(x)):
        return True
    dual = forward_ad._current_level >= 0 and TransformType.Jvp not in _kinds()
    return dual and (maybe_current_level() is not None or forward_ad.unpack_dual(x).tangent is not None)


def recorded(x: Tensor) -> bool:
    """Whether reverse-mode differentiation, by autograd or a transform, watches x."""
    return any(layer.requires_grad for layer in _unwrapping(x))


def plain(x: Tensor) -> Tensor:
    """Return what is inside of all wrappers, with an axis for each vmap somewhere."""
    *_, inner = _unwrapping(x)
    return inner


def samples(x: Tensor) -> Tensor:
    """Return the values for all samples of the vmaps around, (S, *shape of x); S is 1 where there are none."""
    shape, x = x.shape, x.detach()
    while is_functorch_wrapped_tensor(x):
        x = get_unwrapped(x).movedim(maybe_get_bdim(x), 0) if is_batchedtensor(x) else get_unwrapped(x)
    return x.reshape(-1, *shape)


def as_lanes(x: Tensor) -> Tensor:
    """Return x (..., L) with the lanes of all samples side by side, (..., L S)."""
    return samples(x).movedim(0, -1).flatten(-2)


def _kinds() -> list[TransformType]:
    return [level.key() for level in get_interpreter_stack() or ()]


def _unwrapping(x: Tensor) -> Iterator[Tensor]:
    """Yield the tensor, what is inside of it, and so on."""
    yield x
    while is_functorch_wrapped_tensor(x):
        x = get_unwrapped(x)
        yield x
