"""Capturing the user's field as a graph, by torch's compiler front end.

Every solve calls f through the front end's guards, so whatever f depends on besides tensors (flags, numbers, which
modules) may change between solves, and is captured again when it did. Every tensor that f uses becomes an input of the
graph, so parameters may change without anything happening at all. For sizes seen before nothing is evaluated there.
"""

import itertools
import threading
import types
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from isocline.compiled.fallback import NotCapturedError, compiler_errors, is_users, warn, warn_inside_transforms
from isocline.compiled.graph import Graph, Traced
from isocline.compiled.halves import cut, differentiate, lower, results_of
from isocline.field import Field
from isocline.precision import restored
from isocline.transforms import transforming
from isocline.tree import Tree, align, leaves


def try_to_trace(f: Field, t0: Tensor, y0: Tensor) -> Traced | None:
    """Capture f; if that fails warn, once for each f, and return None."""
    if transforming():
        warn_inside_transforms()
        return None
    name = f.function if isinstance(f.function, nn.Module) else _code(f.function)
    if name in _refused:
        return None
    if f.layout.is_complex:
        warn(NotCapturedError("Torch's compiler has no code for complex numbers."))
        return None
    try:
        return trace(f, t0, y0)
    except compiler_errors() as error:
        _refused.add(name)
        warn(error)
        return None


_refused: "WeakSet[Any]" = WeakSet()


def trace(f: Field, t0: Tensor, y0: Tensor) -> Traced:
    """Capture f as it is called with t0 (L,), y0 (L, n); with sizes not seen before try whether its graph works.

    Raises:
        NotCapturedError: f cannot be captured as one graph.
        ValueError: f's result does not fit y0.
        TypeError: nor does its dtype.
    """
    with_grad = torch.is_grad_enabled()
    t = f.layout.view_time(t0.detach()).clone().requires_grad_(with_grad)
    y = [x.detach().requires_grad_(with_grad) for x in align(f.layout.like, f.layout.unpack(y0.detach()))]
    _seen.call, _seen.own = None, {id(x) for x in (t, *y)}
    with _one_at_a_time:
        _capture(f.function, f.layout.like, t, f.layout.build(y), f.args)
    if _seen.call is None:
        raise NotCapturedError("f was not captured")
    graph, inputs = _seen.call
    _seen.call = None
    sizes = tuple(x for x in inputs if isinstance(x, int))
    if sizes not in graph.kept:
        results, kept = graph.evaluate(inputs)
        f.layout.pack(f.layout.build(results))  # checks it
        graph.kept[sizes] = tuple(x.to("meta") for x in kept)
    places = {id(x): i for i, x in enumerate(inputs)}
    state = tuple(places.get(id(x)) for x in y)
    y0 = tuple(x.detach().clone() for x in y)
    marked = {places.get(id(x)) for i, x in enumerate(leaves(f.args)) if i in f.per_lane}
    per_lane = tuple(sorted(marked - {None}))
    return Traced(graph, inputs, places.get(id(t)), state, y0, per_lane, graph.kept[sizes])


def _evaluate(function: Callable[..., Tree], like: Tree, t: Tensor, y: Tree, args: tuple[Any, ...]) -> list[Tensor]:
    """What is captured: copies, so that every result is one of the graph's own, even if f returns what it was given."""
    results = zip(align(like, function(t, y, *args)), leaves(y), strict=True)
    return [restored(leaf, x.dtype).clone() for leaf, x in results]


class _Seen(threading.local):
    own: set[int] = set()  # noqa: RUF012
    """Identities of t and the leaves of y."""
    call: tuple[Graph, tuple[Any, ...]] | None = None
    """What was called, with which inputs."""


_seen = _Seen()


def _receive(family: int, module: GraphModule, _: Sequence[Any]) -> Callable[..., Any]:
    """Act as the compiler's back end: keep the graph, and note what it is called with."""
    _check(module)
    sizes = _sizes(module)
    examples = [node.meta["example_value"] for node in module.graph.find_nodes(op="placeholder")]
    # Whole numbers that are not sizes, an exponent say, are compiled in.
    examples = [int(x) if isinstance(x, torch.SymInt) and i not in sizes else x for i, x in enumerate(examples)]
    joint = differentiate(module, examples) if torch.is_grad_enabled() else None
    graph = Graph(module, lower(module, examples), joint, sizes, family)
    nothing = [None] * len(results_of(module))

    def note(*inputs: Any) -> list[None]:
        if joint is not None and graph.halves is None:
            graph.halves = cut(joint, [i for i, x in enumerate(inputs) if id(x) in _seen.own])
        _seen.call = graph, inputs
        return nothing

    return note


def _check(module: GraphModule) -> None:
    """Refuse what is captured, but would fail in the loops.

    A compiled step cannot read numbers from tensors; and torch's compiler crashes on what forward mode leaves behind.
    """
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

    for node in _nodes(module):
        if getattr(node.target, "__name__", "") == "_jvp_increment_nesting":
            raise NotCapturedError(f"It uses torch.func.jvp; vjp, grad and jacrev are compiled.{_line(node)}")
        value = node.meta.get("example_value")
        if isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool) and free_unbacked_symbols(value):
            raise NotCapturedError(f"It reads numbers from tensors.{_line(node)}")


def _nodes(module: GraphModule) -> list[Node]:
    """All nodes, those of inner graphs included."""
    return [node for part in module.modules() if isinstance(part, GraphModule) for node in part.graph.nodes]


def _line(node: Node) -> str:
    """The user's line that made a node."""
    lines = [line.strip() for line in (node.stack_trace or "").splitlines()]
    files = [i for i, line in enumerate(lines) if line.startswith("File") and is_users(line.split('"')[1])]
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


_one_at_a_time = threading.RLock()
"""Of threads that meet in the front end, each would capture f anew, and one give up when the limit is reached."""
_front_ends: "WeakKeyDictionary[Any, Callable[..., list[Tensor]]]" = WeakKeyDictionary()


def _capture(function: Callable[..., Tree], *arguments: Any) -> None:
    """Call f through the front end; there is one for each code of f or class of modules.

    So lambdas made anew for each solve share what was captured, and so do alike modules of one class. What is unlike
    is kept side by side, up to a limit; then the front end begins anew.
    """
    from torch._dynamo.exc import FailOnRecompileLimitHit

    code = _code(function)
    if code not in _front_ends:
        _front_ends[code] = _front_end()
    try:
        _front_ends[code](function, *arguments)
    except FailOnRecompileLimitHit:
        _front_ends[code] = _front_end()
        _front_ends[code](function, *arguments)


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
