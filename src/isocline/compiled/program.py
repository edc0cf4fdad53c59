"""Compiled loops over one graph: made once, then called with the inputs of each solve."""

import inspect
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from isocline.compiled.fallback import compiler_errors, load_compiler, warn
from isocline.compiled.graph import Traced, own_code
from isocline.compiled.loops import Bars, Leap, Record, begin, leap, reverse, sweep
from isocline.compiled.packed import Differentiable, Packed, fill_in
from isocline.controllers import Controller, replaced
from isocline.layout import Layout, make_layout
from isocline.loop import advance, park, take
from isocline.numbers import column
from isocline.solvers.base import Field, Solver
from isocline.state import State
from isocline.stops import Stops

OPTIONS: dict[str, Any] = {
    # A program in C++ without Python between its kernels: half the time of small problems.
    "cpp_wrapper": True,
    # The vectorised tanh of the system's library is slow; by exp it is fused with its neighbours.
    "cpp.use_decompose_tanh": True,
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
        pull = torch.compiler.allow_in_graph(_puller(packed, solver))
        pull_start = torch.compiler.allow_in_graph(_start_puller(packed, solver))
        adjoint_attempt = torch.compiler.allow_in_graph(_adjoint_attempt(packed, solver, controller))
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
            y0, (t0,), chosen = pull_start(moved, record.t0[0], pack(like), bars.carry, (list(inputs), list(like)))
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
    """Return which guards of a loop to check at each call: those of what it is given.

    The solver, the kind of controller and the graph are the program's own; checking their hundred numbers takes longer
    than some steps.
    """
    given = {name for name in inspect.signature(function).parameters if name != "controller"}

    def choose(guards: Sequence[Any]) -> list[bool]:
        roots = (guard.name.split("[")[0].split(".")[0] for guard in guards)
        return [not root or root in given for root in roots]

    return choose


def _packer(layout: Layout) -> Callable[[Sequence[Tensor]], Tensor]:
    batch_dims = len(layout.batch_shape)

    def pack(leaves: Sequence[Tensor]) -> Tensor:
        return make_layout(layout.build(leaves), batch_dims).pack(layout.build(leaves)).clone()

    return pack


def _puller(packed: Packed, solver: Solver) -> Callable[..., Any]:
    """Return the vector-Jacobian product of one step."""

    def pull(
        t0: Tensor,
        t1: Tensor,
        y: Tensor,
        carry: tuple[Tensor, ...],
        known: Sequence[Any],
        y_bar: Tensor,
        carry_bar: tuple[Tensor, ...],
        stage_bars: Sequence[Tensor],
        given: Any,
        timed: bool,
    ) -> tuple[Any, ...]:
        inputs, like = given

        def step(y: Tensor, carry: tuple[Tensor, ...], ends: tuple[Tensor, ...], chosen: Sequence[Tensor]) -> Any:
            filled = fill_in(inputs, packed.places, chosen), like
            start, end = ends or (t0, t1)
            taken, after = take(Differentiable(packed, filled, known), solver, start, end, y, carry)
            return taken.y1, after, taken.stages if stage_bars else ()

        ends = (t0, t1) if timed else ()
        vjp: Any = torch.func.vjp(step, y, carry, ends, [inputs[i] for i in packed.places])[1]
        y_bar, carry_bar, ends, chosen = vjp((y_bar, carry_bar, tuple(stage_bars)))
        return y_bar, carry_bar, ends, tuple(chosen)

    return pull


def _start_puller(packed: Packed, solver: Solver) -> Callable[..., Any]:
    """Return the vector-Jacobian product of what the solver carries into its first step."""

    def pull_start(moved: Tensor, t0: Tensor, y0: Tensor, carry_bar: tuple[Tensor, ...], given: Any) -> tuple[Any, ...]:
        inputs, like = given

        def init(t0: Tensor, y0: Tensor, chosen: Sequence[Tensor]) -> tuple[Tensor, ...]:
            f: Field = Differentiable(packed, (fill_in(inputs, packed.places, chosen), like))
            f, t0, _, y0, _ = park(moved, f, t0, t0, y0, ())
            return solver.init(f, t0, y0, lambda: f(t0, y0))

        vjp: Any = torch.func.vjp(init, t0, y0, [inputs[i] for i in packed.places])[1]
        time, y0_bar, chosen = vjp(carry_bar)
        return y0_bar, (time,), tuple(chosen)

    return pull_start


def _adjoint_attempt(packed: Packed, solver: Solver, controller: Controller) -> Callable[..., Any]:
    """Return one attempt to step (y, a) of the adjoint ODE, and the parameters' integrals over it, with one lane."""

    def attempt(tolerances: Sequence[Tensor], given: Any, target: Tensor, *parts: Any) -> tuple[Any, ...]:
        state = State(*parts)
        own = replaced(controller, tolerances)
        chosen = [given[0][i] for i in packed.places]
        slopes: list[tuple[Tensor, list[Tensor]]] = []

        def f(t: Tensor, ya: Tensor) -> Tensor:
            y, a = ya.tensor_split(2, dim=1)
            dy, *kept = packed.keep(t, y, given)
            _, a_bar, *bars = packed.pull(t, y, given, kept, a)
            slopes.append((a, bars))
            return torch.cat([dy, -a_bar], dim=1)

        if state.carry:
            f(state.t, state.y)  # the stage that was carried over: its value is known, its integrand is not
        new, step = advance(f, solver, own, target, state)
        h = step.t0 - step.t1  # time runs backwards here, the integral forwards
        integrals = [torch.zeros_like(x) for x in chosen]
        for weight, (a, bars) in zip(solver.weights, slopes, strict=True):
            if weight:
                scale = column(weight * h, a).reshape(())
                integrals = [total + scale * bar for total, bar in zip(integrals, bars, strict=True)]
        return *new, tuple(integrals)

    return attempt
