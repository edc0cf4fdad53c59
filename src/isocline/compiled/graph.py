"""The user's field as one graph with explicit inputs, captured by torch's compiler front end.

Capturing is the solve's first evaluation of f: it runs through the front end's guards, so whatever f depends on besides
tensors (flags, numbers, which modules) may change between solves, and is captured again when it did. Every tensor that
f uses becomes an input of the graph, so parameters may change without anything happening at all.
"""

import itertools
import threading
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from os import sep
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from isocline.compiled.fallback import NotCapturedError, compiler_errors, warn
from isocline.compiled.small_products import fuse_small_products
from isocline.layout import Field
from isocline.tree import Tree, align


@dataclass(eq=False)
class Graph:
    """A captured field, shared by all solves for which the front end's guards hold."""

    module: GraphModule
    differentiated: GraphModule
    """The same, better to differentiate."""
    sizes: dict[int, tuple[int, int]]
    """Inputs that are sizes: which dimension of which other input they are."""
    family: int
    """The same for all graphs of one f."""
    programs: dict[Any, Any] = field(default_factory=dict)
    """What was compiled over this graph."""

    def __call__(self, inputs: Sequence[Any], differentiated: bool) -> Sequence[Tensor]:
        """Evaluate the field: the leaves of its result."""
        filled = list(inputs)
        for place, (source, dim) in self.sizes.items():
            filled[place] = filled[source].shape[dim]
        module = self.differentiated if differentiated else self.module
        result: Sequence[Tensor] = module.forward(*filled)
        return result


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
    f0: tuple[Tensor, ...]
    """Those of f there."""

    def evaluate(
        self, t: Tensor, y: Sequence[Tensor], inputs: Sequence[Any], differentiated: bool = False
    ) -> Sequence[Tensor]:
        """Evaluate f with these inputs: t in the user's shape, and the leaves of y."""
        filled = list(inputs)
        if self.time is not None:
            filled[self.time] = t
        for place, leaf in zip(self.state, y, strict=True):
            if place is not None:
                filled[place] = leaf
        return self.graph(filled, differentiated)

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
        return replace(self, inputs=(), y0=(), f0=())

    @property
    def differentiable(self) -> tuple[int, ...]:
        """Which inputs require grad besides t and y."""
        own = {self.time, *self.state}
        return tuple(i for i, x in enumerate(self.inputs) if isinstance(x, Tensor) and x.requires_grad and i not in own)


def try_to_trace(f: Field, t0: Tensor, y0: Tensor) -> Traced | None:
    """Capture f; if that fails warn, once for each f, and return None."""
    name = f.function if isinstance(f.function, nn.Module) else _code(f.function)
    if name in _refused:
        return None
    try:
        return trace(f, t0, y0)
    except compiler_errors() as error:
        _refused.add(name)
        warn(error)
        return None


_refused: "WeakSet[Any]" = WeakSet()


def trace(f: Field, t0: Tensor, y0: Tensor) -> Traced:
    """Capture f by evaluating it at t0 (L,), y0 (L, n).

    Raises:
        NotCapturedError: f cannot be captured as one graph.
    """
    with_grad = torch.is_grad_enabled()
    t = f.layout.view_time(t0.detach()).clone().requires_grad_(with_grad)
    leaves = [x.detach().requires_grad_(with_grad) for x in align(f.layout.like, f.layout.unpack(y0.detach()))]
    _seen.call = None
    results = _capture(f.function, f.layout.like, t, f.layout.build(leaves), f.args)
    if _seen.call is None:
        raise NotCapturedError("f was not captured")
    graph, inputs = _seen.call
    _seen.call = None
    f.evaluations += 1
    places = {id(x): i for i, x in enumerate(inputs)}
    f.layout.pack(f.layout.build(results))  # checks it
    state = tuple(places.get(id(x)) for x in leaves)
    return Traced(graph, inputs, places.get(id(t)), state, tuple(x.detach().clone() for x in leaves), tuple(results))


def _evaluate(function: Callable[..., Tree], like: Tree, t: Tensor, y: Tree, args: tuple[Any, ...]) -> list[Tensor]:
    """What is captured: copies, so that every result is one of the graph's own, even if f returns what it was given."""
    return [leaf.clone() for leaf in align(like, function(t, y, *args))]


class _Seen(threading.local):
    call: tuple[Graph, tuple[Any, ...]] | None = None


_seen = _Seen()


def _receive(family: int, module: GraphModule, _: Sequence[Any]) -> Callable[..., Any]:
    """Act as the compiler's back end: keep the graph, and note what it is called with."""
    _check(module)
    forward, backward = (fuse_small_products(module, differentiated) for differentiated in (False, True))
    graph = Graph(forward, backward, _sizes(module), family)

    def run(*inputs: Any) -> Any:
        _seen.call = graph, inputs
        with torch.no_grad():
            # Without history also where the graph itself switches gradients on again, behind an f's own no_grad.
            return [x.detach() for x in module.forward(*inputs)]

    return run


def _check(module: GraphModule) -> None:
    """Refuse what is captured, but would be wrong or fail in the loops.

    A graph that differentiates or vmaps counts on being the outermost such transform, with gradients on as they were;
    and the gradient of a step cannot be compiled if numbers are read from tensors.
    """
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

    for graph in (part.graph for part in module.modules() if isinstance(part, GraphModule)):
        for node in graph.nodes:
            if str(getattr(node.target, "__name__", "")).endswith("_increment_nesting"):
                raise NotCapturedError("It uses a transform of torch.func, such as grad, vjp, jvp or vmap.")
            value = node.meta.get("example_value")
            if isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool) and free_unbacked_symbols(value):
                raise NotCapturedError(f"It reads numbers from tensors.{_line(node)}")


def _line(node: Node) -> str:
    """The user's line that made a node."""
    lines = [line.strip() for line in (node.stack_trace or "").splitlines()]
    files = [i for i, line in enumerate(lines) if line.startswith("File") and f"{sep}torch{sep}" not in line]
    return f" ({': '.join(lines[files[-1] : files[-1] + 2])})" if files else ""


def _sizes(module: GraphModule) -> dict[int, tuple[int, int]]:
    """Find which inputs are sizes of other inputs: with dynamic shapes the front end passes both."""
    examples = [node.meta.get("example_value") for node in module.graph.nodes if node.op == "placeholder"]
    known: dict[str, tuple[int, int]] = {}
    for i, x in enumerate(examples):
        for dim, size in enumerate(x.shape if isinstance(x, Tensor) else ()):
            if isinstance(size, torch.SymInt):
                known.setdefault(str(size), (i, dim))
    return {i: known[str(x)] for i, x in enumerate(examples) if isinstance(x, torch.SymInt) and str(x) in known}


_front_ends: "WeakKeyDictionary[Any, Callable[..., list[Tensor]]]" = WeakKeyDictionary()


def _capture(function: Callable[..., Tree], *arguments: Any) -> list[Tensor]:
    """Evaluate f through the front end; there is one for each code of f or class of modules.

    So lambdas made anew for each solve share what was captured, and so do alike modules of one class. What is unlike
    is kept side by side, up to a limit; then the front end begins anew.
    """
    from torch._dynamo.exc import FailOnRecompileLimitHit

    code = _code(function)
    if code not in _front_ends:
        _front_ends[code] = _front_end()
    try:
        return _front_ends[code](function, *arguments)
    except FailOnRecompileLimitHit:
        _front_ends[code] = _front_end()
        return _front_ends[code](function, *arguments)


def _front_end() -> Callable[..., list[Tensor]]:
    family = next(_families)
    return torch.compile(own_code(_evaluate, str(family)), fullgraph=True, backend=partial(_receive, family))


def _code(function: Callable[..., Tree]) -> Any:
    function = getattr(function, "__func__", function)
    return getattr(function, "__code__", type(function))


_families = itertools.count()


def own_code(function: Any, name: str) -> Callable[..., Any]:
    """Return a copy of a function with code of its own: the compiler keeps its results, few of them, by code object.

    And with a longer name: by name and line the compiler remembers which numbers and sizes changed, and those that
    differ between two programs should not be taken for variable in both.
    """
    copy = types.FunctionType(
        function.__code__.replace(co_name=f"{function.__name__}_{name}"),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy
