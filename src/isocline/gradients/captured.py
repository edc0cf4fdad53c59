"""Which tensors a field uses besides t and y: found by evaluating it once and walking the autograd graph.

Leaves (parameters) are differentiated as they are. A closed-over tensor that is itself computed from others is
replaced, while f runs, by a detached stand-in: its gradient goes to the tensor once, and from there through the user's
own graph.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.overrides import TorchFunctionMode

from isocline.compiled import Traced
from isocline.field import Field
from isocline.history import Edge, is_own, walk
from isocline.split import Split
from isocline.tree import Tree, align, describe, leaves, map_leaves


@dataclass(frozen=True)
class Captured:
    """A field together with the tensors that its result depends on."""

    field: Field
    """Evaluates f with stand-ins in place of arguments and computed tensors."""
    outer: tuple[Tensor, ...]
    """The user's tensors, for the outer autograd graph."""
    inner: tuple[Tensor, ...]
    """The leaf that ``field`` uses for each of them."""
    f0: Tensor | None
    """f at the start, if it was evaluated."""
    complete: bool
    """Whether ``inner`` was found rather than given, so that anything else in the graph is an error."""

    def check(self, outputs: Iterable[Tensor], known: Iterable[Tensor]) -> None:
        """Raise if the outputs depend on a leaf that is neither known nor inner: its gradient would be lost."""
        if not self.complete:
            return
        expected = {id(tensor) for tensor in (*self.inner, *known)}
        for leaf in walk(outputs)[0]:
            if id(leaf) not in expected and not is_own(leaf):
                raise RuntimeError(
                    f"f used {describe(leaf)} that requires grad, but not in its first evaluation (or required none "
                    "then), so its gradient would be lost; name all such tensors: solve(..., params=[...]), or use "
                    "gradient=DirectAdjoint()"
                )

    def at(self, values: Sequence[Tensor]) -> Field:
        """Return the field with other tensors in the place of ``inner``, wherever f hands those to torch."""
        swaps = {id(x): value for x, value in zip(self.inner, values, strict=True)}
        args = map_leaves(lambda x: swaps.get(id(x), x), self.field.args)
        return self.field.like(around(self.field.function, lambda f: _Replacing(f, swaps)), args)


def capture(field: Field, t0: Tensor, y0: Tensor, params: Sequence[Tensor] | None) -> Captured:
    """Find the tensors that require grad and that f uses, at the cost of one evaluation (none if ``params`` is given).

    Raises:
        RuntimeError: f uses a computed tensor that cannot be replaced by a stand-in; the message names it.
    """
    given = {id(x): x for x in leaves(field.args) if isinstance(x, Tensor) and x.requires_grad}
    stand_ins = {key: _stand_in(x) for key, x in given.items()}
    args = map_leaves(lambda x: stand_ins.get(id(x), x), field.args)
    probe = field.like(field.function, args)
    if params is None:
        f0, used, edges = _evaluate(probe, t0, y0, ignore=stand_ins.values())
        used += [*_module_parameters(field.function), *_find_tensors(probe, t0, y0, edges)]
    else:
        f0, used = None, [x for x in params if x.requires_grad]
    used = list({id(x): x for x in used}.values())
    swaps = {id(x): _stand_in(x) for x in used if not x.is_leaf or x._backward_hooks}
    field.evaluations += probe.evaluations
    if swaps:
        probe = field.like(around(field.function, lambda f: _Replacing(f, swaps)), args)
        if params is None:
            f0, _, edges = _evaluate(probe, t0, y0, ignore=())
            _refuse(edges)
            field.evaluations += probe.evaluations
    probe.evaluations = 0
    inner = [*stand_ins.values(), *(swaps.get(id(x), x) for x in used)]
    return Captured(probe, (*given.values(), *used), tuple(inner), f0, params is None)


def of_graph(traced: Traced, field: Field) -> Captured:
    """Return what a traced field depends on: all its inputs are known."""
    outer = [traced.inputs[i] for i in traced.differentiable]
    inner = [_stand_in(x) for x in outer]
    swaps = dict(zip(traced.differentiable, inner, strict=True))
    inputs = [swaps.get(i, x) for i, x in enumerate(traced.inputs)]

    def function(t: Tensor, y: Tree) -> Tree:
        return field.layout.build(traced.evaluate(t, align(field.layout.like, y), inputs))

    return Captured(field.like(function, ()), tuple(outer), tuple(inner), None, False)


def _evaluate(
    field: Field, t0: Tensor, y0: Tensor, ignore: Iterable[Tensor]
) -> tuple[Tensor, list[Tensor], list[Edge]]:
    """Evaluate f; return its value, the leaves it uses, and the graph edges to what was computed before."""
    with torch.enable_grad():
        t, y = _stand_in(t0), _stand_in(y0)
        since = _sequence_number()
        dy = field(t, y)
    found, edges = walk([dy], since)
    own = {id(x) for x in (t, y, *ignore)}
    return dy.detach(), [x for x in found if id(x) not in own], edges


def _find_tensors(field: Field, t0: Tensor, y0: Tensor, edges: Sequence[Edge]) -> list[Tensor]:
    """Return the tensors at the edges, by watching what f hands to torch, or returns, in one more evaluation."""
    if not edges:
        return []
    watch = _Watch(set(edges))
    watched = field.like(watch.around(field.function), field.args)
    with torch.enable_grad():
        watched(t0, y0)
    field.evaluations += watched.evaluations
    _refuse([edge for edge in edges if edge not in watch.found])
    return list(watch.found.values())


def _refuse(edges: Sequence[Edge]) -> None:
    for node, index in edges:
        shape = tuple(node._input_metadata[index].shape)  # type: ignore[attr-defined]
        raise RuntimeError(
            f"f closes over a tensor of shape {shape} computed by {node.name()} that was not seen entering a torch "
            "function, so its gradient would be lost; give it as solve(..., args=(tensor,)) or params=[tensor], or "
            "use gradient=DirectAdjoint()"
        )


def _module_parameters(function: Callable[..., Any]) -> list[Tensor]:
    """Parameters of f's module, also those that this evaluation did not need."""
    if isinstance(function, Split):
        return [*_module_parameters(function.explicit), *_module_parameters(function.implicit)]
    module = function if isinstance(function, nn.Module) else getattr(function, "__self__", None)
    return [p for p in module.parameters() if p.requires_grad] if isinstance(module, nn.Module) else []


def _stand_in(x: Tensor) -> Tensor:
    return x.detach().requires_grad_()


def _sequence_number() -> int:
    """Number that autograd gives to a node made now: those made later have larger ones."""
    node = torch.zeros((), requires_grad=True).view(()).grad_fn
    assert node is not None
    return int(node._sequence_nr())  # type: ignore[attr-defined]


class _Watch(TorchFunctionMode):
    """Notes the tensors at given graph edges as they are handed to torch functions."""

    def __init__(self, edges: set[Edge]) -> None:
        super().__init__()
        self.edges = edges
        self.found: dict[Edge, Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._note((args, kwargs or {}))
        return func(*args, **(kwargs or {}))

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, watched."""

        def watched(*args: Any) -> Any:
            with self:
                result = function(*args)
            self._note(result)
            return result

        return watched

    def _note(self, tree: Any) -> None:
        for x in leaves(tree):
            if isinstance(x, Tensor) and x.grad_fn is not None and (edge := get_gradient_edge(x)[:2]) in self.edges:
                self.found[edge] = x


class _Swap(TorchFunctionMode):
    """Replaces tensors by their stand-ins as they are handed to torch functions."""

    def __init__(self, stand_ins: Mapping[int, Tensor]) -> None:
        super().__init__()
        self.stand_ins = stand_ins

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = map_leaves(lambda x: self.stand_ins.get(id(x), x), (args, kwargs or {}))
        return func(*args, **kwargs)


def around(
    function: Callable[..., Any], wrap: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Callable[..., Any]:
    """Return the function, wrapped; one in two parts stays so."""
    if isinstance(function, Split):
        return Split(wrap(function.explicit), wrap(function.implicit))
    return wrap(function)


@dataclass(frozen=True)
class _Replacing:
    """A function that sees stand-ins for some tensors it closes over."""

    function: Callable[..., Any]
    stand_ins: Mapping[int, Tensor]

    def __call__(self, *args: Any) -> Any:
        with _Swap(self.stand_ins):
            result = self.function(*args)
        return map_leaves(lambda x: self.stand_ins.get(id(x), x), result)
