"""The field's graph in two halves: forwards, keeping what its gradient needs, and the gradient from that.

Differentiated once, by autograd, when the field is captured: then both halves are plain graphs that a compiled loop can
run as often as it likes, whatever transforms and switches of the gradient mode f itself uses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._dispatch.python import enable_python_dispatcher
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

from isocline.compiled.cheaper import CHEAPER
from isocline.compiled.fallback import NotCapturedError


@dataclass(frozen=True)
class Joint:
    """A field and its gradient as one graph, not yet cut: ``(*inputs, *bars of results) -> [*results, *bars]``."""

    module: GraphModule
    inputs: int
    """How many it has."""
    results: int
    """How many f has."""
    wanted: tuple[int, ...]
    """The inputs to differentiate by."""


@dataclass(frozen=True)
class Halves:
    """Two graphs made from one."""

    forward: GraphModule
    """``(*inputs) -> [*results, *kept]``"""
    backward: GraphModule
    """``(*inputs, *kept, *bars of results) -> [bar of each wanted input]``"""


def lower(module: GraphModule, examples: Sequence[Any]) -> GraphModule:
    """Return the module as a graph of plain operations, without transforms of torch.func or changes in place."""
    module = _numbers_as_tensors(module)

    def evaluate(*inputs: Any) -> list[Tensor]:
        return list(module.forward(*inputs))

    return _plain(evaluate, examples)


def differentiate(module: GraphModule, examples: Sequence[Any]) -> Joint:
    """Differentiate ``(*inputs) -> results`` by those of the example inputs that require grad."""
    wanted = tuple(i for i, x in enumerate(examples) if isinstance(x, Tensor) and x.requires_grad)
    results = [node.meta["example_value"] for node in results_of(module)]
    module = _numbers_as_tensors(module)

    def joint(*given: Any) -> list[Tensor]:
        inputs, bars = list(given[: len(examples)]), given[len(examples) :]
        with torch.enable_grad():
            for i in wanted:
                inputs[i] = inputs[i].detach().requires_grad_()
            outputs = module.forward(*inputs)
            found = _gradients(outputs, bars, [inputs[i] for i in wanted])
        return [*(x.detach() for x in outputs), *found]

    bars = [torch.empty_like(x).detach() for x in results]
    return Joint(_plain(joint, [*examples, *bars]), len(examples), len(results), wanted)


def cut(joint: Joint, own: Sequence[int]) -> Halves:
    """Cut in two; ``own`` are the inputs that change from one evaluation to the next."""
    graph = joint.module.graph
    given = list(graph.find_nodes(op="placeholder"))
    inputs, bars = given[: joint.inputs], given[joint.inputs :]
    outputs = results_of(joint.module)
    results, gradients = outputs[: joint.results], outputs[joint.results :]
    after = _dependent(graph, set(bars))
    varying = _dependent(graph, {inputs[i] for i in own})
    kept = _kept(gradients, after, varying)
    forward = _part(joint.module, inputs, [*results, *kept])
    return Halves(forward, _part(joint.module, [*inputs, *kept, *bars], gradients))


def _numbers_as_tensors(module: GraphModule) -> GraphModule:
    """Leave the numbers that f reads what the front end hands over, tensors: tracing cannot look into them."""
    graph = Graph()
    graph.output(graph.graph_copy(module.graph, {}))
    for node in graph.find_nodes(op="call_method", target="item"):
        node.replace_all_uses_with(node.args[0])
        graph.erase_node(node)
    return GraphModule(module, graph)


def _gradients(outputs: Sequence[Tensor], bars: Sequence[Tensor], sources: Sequence[Tensor]) -> list[Tensor]:
    """Return the vector-Jacobian product, zeros where there is no connection."""
    pairs = [(x, bar) for x, bar in zip(outputs, bars, strict=True) if x.requires_grad]
    if not pairs or not sources:
        return [torch.zeros_like(x) for x in sources]
    connected, chosen = zip(*pairs, strict=True)
    return list(torch.autograd.grad(connected, sources, chosen, allow_unused=True, materialize_grads=True))


def _plain(function: Any, examples: Sequence[Any]) -> GraphModule:
    """Trace; then once more, to turn changes in place into new tensors, and some operations into cheaper ones."""
    # Of sizes that vary some operations (baddbmm) can only be described in Python.
    with enable_python_dispatcher():
        traced = make_fx(function, tracing_mode="fake")(*examples)
        functional: Any = torch.func.functionalize(traced, remove="mutations")
        with torch.no_grad():
            examples = [x.detach() if isinstance(x, Tensor) else x for x in examples]
            plain = make_fx(functional, decomposition_table=CHEAPER, tracing_mode="fake")(*examples)
    plain.graph.eliminate_dead_code()
    for node in plain.graph.find_nodes(op="call_function", target=torch.ops.aten.view.default):
        # Some operations return other strides than their descriptions say, which tracing goes by.
        node.target = torch.ops.aten.reshape.default
    _write_out_constants(plain)
    if any(node.target is torch.ops.aten.copy_.default for node in plain.graph.nodes):
        raise NotCapturedError("It changes a tensor in place, such as the running statistics of a normalisation.")
    if any(torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()) for node in plain.graph.nodes):
        raise NotCapturedError("It draws random numbers, as dropout does.")
    return plain


def _write_out_constants(module: GraphModule) -> None:
    """Make constant tensors anew at each evaluation: two loops must not share one."""
    for node in module.graph.find_nodes(op="get_attr"):
        value = getattr(module, node.target)
        with module.graph.inserting_before(node):
            own = module.graph.call_function(
                torch.tensor, (value.tolist(),), {"dtype": value.dtype, "device": value.device}
            )
        own.meta = dict(node.meta)
        node.replace_all_uses_with(own)
        module.graph.erase_node(node)
    module.recompile()


def _dependent(graph: Graph, sources: set[Node]) -> set[Node]:
    """The sources, and the nodes that depend on them."""
    found = set(sources)
    for node in graph.nodes:
        if any(source in found for source in node.all_input_nodes):
            found.add(node)
    return found


def _kept(gradients: Sequence[Any], after: set[Node], varying: set[Node]) -> list[Node]:
    """What the gradients need of the forward half; views, and what never changes, they make again themselves."""
    kept: dict[Node, None] = {}
    seen: set[Node] = set()
    todo = [node for node in gradients if isinstance(node, Node)]
    while todo:
        node = todo.pop()
        if node in seen or node.op == "placeholder":
            continue
        seen.add(node)
        if node in after or node not in varying or not _makes_a_tensor(node):
            todo.extend(node.all_input_nodes)
        else:
            kept[node] = None
    return list(kept)


def _makes_a_tensor(node: Node) -> bool:
    """Whether a node computes a tensor; if not it views or picks one, or is a number."""
    if not isinstance(node.meta.get("val"), Tensor) or not isinstance(node.target, torch._ops.OpOverload):
        return False
    returned = node.target._schema.returns
    return not any(part.alias_info is not None and not part.alias_info.is_write for part in returned)


def _part(joint: GraphModule, given: Sequence[Node], outputs: Sequence[Any]) -> GraphModule:
    """Return the part of a graph that leads from some nodes to others."""
    graph, copies = Graph(), {}
    for i, node in enumerate(given):
        copies[node] = graph.placeholder(f"given_{i}")
        copies[node].meta = dict(node.meta)
    for node in joint.graph.nodes:
        inner = node not in copies and node.op not in ("placeholder", "output")
        if inner and all(source in copies for source in node.all_input_nodes):
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output([copies[node] if isinstance(node, Node) else node for node in outputs])
    graph.eliminate_dead_code()
    return GraphModule(joint, graph)


def results_of(module: GraphModule) -> list[Any]:
    """Return what a graph returns: nodes and constants."""
    return list(next(iter(module.graph.find_nodes(op="output"))).args[0])
