"""Matrix products so small that calling a library for them costs more than computing them."""

from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node

LARGEST = 2**14
"""Most multiplications of a small product."""

FEW = 16
"""Most rows for which that holds of the gradient, too: with more, the sum over rows is better left to the library."""


def fuse_small_products(module: GraphModule, differentiated: bool) -> GraphModule:
    """Return the graph with small linear layers written as multiply and sum, which the compiler fuses with the rest."""
    graph = Graph()
    graph.output(graph.graph_copy(module.graph, {}))
    for node in graph.nodes:
        linear_layer = node.op == "call_function" and node.target in (nn.functional.linear, torch._C._nn.linear)
        if linear_layer and _is_small(node, differentiated):
            node.target = linear
    return GraphModule(module, graph)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """As ``torch.nn.functional.linear``."""
    y = (x.unsqueeze(-2) * weight).sum(dim=-1)
    return y if bias is None else y + bias


def _is_small(node: Node, differentiated: bool) -> bool:
    if len(node.args) < 2:  # given by name
        return False
    x, weight = (_shape(argument) for argument in node.args[:2])
    if x is None or weight is None:
        return False
    return prod(x) * weight[0] <= LARGEST and (not differentiated or prod(x[:-1]) <= FEW)


def _shape(argument: Any) -> tuple[int, ...] | None:
    """The shape of an argument, if it is known and fixed."""
    example = argument.meta.get("example_value") if isinstance(argument, Node) else None
    if not isinstance(example, Tensor) or not all(isinstance(size, int) for size in example.shape):
        return None
    return tuple(example.shape)
