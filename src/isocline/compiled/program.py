"""Compiled loops over one graph: made once, then called with the inputs of each solve."""

import re
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from isocline.compiled.capture import own_code
from isocline.compiled.fallback import compiler_errors, load_compiler, warn
from isocline.compiled.graph import Traced
from isocline.compiled.loops import Bars, Leap, Record, begin, leap, reverse, sweep
from isocline.compiled.packed import Packed
from isocline.compiled.pull import attempt_adjoint, pull_start, pull_step
from isocline.controllers import Controller
from isocline.layout import Layout, make_layout
from isocline.solvers.base import Solver
from isocline.state import State
from isocline.stops import Stops

OPTIONS: dict[str, Any] = {
    # A program in C++ without Python between its kernels: half the time of small problems.
    "cpp_wrapper": True,
    # Waking a thread costs as much as some thousand operations.
    "cpp.min_chunk_size": 4096,
}
"""Of torch's inductor on the CPU."""


def make_program(traced: Traced, layout: Layout, solver: Solver, controller: Controller, kind: Hashable) -> "Program":
    """Return the program for this kind of solve and controller, from the graph's own store."""
    key = (traced.differentiable, traced.per_lane, layout.structure, len(layout.batch_shape), solver, kind)
    if key not in traced.graph.programs:
        traced.graph.programs[key] = Program(traced, layout, solver, controller, f"{traced.graph.family}_{hash(key):x}")
    program: Program = traced.graph.programs[key]
    return program


class Program:
    """The loops, compiled when first called.

    All take the field's ``inputs`` and, for its shapes, the leaves ``like`` of the user's state.
    """

    def __init__(self, traced: Traced, layout: Layout, solver: Solver, controller: Controller, name: str) -> None:
        """Compile nothing yet; programs of one f and kind of solve, for other sizes, have one name."""
        packed = Packed(traced, layout)
        evaluate = torch.compiler.allow_in_graph(lambda *given: packed.evaluate(*given))
        keep = torch.compiler.allow_in_graph(lambda *given: packed.keep(*given))
        pull = torch.compiler.allow_in_graph(pull_step(packed, solver))
        pull_first = torch.compiler.allow_in_graph(pull_start(packed, solver))
        adjoint_attempt = torch.compiler.allow_in_graph(attempt_adjoint(packed, solver, controller))
        pack = torch.compiler.allow_in_graph(_packer(layout))

        def further(
            controller: Controller, inputs: Any, like: Any, state: State, t1: Tensor, record: Any, limit: Tensor
        ) -> tuple[Any, ...]:
            given = list(inputs), list(like)

            def f(t: Tensor, y: Tensor) -> Tensor:
                value: Tensor = evaluate(t, y, given)
                return value

            return sweep(f, lambda t, y: keep(t, y, given), solver, controller, t1, state, record, limit)

        def first(
            controller: Controller, inputs: Any, like: Any, t0: Tensor, t1: Tensor, record: Any, limit: Tensor
        ) -> tuple[Any, ...]:
            given = list(inputs), list(like)
            state = begin(lambda t, y: evaluate(t, y, given), solver, controller, t0, t1, pack(like))
            return further(controller, inputs, like, state, t1, record, limit)

        def backward(inputs: Any, like: Any, rows: Tensor, record: Record, more: Any, bars: Bars, ends: Any) -> Bars:
            def step(*parts: Any) -> Any:
                return pull(*parts, (list(inputs), list(like)), bool(ends))

            return reverse(step, rows, record, more, bars, ends)

        def backward_to_start(
            inputs: Any, like: Any, rows: Tensor, record: Record, more: Any, bars: Bars, ends: Any
        ) -> Bars:
            bars = backward(inputs, like, rows, record, more, bars, ends)
            if not bars.carry:
                return bars
            # Where lanes stood still there may be nothing to differentiate; what comes of it is zero anyway.
            moved = record.t1[0] != record.t0[0]
            y0, (t0,), chosen = pull_first(moved, record.t0[0], pack(like), bars.carry, (list(inputs), list(like)))
            first = (bars.ends[0] + t0, bars.ends[1]) if ends else ()
            return Bars(bars.y + y0, (), first, tuple(a + b for a, b in zip(bars.inputs, chosen, strict=True)))

        def to_stop(controller: Controller, inputs: Any, like: Any, stops: Stops, at: Leap, limit: Tensor) -> Any:
            def attempt(state: State, target: Tensor) -> Any:
                tolerances = [getattr(controller, name) for name in controller.tunable]
                *parts, integrals = adjoint_attempt(tolerances, (list(inputs), list(like)), target, *state)
                return State(*parts), integrals

            return leap(attempt, stops, at, limit)

        options = OPTIONS if layout.device.type == "cpu" else {}
        self.to_stop = _compile(to_stop, name, options)
        self.first, self.further = _compile(first, name, options), _compile(further, name, options)
        self.backward = _compile(backward, name, options)
        self.backward_to_start = _compile(backward_to_start, name, options)


def _compile(function: Any, name: str, options: dict[str, Any]) -> Callable[..., Any]:
    """Return the function, compiled when it is first called; if that fails, a warning and the function as it stands."""
    load_compiler()
    own = own_code(function, name)
    if hasattr(torch.compiler, "keep_tensor_guards_unsafe"):  # since torch 2.8 the option below is known
        options = {**options, "guard_filter_fn": _guard_given(function)}
    chosen = [torch.compile(own, fullgraph=True, options=dict(options))]

    def call(*args: Any) -> Any:
        try:
            with torch.no_grad():
                return chosen[0](*args)
        except compiler_errors() as error:
            warn(error)
            chosen[0] = function
            with torch.no_grad():
                return function(*args)

    return call


def _guard_given(function: Any) -> Callable[[Sequence[Any]], list[bool]]:
    """Return which guards of a loop to check at each call: not those of what it closes over, which never changes.

    Checking the hundred numbers of a solver takes longer than some steps. A controller is checked: its norm may be the
    user's, and depend on anything.
    """
    own = set(function.__code__.co_freevars)

    def choose(guards: Sequence[Any]) -> list[bool]:
        roots = (re.match(r"(L\[')?(\w*)", guard.name) for guard in guards)
        return [not (root and root[2] in own) for root in roots]

    return choose


def _packer(layout: Layout) -> Callable[[Sequence[Tensor]], Tensor]:
    batch_dims = len(layout.batch_shape)

    def pack(leaves: Sequence[Tensor]) -> Tensor:
        return make_layout(layout.build(leaves), batch_dims).pack(layout.build(leaves)).clone()

    return pack
