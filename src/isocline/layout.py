"""The user's structure (a tensor, or nested tuples, lists and dicts of them) as lanes, and back.

Inside the library a state is one tensor ``(L, n)``: L lanes, each with its own time and step size, of n numbers. A
joint solve is one lane that holds the whole batch; with ``batch_dims=b`` each index of the first b dimensions is one.
The numbers are real, float32 or float64: a complex number is two of them, and 16-bit floats are kept in 32 bits.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from isocline.numbers import Number
from isocline.precision import restored
from isocline.tree import Tree, align, describe, leaves, map_leaves, paths

INSIDE = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float32: torch.float32,
    torch.float64: torch.float64,
    torch.complex64: torch.float32,
    torch.complex128: torch.float64,
}
"""Dtypes that y0 may have, and of the numbers that they become: sums of 16-bit floats would lose small steps."""


@dataclass(frozen=True)
class Layout:
    """How a user's state maps to lanes."""

    like: Tree
    """The user's structure with None for every tensor."""
    shapes: tuple[torch.Size, ...]
    batch_shape: torch.Size
    time_shape: tuple[int, ...]
    """Shape of the time that f sees: broadcasts against the state."""
    dtypes: tuple[torch.dtype, ...]
    """Of the user's tensors."""
    sizes: tuple[int, ...]
    """Numbers a lane that each tensor holds."""
    dtype: torch.dtype
    """Of the numbers inside."""
    precision: torch.dtype
    """Real dtype in which f computes, and sees the time."""
    device: torch.device
    quadratures: tuple[bool, ...] = ()
    """Which tensors are not under error control; empty if all are."""

    @property
    def lanes(self) -> int:
        """Number of lanes L."""
        return prod(self.batch_shape)

    @property
    def structure(self) -> str:
        """The user's structure as something to compare."""
        return repr(self.like)

    @property
    def single(self) -> bool:
        """Whether the state is one bare tensor."""
        return self.like is None

    @property
    def is_complex(self) -> bool:
        """Whether any of the tensors is."""
        return any(dtype.is_complex for dtype in self.dtypes)

    def pack(self, tree: Tree, source: str = "f") -> Tensor:
        """Return the state or derivative ``tree`` as (L, n); raise if it does not match y0, naming its source."""
        if self.like is None and isinstance(tree, Tensor):
            return self._pack_one(tree, 0, source)
        rows = [self._pack_one(part, index, source) for index, part in enumerate(align(self.like, tree, source))]
        return rows[0] if len(rows) == 1 else torch.cat(rows, dim=1)

    def unpack(self, y: Tensor) -> Tree:
        """Return lanes (..., L, n) in the user's structure; further leading axes (save times) stay in front."""
        return self._unpack_one(y, 0) if self.like is None else self.build(self.leaves(y))

    def leaves(self, y: Tensor) -> list[Tensor]:
        """Return lanes (..., L, n) as the user's tensors, one by one."""
        return [self._unpack_one(part, index) for index, part in enumerate(y.split(self.sizes, dim=-1))]

    def judged(self) -> Tensor:
        """Return which numbers of a lane are under error control, (n,)."""
        marks = zip(self.quadratures, self.sizes, strict=True)
        return torch.cat([torch.full((size,), not mark, device=self.device) for mark, size in marks])

    def build(self, parts: Iterable[Any]) -> Tree:
        """Return parts, one for each tensor, in the user's structure."""
        rest = iter(parts)
        return map_leaves(lambda _: next(rest), self.like)

    def of_components(self, name: str, tree: Tree) -> Tensor:
        """Return a setting of each component (n,) from a number, a tensor, or the user's structure of such.

        Both parts of a complex number get the same.

        Raises:
            TypeError: another structure.
            ValueError: a tensor does not broadcast against the part of y0 that belongs to a lane.
        """
        if isinstance(tree, Real) or (isinstance(tree, Tensor) and tree.ndim == 0):
            tree = map_leaves(lambda _: torch.as_tensor(tree, dtype=self.dtype), self.like)
        batch_dims = len(self.batch_shape)
        try:
            values = align(self.like, tree)
        except TypeError:
            raise TypeError(
                f"{name} is {describe(tree)}; for each component give a tensor, or tensors in y0's structure"
            ) from None
        parts = []
        for value, shape, size in zip(values, self.shapes, self.sizes, strict=True):
            own = shape[batch_dims:]
            try:
                each = value.to(self.device, self.dtype).broadcast_to(own).flatten()
                parts.append(each.repeat_interleave(size // len(each)))
            except RuntimeError:
                raise ValueError(
                    f"{name} has a tensor of shape {tuple(value.shape)} that does not broadcast against {tuple(own)}, "
                    "the shape of a sample's state; it is the same for all samples"
                    if batch_dims
                    else f"{name} has a tensor of shape {tuple(value.shape)} that does not broadcast against y0's "
                    f"{tuple(own)}"
                ) from None
        return torch.cat(parts)

    def view_time(self, t: Number) -> Tensor:
        """Return times of lanes as f sees them: in its precision, 0-d in a joint solve, else (B, 1, ..., 1)."""
        if not isinstance(t, Tensor):
            return torch.full(self.time_shape, t, dtype=self.precision, device=self.device)
        return t.to(self.precision).reshape(self.time_shape)

    def of(self, count: int) -> "Layout":
        """Return the layout of ``count`` of the lanes, for one batch dimension."""
        shapes = tuple(torch.Size((count, *shape[1:])) for shape in self.shapes)
        time_shape = (count, *self.time_shape[1:])
        return replace(self, shapes=shapes, batch_shape=torch.Size((count,)), time_shape=time_shape)

    def _pack_one(self, part: Tensor, index: int, source: str) -> Tensor:
        part = restored(part, self.dtypes[index])
        self._check(part, index, source)
        rows = as_reals(part).reshape(self.lanes, -1)
        return rows if rows.dtype == self.dtype else rows.to(self.dtype)

    def _unpack_one(self, rows: Tensor, index: int) -> Tensor:
        lead, shape = rows.shape[:-2], self.shapes[index]
        return of_reals(rows, lead + shape if lead else shape, self.dtypes[index])

    def _check(self, part: Tensor, index: int, source: str) -> None:
        shape, dtype = self.shapes[index], self.dtypes[index]
        if part.shape == shape and part.dtype == dtype and part.device == self.device:
            return
        where = "" if self.single else f" at {list(paths(self.like))[index]}"
        what = f"{source} returned {describe(part)}{where}"
        if part.shape != shape:
            raise ValueError(f"{what} for a state of shape {tuple(shape)}; they must be equal")
        if part.dtype.is_complex and not dtype.is_complex:
            raise TypeError(f"{what} for a {dtype} state; solve for a complex y0, or return a real result")
        if part.dtype != dtype:
            raise TypeError(
                f"{what} for a {dtype} state; convert y0 or {source}'s result with .to({dtype}), so that "
                "both have one dtype"
            )
        raise ValueError(f"{what} on {part.device} for a state on {self.device}; move one of them")


def as_reals(x: Tensor) -> Tensor:
    """Return complex numbers as pairs of real ones in a last dimension; real ones as they are."""
    # Not as a view: its gradient would be one, too, and of a part of a tensor that may begin at an odd place.
    return torch.stack((x.real, x.imag), dim=-1) if x.is_complex() else x


def of_reals(x: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return real numbers in a shape and dtype: for complex ones they are the pairs of ``as_reals``."""
    x = torch.complex(*x.reshape(*shape, 2).unbind(-1)) if dtype.is_complex else x.reshape(shape)
    return x if x.dtype == dtype else x.to(dtype)


def make_layout(y0: Tree, batch_dims: int, quadratures: tuple[bool, ...] = ()) -> Layout:
    """Check the initial state and describe it; ``quadratures`` says which of its tensors were marked so, if any.

    Raises:
        TypeError: not tensors, not floating point or complex, or several precisions.
        ValueError: no tensors, empty tensors, or leading dimensions that do not fit ``batch_dims``.
    """
    tensors = list(leaves(y0))
    if not tensors:
        raise ValueError("y0 holds no tensors; pass a tensor or a tuple, list or dict of tensors")
    for tensor in tensors:
        _check_leaf(tensor, tensors[0], batch_dims)
    batch_shape = tensors[0].shape[:batch_dims]
    rank = max(tensor.ndim for tensor in tensors) - batch_dims
    return Layout(
        like=map_leaves(lambda _: None, y0),
        shapes=tuple(tensor.shape for tensor in tensors),
        batch_shape=batch_shape,
        time_shape=(*batch_shape, *([1] * rank)) if batch_dims else (),
        dtypes=tuple(tensor.dtype for tensor in tensors),
        sizes=tuple((1 + tensor.is_complex()) * prod(tensor.shape[batch_dims:]) for tensor in tensors),
        dtype=INSIDE[tensors[0].dtype],
        precision=tensors[0].dtype.to_real(),
        device=tensors[0].device,
        quadratures=quadratures if any(quadratures) else (),
    )


def _check_leaf(tensor: Any, first: Tensor, batch_dims: int) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"y0 must hold tensors, got {describe(tensor)}; write torch.as_tensor(y0) first")
    if tensor.dtype not in INSIDE:
        raise TypeError(f"y0 must be floating point or complex, got {tensor.dtype}; write y0.float() or y0.double()")
    if tensor.dtype.to_real() != first.dtype.to_real():
        raise TypeError(
            f"all tensors of y0 must have one dtype (or one real and its complex), got {first.dtype} and {tensor.dtype}"
        )
    if tensor.device != first.device:
        raise ValueError(f"all tensors of y0 must be on one device, got {first.device} and {tensor.device}")
    if tensor.numel() == 0:
        raise ValueError(f"y0 has an empty tensor of shape {tuple(tensor.shape)}: there is nothing to solve")
    if tensor.ndim < batch_dims:
        raise ValueError(f"batch_dims={batch_dims}, but y0 has a tensor of shape {tuple(tensor.shape)}")
    if tensor.shape[:batch_dims] != first.shape[:batch_dims]:
        raise ValueError(
            f"with batch_dims={batch_dims} the first dimensions of all tensors of y0 must agree, got shapes "
            f"{tuple(first.shape)} and {tuple(tensor.shape)}"
        )
