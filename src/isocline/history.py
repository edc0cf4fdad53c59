"""The autograd graph behind tensors: which leaves they come from."""

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.graph import Node, get_gradient_edge

Edge = tuple[Node, int]


def own_leaf(x: Tensor) -> Tensor:
    """Return a copy of x to differentiate by, which nobody outside wants a gradient of."""
    leaf = (x.clone() if x.is_inference() else x.detach()).requires_grad_()
    leaf._isocline_own = True  # type: ignore[attr-defined]
    return leaf


def is_own(leaf: Tensor) -> bool:
    """Whether a leaf was made by ``own_leaf``."""
    return hasattr(leaf, "_isocline_own")


class _Abreast(torch.autograd.Function):
    """Identity."""

    @staticmethod
    def forward(*tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(x.view_as(x) for x in tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *bars: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        return bars


def abreast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the same tensors as outputs of one node, to be differentiated by together.

    Before ``torch.autograd.grad`` pulls anything it visits each node whose history is at least as long as the shortest
    of its inputs' histories: all there ever were if one of them is a leaf. Behind one node that is only what was
    computed from these tensors.
    """
    return cast(tuple[Tensor, ...], _Abreast.apply(*tensors))


def walk(outputs: Iterable[Tensor], since: int = 0) -> tuple[list[Tensor], list[Edge]]:
    """Walk the graph behind the outputs, not beyond nodes older than ``since``: leaf tensors, edges to older nodes."""
    found: list[Tensor] = []
    older: list[Edge] = []
    stack: list[Edge] = [get_gradient_edge(x)[:2] for x in outputs if x.requires_grad]
    seen: set[Edge] = set()
    while stack:
        edge = stack.pop()
        if edge in seen:
            continue
        seen.add(edge)
        node = edge[0]
        if hasattr(node, "variable"):  # an accumulator: the end of the graph at a leaf
            found.append(node.variable)
        elif since and node._sequence_nr() < since:  # type: ignore[attr-defined]
            older.append(edge)
        else:
            stack.extend(child for child in node.next_functions if child[0] is not None)  # type: ignore[misc]
    return found, older
