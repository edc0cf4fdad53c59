"""The user's vector field over lanes: all of them, or some; counted, and held to its side of a break."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from weakref import ReferenceType, ref

import torch
from torch import Tensor

from isocline.layout import Layout
from isocline.numbers import Number
from isocline.per_lane import take_lanes, take_rows
from isocline.precision import autocast_of
from isocline.split import Split
from isocline.tree import Tree, describe


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
        self.autocast = autocast_of(layout.device)
        """Enters the autocast under which the user called."""
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
        other.window, other.autocast = self.window, self.autocast
        return other

    @property
    def rows(self) -> int:
        """Lanes evaluated, summed over evaluations."""
        return self.evaluations * self.layout.lanes - self.spared

    def __call__(self, t: Number, y: Tensor) -> Tensor:
        """Evaluate the field once, for all lanes."""
        return self.evaluate(t, y, self.layout, self.args, self.window)

    def has_history(self, t: Number, y: Tensor) -> bool:
        """Whether y, or anything that f uses, requires grad; costs an evaluation if y does not."""
        return torch.is_grad_enabled() and (y.requires_grad or self(t, y).requires_grad)

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
        time = inside(layout.view_time(t), window)
        with self.autocast():
            state = layout.unpack(y)
            try:
                returned = (function or self.function)(time, state, *args)
            except Exception as error:
                call = "f(t, y, *args)" if args else "f(t, y)"
                error.add_note(f"isocline called {call}: t is {describe(time)}, y is {describe(state)}")
                raise
            dy = layout.pack(returned)
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
        time = inside(self.layout.view_time(t), self.window)
        with self.field.autocast():
            return function(time, self.layout.unpack(y), *self.args)

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
