"""A traced field as functions of lanes: what the compiled loops are made of."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from isocline.compiled.graph import Traced
from isocline.layout import Layout, make_layout
from isocline.per_lane import take_rows

Known = Sequence[Tensor]
"""f's value (L, n) somewhere, and what was kept there for its gradient."""


class Packed:
    """The field over lanes; in all methods t (L,), y (L, n), ``given`` = (inputs, leaves of the user's state)."""

    def __init__(self, traced: Traced, layout: Layout) -> None:
        """Keep what does not belong to one solve."""
        self.traced = traced.bare()
        self.layout = layout
        self.places = traced.differentiable
        """The inputs to differentiate by, besides t and y."""

    def evaluate(self, t: Tensor, y: Tensor, given: Any) -> Tensor:
        """Return f (L, n)."""
        layout, filled = self._fill(t, y, given)
        # An f that switches gradients off switches them on again: here that must not last.
        with torch.no_grad():
            return layout.pack(layout.build(self.traced.graph.module.forward(*filled)))

    def keep(self, t: Tensor, y: Tensor, given: Any) -> Known:
        """Return f (L, n), and what its gradient needs."""
        layout, filled = self._fill(t, y, given)
        assert self.traced.graph.halves is not None and self.traced.graph.joint is not None
        results = self.traced.graph.halves.forward.forward(*filled)
        count = self.traced.graph.joint.results
        return [layout.pack(layout.build(results[:count])), *results[count:]]

    def pull(self, t: Tensor, y: Tensor, given: Any, kept: Sequence[Tensor], bar: Tensor) -> list[Tensor]:
        """Return the vector-Jacobian product with bar (L, n): by t (L,), by y (L, n), and by each of ``places``."""
        layout, filled = self._fill(t, y, given)
        assert self.traced.graph.halves is not None and self.traced.graph.joint is not None
        found = self.traced.graph.halves.backward.forward(*filled, *kept, *layout.leaves(bar))
        bars = dict(zip(self.traced.graph.joint.wanted, found, strict=True))
        t_bar, *y_bars = (
            torch.zeros_like(x) if place not in bars else bars[place]
            for place, x in zip(
                (self.traced.time, *self.traced.state), (layout.view_time(t), *layout.leaves(y)), strict=True
            )
        )
        y_bar = layout.pack(layout.build(y_bars))
        return [t_bar.to(t.dtype).reshape(t.shape), y_bar, *(bars[place] for place in self.places)]

    def attach(self, t: Tensor, y: Tensor, given: Any, known: Known) -> Tensor:
        """Return the known value of f, differentiable in t, y and ``places``."""
        chosen = [given[0][place] for place in self.places]
        dy, *kept = known
        value: Tensor = _Attach.apply(self, given, dy, t, y, *chosen, *kept)
        return value

    def _fill(self, t: Tensor, y: Tensor, given: Any) -> tuple[Layout, list[Any]]:
        inputs, like = given
        layout = make_layout(self.layout.build(like), len(self.layout.batch_shape))
        return layout, self.traced.fill(layout.view_time(t), layout.leaves(y), inputs)


class Differentiable:
    """The field, differentiable in t, y and its inputs; the values of its first evaluations may be known already."""

    def __init__(self, packed: Packed, given: Any, known: Sequence[Known] = ()) -> None:
        """Begin with the first known value."""
        self.packed = packed
        self.given = given
        self.known = iter(known)

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        """Evaluate, or take the next known value."""
        inputs, like = self.given
        value = next(self.known, ())
        if not value:
            plain = [x.detach() if isinstance(x, Tensor) else x for x in inputs]
            value = self.packed.keep(t.detach(), y.detach(), (plain, like))
        return self.packed.attach(t, y, self.given, value)

    def beside(self, source: Tensor) -> "Differentiable":
        """Return it for lanes put in the place of others: row i has the arguments of lane ``source[i]``."""
        inputs, like = self.given
        batch = make_layout(self.packed.layout.build(like), len(self.packed.layout.batch_shape)).batch_shape
        places = self.packed.traced.per_lane
        rows = [take_rows(inputs[i], source, batch) for i in places]
        return Differentiable(self.packed, (fill_in(inputs, places, rows), like))


def fill_in(inputs: Sequence[Any], places: Sequence[int], chosen: Sequence[Tensor]) -> list[Any]:
    """Return the inputs with others in some places."""
    filled = list(inputs)
    for place, x in zip(places, chosen, strict=True):
        filled[place] = x
    return filled


class _Attach(torch.autograd.Function):
    """A known value with a derivative."""

    @staticmethod
    def forward(packed: Packed, given: Any, dy: Tensor, *sources: Tensor) -> Tensor:  # type: ignore[override]
        return dy.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.packed, ctx.given, _, *sources = inputs
        ctx.save_for_backward(*sources)

    @staticmethod
    def backward(ctx: Any, bar: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        packed: Packed = ctx.packed
        t, y, *sources = ctx.saved_tensors
        count = len(packed.places)
        chosen, kept = sources[:count], sources[count:]
        inputs, like = ctx.given
        given = fill_in(inputs, packed.places, chosen), like
        return None, None, None, *packed.pull(t, y, given, kept, bar), *([None] * len(kept))
