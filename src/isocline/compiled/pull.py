"""What the backward loops do in each step: pull a gradient back through it, or try one of the adjoint ODE."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from isocline.compiled.packed import Differentiable, Packed, fill_in
from isocline.controllers import Controller, replaced
from isocline.loop import advance, take
from isocline.numbers import column
from isocline.rest import park
from isocline.solvers.base import Field, Solver
from isocline.state import State


def pull_step(packed: Packed, solver: Solver) -> Callable[..., Any]:
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


def pull_start(packed: Packed, solver: Solver) -> Callable[..., Any]:
    """Return the vector-Jacobian product of what the solver carries into its first step."""

    def pull(moved: Tensor, t0: Tensor, y0: Tensor, carry_bar: tuple[Tensor, ...], given: Any) -> tuple[Any, ...]:
        inputs, like = given

        def init(t0: Tensor, y0: Tensor, chosen: Sequence[Tensor]) -> tuple[Tensor, ...]:
            f: Field = Differentiable(packed, (fill_in(inputs, packed.places, chosen), like))
            f, t0, _, y0, _ = park(moved, f, t0, t0, y0, ())
            return solver.init(f, t0, y0, lambda: f(t0, y0))

        vjp: Any = torch.func.vjp(init, t0, y0, [inputs[i] for i in packed.places])[1]
        time, y0_bar, chosen = vjp(carry_bar)
        return y0_bar, (time,), tuple(chosen)

    return pull


def attempt_adjoint(packed: Packed, solver: Solver, controller: Controller) -> Callable[..., Any]:
    """Return one attempt to step (y, a) of the adjoint ODE, and the parameters' integrals over it, with one lane."""

    def attempt(tolerances: Sequence[Tensor], given: Any, target: Tensor, *parts: Any) -> tuple[Any, ...]:
        state = State(*parts)
        own = replaced(controller, tolerances)
        chosen = [given[0][i] for i in packed.places]
        slopes: dict[int, tuple[Tensor, list[Tensor], Tensor]] = {}

        def f(t: Tensor, ya: Tensor) -> Tensor:
            y, a = ya.tensor_split(2, dim=1)
            dy, *kept = packed.keep(t, y, given)
            _, a_bar, *bars = packed.pull(t, y, given, kept, a)
            k = torch.cat([dy, -a_bar], dim=1)
            slopes[id(k)] = a, bars, k
            return k

        first = solver.start_of(state.y, state.carry)
        # Of a stage that was carried over the value is known, the integrand is not.
        carried = 0 if first is None else id(f(state.t, first))
        new, step = advance(f, solver, own, target, state)
        h = step.t0 - step.t1  # time runs backwards here, the integral forwards
        integrals = [torch.zeros_like(x) for x in chosen]
        # Stages beyond those with weights serve interpolation only.
        for weight, k in zip(solver.weights or (), step.stages, strict=False):
            if weight:
                a, bars, _ = slopes[id(k) if id(k) in slopes else carried]
                scale = column(weight * h, a).reshape(())
                integrals = [total + scale * bar for total, bar in zip(integrals, bars, strict=True)]
        return *new, tuple(integrals)

    return attempt
