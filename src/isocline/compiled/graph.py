"""The user's field as one graph with explicit inputs, and that graph with the inputs of one solve."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from isocline.compiled.fallback import NotCapturedError
from isocline.compiled.halves import Halves, Joint


@dataclass(eq=False)
class Graph:
    """A captured field, shared by all solves for which the front end's guards hold."""

    captured: GraphModule
    """As the front end made it, for autograd."""
    module: GraphModule
    """To evaluate without gradients."""
    joint: Joint | None
    """With its gradient, if it was captured with gradients on."""
    sizes: dict[int, tuple[int, int]]
    """Inputs that are sizes: which dimension of which other input they are."""
    family: int
    """The same for all graphs of one f."""
    halves: Halves | None = None
    """Of the joint graph, once it is known which inputs are t and y."""
    kept: dict[tuple[int, ...], tuple[Tensor, ...]] = field(default_factory=dict)
    """By the sizes among the inputs that were tried: what an evaluation keeps for its gradient, without data."""
    programs: dict[Any, Any] = field(default_factory=dict)
    """What was compiled over this graph."""

    def evaluate(self, inputs: Sequence[Any]) -> tuple[list[Tensor], list[Tensor]]:
        """Return f's results, and what it keeps for its gradient; nothing is differentiated."""
        module = self.module if self.halves is None else self.halves.forward
        # Without history also where the graph itself switches gradients on again, behind an f's own no_grad.
        try:
            with torch.no_grad():
                results = [x.detach() for x in module.forward(*inputs)]
        except RuntimeError as error:
            raise NotCapturedError(f"Its graph cannot be evaluated. {error}") from error
        count = len(results) if self.joint is None else self.joint.results
        return results[:count], results[count:]

    def fill(self, inputs: Sequence[Any]) -> list[Any]:
        """Return inputs with the sizes among them filled in."""
        filled = list(inputs)
        for place, (source, dim) in self.sizes.items():
            filled[place] = filled[source].shape[dim]
        return filled


@dataclass(frozen=True)
class Traced:
    """A graph with the inputs of one solve."""

    graph: Graph
    inputs: tuple[Any, ...]
    """Tensors (the user's own, with their history) and whole numbers."""
    time: int | None
    """Which of the inputs is t, if f uses it."""
    state: tuple[int | None, ...]
    """Which are the leaves of y."""
    y0: tuple[Tensor, ...]
    """The leaves of y0 in the user's shapes, without history."""
    per_lane: tuple[int, ...]
    """Which are arguments with a row for each lane."""
    kept: tuple[Tensor, ...]
    """What an evaluation keeps for its gradient, without data."""

    def fill(self, t: Tensor, y: Sequence[Tensor], inputs: Sequence[Any]) -> list[Any]:
        """Return inputs with all that changes between evaluations: t in the user's shape, and the leaves of y."""
        filled = list(inputs)
        if self.time is not None:
            filled[self.time] = t
        for place, leaf in zip(self.state, y, strict=True):
            if place is not None:
                filled[place] = leaf
        return self.graph.fill(filled)

    def evaluate(self, t: Tensor, y: Sequence[Tensor], inputs: Sequence[Any]) -> Sequence[Tensor]:
        """Evaluate f under autograd."""
        result: Sequence[Tensor] = self.graph.captured.forward(*self.fill(t, y, inputs))
        return result

    def without_history(self) -> list[Any]:
        """Return the inputs detached, with nothing in place of t and y.

        Of those that are views of one tensor all but the first are copied: loops refuse them.
        """
        own = {self.time, *self.state}
        plain: list[Any] = []
        storages = set()
        for i, x in enumerate(self.inputs):
            if isinstance(x, Tensor) and i not in own:
                storage = x.untyped_storage().data_ptr()
                plain.append(x.detach().clone() if storage in storages else x.detach())
                storages.add(storage)
            else:
                plain.append(0 if i in own else x)
        return plain

    def bare(self) -> "Traced":
        """Return the same without tensors, to be kept."""
        return replace(self, inputs=(), y0=(), kept=())

    @cached_property
    def differentiable(self) -> tuple[int, ...]:
        """Which inputs required grad, besides t and y, when this was first asked."""
        own = {self.time, *self.state}
        return tuple(i for i, x in enumerate(self.inputs) if isinstance(x, Tensor) and x.requires_grad and i not in own)
