"""One autograd node for a whole solve, for gradient methods that write their own backward pass."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from isocline.gradients.base import run
from isocline.gradients.captured import Captured, capture, of_graph
from isocline.gradients.random_fields import generator_states, refuse_random
from isocline.precision import without_autocast
from isocline.problem import Dense, Outputs, Problem


class Cotangents(NamedTuple):
    """Gradients of the loss with respect to what the solve returned."""

    ys: Tensor
    """(T, L, n)"""
    dense: Dense | None


class Gradients(NamedTuple):
    """Gradients of the loss with respect to what the solve was given."""

    times: Tensor | None
    """(T, L), or None if not asked for."""
    y0: Tensor
    """(L, n)"""
    inner: tuple[Tensor | None, ...]
    """One for each of ``Captured.inner`` as ``Rule.backward`` got it."""


class Rule(ABC):
    """A forward pass without autograd, and its backward pass."""

    name: ClassVar[str]
    """For messages."""

    @abstractmethod
    def forward(self, problem: Problem, captured: Captured) -> Outputs:
        """Solve, and remember what backward needs; autograd is off."""

    @abstractmethod
    def backward(
        self, problem: Problem, captured: Captured, ys: Tensor, gradients: Cotangents, times: bool
    ) -> Gradients:
        """Return the gradients, given the saved states ys (T, L, n) of the forward pass."""


def add(total: Sequence[Tensor | None], more: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Add gradients one by one; None stands for zero."""
    return [b if a is None else a if b is None else a + b for a, b in zip(total, more, strict=True)]


def attach(problem: Problem, rule: Rule) -> Outputs:
    """Solve by the rule, in one autograd node; without one where nothing requires grad."""
    if not torch.is_grad_enabled():
        return run(problem)
    if problem.traced is None:
        captured = capture(problem.field, problem.times[0], problem.y0, problem.params)
    else:
        captured = of_graph(problem.traced, problem.field)
    if not any(x.requires_grad for x in (problem.times, problem.y0, *captured.outer)):
        return run(problem, captured.f0)
    call = _Call(problem, captured, rule)
    before = generator_states(problem.y0.device)
    tensors = _Solve.apply(call, problem.times, problem.y0, *captured.outer)
    if generator_states(problem.y0.device) != before:
        refuse_random(problem, rule.name)
    assert call.outputs is not None
    state = call.outputs.state
    call.outputs = None  # the node's outputs must not hang on the node
    return Outputs(tensors[0], Dense(*tensors[1:]) if problem.dense else None, state)


class _Call:
    """What belongs to one solve and is not a tensor for autograd."""

    def __init__(self, problem: Problem, captured: Captured, rule: Rule) -> None:
        self.problem = problem
        self.captured = captured
        self.rule = rule
        self.outputs: Outputs | None = None


class _Solve(torch.autograd.Function):
    """Inputs: call, times (T, L), y0 (L, n), captured tensors. Outputs: ys (T, L, n), then Dense if asked for."""

    @staticmethod
    def forward(ctx: Any, call: _Call, times: Tensor, y0: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        outputs = call.rule.forward(call.problem, call.captured)
        call.outputs = outputs
        ctx.call = call
        ctx.save_for_backward(outputs.ys, times, y0, *tensors)
        return (outputs.ys, *(outputs.dense or ()))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        call: _Call = ctx.call
        if torch.is_grad_enabled():
            raise RuntimeError(
                f"{call.rule.name} gives first derivatives only, but create_graph=True asks for more; use "
                "solve(..., gradient=isocline.DirectAdjoint(), compile=False) for higher derivatives"
            )
        ys = ctx.saved_tensors[0]  # also checks that no input was changed in place since
        # What was not reached is nan whatever was given.
        bars = torch.where(ys.isnan().all(dim=2, keepdim=True), 0.0, grads[0])
        cotangents = Cotangents(bars, Dense(*grads[1:]) if len(grads) > 1 else None)
        stats = call.problem.stats
        earlier = stats.backward if call.problem.segment else None
        alive = [x.requires_grad for x in call.captured.inner]  # a parameter may have been frozen since
        captured = replace(call.captured, inner=tuple(compress(call.captured.inner, alive)))
        with without_autocast(ys.device):
            result = call.rule.backward(call.problem, captured, ys, cotangents, ctx.needs_input_grad[1])
        inner = iter(result.inner)
        field, done = captured.field, stats.backward
        assert done is not None
        done.rows, field.spared = done.evaluations * field.layout.lanes - field.spared, 0
        done.jacobians, field.jacobians = field.jacobians, 0
        stats.backward = done if earlier is None else earlier.plus(done)
        for work in call.problem.trackers:
            work.add_backward(done)
        return (None, result.times, result.y0, *(next(inner) if kept else None for kept in alive))
