"""Compiled loops over one graph: made once, then called with the inputs of each solve."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from isocline.compiled.fallback import compiler_errors, load_compiler, warn
from isocline.compiled.graph import Traced, own_code
from isocline.compiled.loops import Bars, Leap, Record, begin, leap, reverse, sweep
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
    key = (traced.differentiable, layout.structure, len(layout.batch_shape), solver, kind)
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
        evaluate = torch.compiler.allow_in_graph(_evaluator(traced, layout, differentiated=False))
        places = traced.differentiable

        def field(inputs: Sequence[Any], like: Sequence[Tensor]) -> Field:
            return lambda t, y: evaluate(t, y, list(like), list(inputs))

        def first(
            controller: Controller, inputs: Any, like: Any, f0: Any, t0: Tensor, t1: Tensor, record: Any, limit: Tensor
        ) -> tuple[Any, ...]:
            f = field(inputs, like)
            y0, dy0 = pack(like), pack(f0)
            return sweep(f, solver, controller, t1, begin(f, solver, controller, t0, t1, y0, dy0), record, limit)

        def further(
            controller: Controller, inputs: Any, like: Any, state: State, t1: Tensor, record: Any, limit: Tensor
        ) -> tuple[Any, ...]:
            return sweep(field(inputs, like), solver, controller, t1, state, record, limit)

        def backward(inputs: Any, like: Any, rows: Tensor, record: Record, more: Any, bars: Bars, ends: Any) -> Bars:
            def step(*given: Any) -> Any:
                return pull(*given, list(inputs), list(like), bool(ends))

            return reverse(step, rows, record, more, bars, ends)

        def backward_to_start(
            inputs: Any, like: Any, rows: Tensor, record: Record, more: Any, bars: Bars, ends: Any
        ) -> Bars:
            bars = backward(inputs, like, rows, record, more, bars, ends)
            if not bars.carry:
                return bars
            # Where lanes stood still there may be nothing to differentiate; what comes of it is zero anyway.
            moved = record.t1[0] != record.t0[0]
            y0, (t0,), chosen = pull_start(moved, record.t0[0], pack(like), bars.carry, list(inputs), list(like))
            first = (bars.ends[0] + t0, bars.ends[1]) if ends else ()
            return Bars(bars.y + y0, (), first, tuple(a + b for a, b in zip(bars.inputs, chosen, strict=True)))

        def to_stop(controller: Controller, inputs: Any, like: Any, stops: Stops, at: Leap, limit: Tensor) -> Any:
            def attempt(state: State, target: Tensor) -> Any:
                tolerances = [getattr(controller, name) for name in controller.tunable]
                *parts, integrals = adjoint_attempt(tolerances, list(inputs), list(like), target, *state)
                return State(*parts), integrals

            return leap(attempt, stops, at, limit)

        pack = torch.compiler.allow_in_graph(_packer(layout))
        differentiated = _evaluator(traced, layout, differentiated=True)
        pull = torch.compiler.allow_in_graph(_puller(differentiated, solver, places))
        pull_start = torch.compiler.allow_in_graph(_start_puller(differentiated, solver, places))
        adjoint_attempt = torch.compiler.allow_in_graph(_adjoint_attempt(differentiated, solver, controller, places))
        options = OPTIONS if layout.device.type == "cpu" else {}
        self.to_stop = _compile(to_stop, name, options)
        self.first, self.further = _compile(first, name, options), _compile(further, name, options)
        self.backward = _compile(backward, name, options)
        self.backward_to_start = _compile(backward_to_start, name, options)


def _compile(function: Any, name: str, options: dict[str, Any]) -> Callable[..., Any]:
    """Return the function, compiled when it is first called; if that fails, a warning and the function as it stands."""
    load_compiler()
    own = own_code(function, name)
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


def _packer(layout: Layout) -> Callable[[Sequence[Tensor]], Tensor]:
    batch_dims = len(layout.batch_shape)

    def pack(leaves: Sequence[Tensor]) -> Tensor:
        return make_layout(layout.build(leaves), batch_dims).pack(layout.build(leaves)).clone()

    return pack


def _evaluator(traced: Traced, layout: Layout, differentiated: bool) -> Callable[..., Tensor]:
    """Return ``f(t (L,), y (L, n), like, inputs) -> (L, n)`` over the graph."""
    traced = traced.bare()
    batch_dims = len(layout.batch_shape)

    def evaluate(t: Tensor, y: Tensor, like: Sequence[Tensor], inputs: Sequence[Any]) -> Tensor:
        shapes = make_layout(layout.build(like), batch_dims)
        return shapes.pack(layout.build(traced.evaluate(shapes.view_time(t), shapes.leaves(y), inputs, differentiated)))

    return evaluate


def _with(inputs: Sequence[Any], places: Sequence[int], chosen: Sequence[Tensor]) -> list[Any]:
    """Return the inputs with others in some places."""
    filled = list(inputs)
    for place, x in zip(places, chosen, strict=True):
        filled[place] = x
    return filled


def _puller(evaluate: Callable[..., Tensor], solver: Solver, places: Sequence[int]) -> Callable[..., Any]:
    """Return the vector-Jacobian product of one step."""

    def pull(
        t0: Tensor,
        t1: Tensor,
        y: Tensor,
        carry: tuple[Tensor, ...],
        y_bar: Tensor,
        carry_bar: tuple[Tensor, ...],
        stage_bars: Sequence[Tensor],
        inputs: list[Any],
        like: list[Tensor],
        timed: bool,
    ) -> tuple[Any, ...]:
        def step(y: Tensor, carry: tuple[Tensor, ...], ends: tuple[Tensor, ...], chosen: Sequence[Tensor]) -> Any:
            filled = _with(inputs, places, chosen)
            start, end = ends or (t0, t1)
            taken, after = take(lambda t, y: evaluate(t, y, like, filled), solver, start, end, y, carry)
            return taken.y1, after, taken.stages if stage_bars else ()

        ends = (t0, t1) if timed else ()
        vjp: Any = torch.func.vjp(step, y, carry, ends, [inputs[i] for i in places])[1]
        y_bar, carry_bar, ends, chosen = vjp((y_bar, carry_bar, tuple(stage_bars)))
        return y_bar, carry_bar, ends, tuple(chosen)

    return pull


def _start_puller(evaluate: Callable[..., Tensor], solver: Solver, places: Sequence[int]) -> Callable[..., Any]:
    """Return the vector-Jacobian product of what the solver carries into its first step."""

    def pull_start(
        moved: Tensor, t0: Tensor, y0: Tensor, carry_bar: tuple[Tensor, ...], inputs: list[Any], like: list[Tensor]
    ) -> tuple[Any, ...]:
        def init(t0: Tensor, y0: Tensor, chosen: Sequence[Tensor]) -> tuple[Tensor, ...]:
            filled = _with(inputs, places, chosen)
            t0, _, y0, _ = park(moved, t0, t0, y0, ())
            return solver.init(
                lambda t, y: evaluate(t, y, like, filled), t0, y0, lambda: evaluate(t0, y0, like, filled)
            )

        vjp: Any = torch.func.vjp(init, t0, y0, [inputs[i] for i in places])[1]
        time, y0_bar, chosen = vjp(carry_bar)
        return y0_bar, (time,), tuple(chosen)

    return pull_start


def _adjoint_attempt(
    evaluate: Callable[..., Tensor], solver: Solver, controller: Controller, places: Sequence[int]
) -> Callable[..., Any]:
    """Return one attempt to step (y, a) of the adjoint ODE, and the parameters' integrals over it, with one lane."""

    def attempt(
        tolerances: Sequence[Tensor], inputs: list[Any], like: list[Tensor], target: Tensor, *parts: Any
    ) -> tuple[Any, ...]:
        state = State(*parts)
        own = replaced(controller, tolerances)
        pulls: list[tuple[Any, Tensor]] = []

        def f(t: Tensor, ya: Tensor) -> Tensor:
            y, a = ya.tensor_split(2, dim=1)

            def field(y: Tensor, chosen: Sequence[Tensor]) -> Tensor:
                filled = _with(inputs, places, chosen)
                return evaluate(t, y, like, filled)

            product: Any = torch.func.vjp(field, y, [inputs[i] for i in places])
            dy, pull = product
            pulls.append((pull, a))
            return torch.cat([dy, -pull(a)[0]], dim=1)

        if state.carry:
            f(state.t, state.y)  # the stage that was carried over: its value is known, its integrand is not
        new, step = advance(f, solver, own, target, state)
        h = step.t0 - step.t1  # time runs backwards here, the integral forwards
        integrals = [torch.zeros_like(inputs[i]) for i in places]
        for weight, (pull, a) in zip(solver.weights, pulls, strict=True):
            if weight:
                _, bars = pull(column(weight * h, a) * a)
                integrals = [total + bar for total, bar in zip(integrals, bars, strict=True)]
        return *new, tuple(integrals)

    return attempt
