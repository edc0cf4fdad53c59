"""The user's structure (a tensor, or nested tuples, lists and dicts of them) as lanes, and back.

Inside the library a state is one tensor ``(L, n)``: L lanes, each with its own time and step size, of n numbers. A
joint solve is one lane that holds the whole batch; with ``batch_dims=b`` each index of the first b dimensions is one.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import prod
from numbers import Real
from typing import Any, NamedTuple
from weakref import ReferenceType, ref

import torch
from torch import Tensor

from isocline.numbers import Number
from isocline.per_lane import take_lanes, take_rows
from isocline.split import Split
from isocline.tree import Tree, align, describe, leaves, map_leaves, paths


@dataclass(frozen=True)
class Layout:
    """How a user's state maps to lanes."""

    like: Tree
    """The user's structure with None for every tensor."""
    shapes: tuple[torch.Size, ...]
    batch_shape: torch.Size
    time_shape: tuple[int, ...]
    """Shape of the time that f sees: broadcasts against the state."""
    sizes: tuple[int, ...]
    """Numbers a lane that each tensor holds."""
    dtype: torch.dtype
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

    def pack(self, tree: Tree, source: str = "f") -> Tensor:
        """Return the state or derivative ``tree`` as (L, n); raise if it does not match y0, naming its source."""
        if self.like is None and isinstance(tree, Tensor):
            self._check(tree, 0, source)
            return tree.reshape(self.lanes, -1)
        parts = align(self.like, tree, source)
        for index, part in enumerate(parts):
            self._check(part, index, source)
        rows = [part.reshape(self.lanes, -1) for part in parts]
        return rows[0] if len(rows) == 1 else torch.cat(rows, dim=1)

    def unpack(self, y: Tensor) -> Tree:
        """Return lanes (..., L, n) in the user's structure; further leading axes (save times) stay in front."""
        lead = y.shape[:-2]
        if self.like is None:
            return y.reshape(lead + self.shapes[0] if lead else self.shapes[0])
        parts = zip(y.split(self.sizes, dim=-1), self.shapes, strict=True)
        return self.build(part.reshape(lead + shape) for part, shape in parts)

    def leaves(self, y: Tensor) -> list[Tensor]:
        """Return lanes (L, n) as the user's tensors, one by one."""
        return [part.reshape(shape) for part, shape in zip(y.split(self.sizes, dim=-1), self.shapes, strict=True)]

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

        Raises:
            TypeError: another structure.
            ValueError: a tensor does not broadcast against the part of y0 that belongs to a lane.
        """
        if isinstance(tree, Real) or (isinstance(tree, Tensor) and tree.ndim == 0):
            tree = map_leaves(lambda _: torch.as_tensor(tree, dtype=torch.float64), self.like)
        batch_dims = len(self.batch_shape)
        try:
            values = align(self.like, tree)
        except TypeError:
            raise TypeError(
                f"{name} is {describe(tree)}; for each component give a tensor, or tensors in y0's structure"
            ) from None
        parts = []
        for value, shape in zip(values, self.shapes, strict=True):
            own = shape[batch_dims:]
            try:
                parts.append(value.to(self.device, self.dtype).broadcast_to(own).flatten())
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
        """Return times of lanes as f sees them: in the state's dtype, 0-d in a joint solve, else (B, 1, ..., 1)."""
        if not isinstance(t, Tensor):
            return torch.full(self.time_shape, t, dtype=self.dtype, device=self.device)
        return t.to(self.dtype).reshape(self.time_shape)

    def of(self, count: int) -> "Layout":
        """Return the layout of ``count`` of the lanes, for one batch dimension."""
        shapes = tuple(torch.Size((count, *shape[1:])) for shape in self.shapes)
        time_shape = (count, *self.time_shape[1:])
        return replace(self, shapes=shapes, batch_shape=torch.Size((count,)), time_shape=time_shape)

    def _check(self, part: Tensor, index: int, source: str) -> None:
        shape = self.shapes[index]
        if part.shape == shape and part.dtype == self.dtype and part.device == self.device:
            return
        where = "" if self.single else f" at {list(paths(self.like))[index]}"
        what = f"{source} returned {describe(part)}{where}"
        if part.shape != shape:
            raise ValueError(f"{what} for a state of shape {tuple(shape)}; they must be equal")
        if part.dtype != self.dtype:
            raise TypeError(
                f"{what} for a {self.dtype} state; convert y0 or {source}'s result with .to({self.dtype}), so that "
                "both have one dtype"
            )
        raise ValueError(f"{what} on {part.device} for a state on {self.device}; move one of them")


def make_layout(y0: Tree, batch_dims: int, quadratures: tuple[bool, ...] = ()) -> Layout:
    """Check the initial state and describe it; ``quadratures`` says which of its tensors were marked so, if any.

    Raises:
        TypeError: not tensors, not floating point, or several dtypes.
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
        sizes=tuple(prod(tensor.shape[batch_dims:]) for tensor in tensors),
        dtype=tensors[0].dtype,
        device=tensors[0].device,
        quadratures=quadratures if any(quadratures) else (),
    )


def _check_leaf(tensor: Any, first: Tensor, batch_dims: int) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"y0 must hold tensors, got {describe(tensor)}; write torch.as_tensor(y0) first")
    if tensor.is_complex():
        raise TypeError(f"y0 must be real, got {tensor.dtype}; solve for torch.view_as_real(y0)")
    if not tensor.is_floating_point():
        raise TypeError(f"y0 must be floating point, got {tensor.dtype}; write y0.float() or y0.double()")
    if tensor.dtype != first.dtype:
        raise TypeError(f"all tensors of y0 must have one dtype, got {first.dtype} and {tensor.dtype}")
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


class Window(NamedTuple):
    """The times that a field may see, as f sees them; see ``breaks``."""

    low: Tensor
    high: Tensor


def inside(t: Tensor, window: Window | None) -> Tensor:
    """Return times moved into the window, which is a matter of rounding, so their gradient stays."""
    return t if window is None else t + (t.clamp(*window) - t).detach()


class Field:
    """The user's vector field over lanes: ``field(t, y (L, n)) -> dy (L, n)``, counting its evaluations.

    Args:
        function: evaluated as ``function(t, y, *args)``.
        args: its further arguments.
        layout: of its state.
        per_lane: which leaves of ``args``, counted in order, are tensors with a row for each lane.
    """

    def __init__(
        self,
        function: Callable[..., Tree],
        args: tuple[Any, ...],
        layout: Layout,
        per_lane: frozenset[int] = frozenset(),
    ) -> None:
        """Count from zero."""
        self.function = function
        self.args = args
        self.layout = layout
        self.per_lane = per_lane
        self.evaluations = 0
        self.spared = 0
        """Lanes that were not evaluated, summed over evaluations."""
        self.jacobians = 0
        """Jacobians that methods asked for, each of all lanes."""
        self.window: Window | None = None
        self._last: tuple[ReferenceType[Tensor], int] | None = None

    def like(self, function: Callable[..., Tree], args: tuple[Any, ...]) -> "Field":
        """Return the same field with another function and arguments; it counts for itself."""
        other = Field(function, args, self.layout, self.per_lane)
        other.window = self.window
        return other

    @property
    def rows(self) -> int:
        """Lanes evaluated, summed over evaluations."""
        return self.evaluations * self.layout.lanes - self.spared

    def __call__(self, t: Number, y: Tensor) -> Tensor:
        """Evaluate the field once, for all lanes."""
        return self.evaluate(t, y, self.layout, self.args, self.window)

    def of(self, lanes: Tensor | None) -> "Field | Part":
        """Return the field over some lanes (A,), counted by this one: ``(t (A,), y (A, n)) -> (A, n)``."""
        if lanes is None:
            return self
        return Part(self, self.layout, self.args, self.window).of(self.layout.of(len(lanes)), lanes)

    def apply(self, function: Callable[..., Any], t: Number, y: Tensor) -> Any:
        """Return what another function of the user gives for the arguments that f gets; uncounted."""
        return Part(self, self.layout, self.args, self.window).apply(function, t, y)

    def parts(self) -> "tuple[Part, Part] | None":
        """Return the explicit and the implicit part, if the function is in two parts."""
        return Part(self, self.layout, self.args, self.window).parts()

    def count_jacobian(self) -> None:
        """Count a Jacobian of this field."""
        self.jacobians += 1

    def beside(self, source: Tensor) -> "Part":
        """Return the field for lanes put in the place of others: row i has the arguments of lane ``source[i]``.

        Where no gradients are recorded it is the field as it is: then nothing of such rows is used.
        """
        return Part(self, self.layout, self.args, self.window).beside(source)

    def evaluate(
        self,
        t: Number,
        y: Tensor,
        layout: Layout,
        args: tuple[Any, ...],
        window: "Window | None" = None,
        function: Callable[..., Tree] | None = None,
    ) -> Tensor:
        """Evaluate for the lanes of a layout; ``function`` is a part of the field's, None all of it."""
        self.evaluations += 1
        before = _version(y)
        dy = layout.pack((function or self.function)(inside(layout.view_time(t), window), layout.unpack(y), *args))
        if _version(y) != before:
            raise RuntimeError("f changed y in place, which is the solver's own; work on a copy: y = y.clone()")
        self._check_last(dy)
        return dy

    def _check_last(self, dy: Tensor) -> None:
        """Refuse a field that writes all its results into one buffer: the earlier ones are still needed."""
        if self._last is not None:
            last, version = self._last
            if (earlier := last()) is not None and _version(earlier) != version:
                raise RuntimeError("f overwrote the tensor it returned before; return a new one, or a .clone()")
        self._last = ref(dy), _version(dy)


@dataclass(frozen=True)
class Part:
    """A field with the arguments of some of its lanes, or one of its two parts."""

    field: Field
    layout: Layout
    args: tuple[Any, ...]
    window: "Window | None" = None
    function: Callable[..., Tree] | None = None
    """One of the two parts of a function; None is the whole."""

    def __call__(self, t: Number, y: Tensor) -> Tensor:
        """Evaluate once, for these lanes."""
        self.field.spared += self.field.layout.lanes - self.layout.lanes
        return self.field.evaluate(t, y, self.layout, self.args, self.window, self.function)

    def of(self, layout: Layout, lanes: Tensor) -> "Part":
        """Return it with a layout for these lanes, or for lanes put in the place of others."""
        args = take_lanes(self.args, self.field.per_lane, lanes, layout.batch_shape)
        window = self.window
        if window is not None:
            window = Window(*(take_rows(end, lanes, layout.batch_shape) for end in window))
        return replace(self, layout=layout, args=args, window=window)

    def apply(self, function: Callable[..., Any], t: Number, y: Tensor) -> Any:
        """Return what another function of the user gives for the arguments that f gets; uncounted."""
        return function(inside(self.layout.view_time(t), self.window), self.layout.unpack(y), *self.args)

    def parts(self) -> "tuple[Part, Part] | None":
        """Return the explicit and the implicit part, if the field's function is in two parts."""
        whole = self.field.function
        if not isinstance(whole, Split):
            return None
        return replace(self, function=whole.explicit), replace(self, function=whole.implicit)

    def count_jacobian(self) -> None:
        """Count a Jacobian of the whole field's."""
        self.field.count_jacobian()

    def beside(self, source: Tensor) -> "Part":
        """Return it for lanes put in the place of others."""
        if not torch.is_grad_enabled():
            return self
        return self.of(self.layout, source)


def _version(x: Tensor) -> int:
    """How often a tensor was changed in place; torch counts it for all but inference tensors."""
    return 0 if x.is_inference() else x._version
