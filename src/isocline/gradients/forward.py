"""Forward sensitivities: derivatives go along with the solve."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, reduce
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode

from isocline.gradients.base import Gradient, run
from isocline.gradients.captured import Captured, around
from isocline.gradients.node import Cotangents, Gradients, Rule, attach
from isocline.history import walk
from isocline.problem import Dense, Outputs, Problem
from isocline.solution import Stats
from isocline.transforms import plain, pulling, transforming
from isocline.tree import describe, leaves, map_leaves


@dataclass(frozen=True)
class ForwardMode(Gradient):
    r"""Carry the derivatives of the state along with it: for few inputs and many outputs.

    With ``S = dy/dp``: ``dS/dt = df/dy S + df/dp``, by the same steps as the state, so the gradient is that of the
    discrete solution, equal to ``DirectAdjoint``'s to rounding. No graph is kept: memory is O(1) in the number of
    steps.

    * In ``torch.func.jvp``, ``jacfwd``, or a ``dual_level`` of ``torch.autograd.forward_ad`` one or several tangents go
      along, as the transform asks. They may be nested, for derivatives of any order.
    * For ``loss.backward()`` the tangents of all inputs that require grad go along in one solve: one for every number
      of y0 and of each parameter that f uses (with ``batch_dims`` those of y0 and the times serve all samples). The
      Jacobian of the saved states is kept, and ``backward`` evaluates nothing. So the solve costs as many times more,
      in time and memory, as there are such numbers. First derivatives only.

    f must consist of operations that have forward-mode derivatives, as nearly all of torch's have.

    Raises:
        RuntimeError: inside ``torch.func.grad``, ``vjp`` or ``jacrev``, or f uses a tensor that requires grad in a way
            in which it has no tangent.

    References:
        Chen, Rubanova, Bettencourt & Duvenaud 2018, arXiv:1806.07366, section 7 (forward sensitivity analysis);
        Hairer, Norsett & Wanner 1993, Solving Ordinary Differential Equations I, I.14.

    Example:
        >>> import isocline as iso, torch
        >>> k = torch.tensor(0.5, requires_grad=True)
        >>> sol = iso.solve(lambda t, y: -k * y, torch.ones(1000), (0.0, 1.0), gradient=iso.ForwardMode())
        >>> sol.ys[-1].mean().backward()
        >>> round(k.grad.item(), 4)  # -exp(-1/2)
        -0.6065
    """

    def solve(self, problem: Problem) -> Outputs:
        """Solve without a graph; the tangents of the transform around, or of all that requires grad, go along."""
        problem = replace(problem, traced=None)
        if not transforming():
            return attach(problem, _ForwardMode())
        if pulling() and torch.is_grad_enabled():
            raise RuntimeError(
                "ForwardMode keeps no graph, so torch.func.grad, vjp and jacrev cannot go back through it; use jvp or "
                "jacfwd, or gradient=isocline.DirectAdjoint()"
            )
        with torch.no_grad():
            return run(problem)


class _ForwardMode(Rule):
    name = "ForwardMode"

    def __init__(self) -> None:
        self.jacobians: tuple[Tensor, ...]
        """Of each output (A, L, ...) in the directions of ``_tangents``: (P, A, L, ...)."""

    def forward(self, problem: Problem, captured: Captured) -> Outputs:
        """Solve with the tangents of all inputs side by side."""
        _load()
        inputs = [problem.times, problem.y0, *captured.inner]
        moved = [i for i, x in enumerate(inputs) if x.requires_grad]
        state: list[Any] = []

        def states(*values: Tensor) -> tuple[Tensor, ...]:
            given = dict(zip(moved, values, strict=True))
            outputs = _run(problem, captured, [given.get(i, x) for i, x in enumerate(inputs)])
            state.append(map_leaves(lambda x: plain(x) if isinstance(x, Tensor) else x, outputs.state))
            return (outputs.ys, *(outputs.dense or ()))

        def push(*tangents: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
            at = tuple(inputs[i].detach().contiguous() for i in moved)
            return torch.func.jvp(states, at, tangents)  # type: ignore[return-value]

        tangents = _tangents(_units(inputs)[i] for i in moved)
        pushed = torch.vmap(push, out_dims=(None, 0), randomness="same")  # type: ignore[arg-type]
        (ys, *dense), self.jacobians = pushed(*tangents)
        return Outputs(ys, Dense(*dense) if dense else None, state[0])

    def backward(
        self, problem: Problem, captured: Captured, ys: Tensor, gradients: Cotangents, times: bool
    ) -> Gradients:
        """Weigh the Jacobian by the gradient of the loss."""
        bars = gradients.ys, *(gradients.dense or ())
        weighed = (
            torch.einsum("plk,lk->pl", part.transpose(1, 2).flatten(2), bar.transpose(0, 1).flatten(1))
            for part, bar in zip(self.jacobians, bars, strict=True)
        )
        inputs = [problem.times, problem.y0, *captured.inner]
        counts = [len(units) if x.requires_grad else 0 for x, units in zip(inputs, _units(inputs), strict=True)]
        by_times, by_y0, *by_inner = reduce(torch.add, weighed).split(counts)
        problem.stats.backward = Stats(0, 0, 0, 0)
        return Gradients(
            by_times if times else None,
            by_y0.T.to(ys) if problem.y0.requires_grad else torch.zeros_like(problem.y0),
            tuple(by.sum(dim=1).reshape(x.shape).to(x) for by, x in zip(by_inner, captured.inner, strict=True)),
        )


@cache
def _load() -> None:
    """Let torch load what it has for forward mode, without the deprecation warnings of its own imports."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore")
        forward_ad.make_dual(torch.zeros(()), torch.zeros(()))


def _run(problem: Problem, captured: Captured, inputs: Sequence[Tensor]) -> Outputs:
    """Solve with other times, y0 and captured tensors; what is evaluated counts for the problem's field."""
    times, y0, *inner = inputs
    field = captured.at(inner)
    field = field.like(around(field.function, lambda f: _Pushed(f, captured.complete)), field.args)
    outputs = run(replace(problem, field=field, y0=y0, ts=problem.ts._replace(values=times)))
    problem.field.evaluations += field.evaluations
    problem.field.spared += field.spared
    problem.field.jacobians += field.jacobians
    return outputs


def _units(inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return the unit vectors of times (T, L), y0 (L, n) and captured tensors; lanes do not depend on each other, so
    those of times and y0 are (T, T, L) and (n, L, n): one for all lanes.
    """
    times, y0, *inner = inputs
    return [
        _eye(times, len(times)).unsqueeze(2).expand(-1, -1, times.shape[1]),
        _eye(y0, y0.shape[1]).unsqueeze(1).expand(-1, len(y0), -1),
        *(_eye(x, x.numel()).reshape(-1, *x.shape) for x in inner),
    ]


def _eye(like: Tensor, size: int) -> Tensor:
    return torch.eye(size, dtype=like.dtype, device=like.device)


def _tangents(units: Iterable[Tensor]) -> list[Tensor]:
    """Return the tangents of all inputs, P each: in the direction of one input's unit vector the others have zero."""
    units = list(units)
    counts = list(accumulate(map(len, units), initial=0))
    return [
        torch.cat([x.new_zeros(before, *x.shape[1:]), x, x.new_zeros(counts[-1] - before - len(x), *x.shape[1:])])
        for before, x in zip(counts, units, strict=False)
    ]


@dataclass(frozen=True)
class _Pushed:
    """f with tangents going through it, as gradients would go back through it."""

    function: Callable[..., Any]
    complete: bool
    """Whether tensors without a tangent are an error: not if the user said which to differentiate."""

    def __call__(self, *args: Any) -> Any:
        with torch.enable_grad(), _Cut():
            result = self.function(*args)
        lost = walk(plain(x) for x in leaves(result) if isinstance(x, Tensor))[0] if self.complete else []
        if lost:
            raise RuntimeError(
                f"f used {describe(lost[0])} that requires grad and has no tangent: it was not used in the first "
                "evaluation, or goes to something that is not a torch function; name it in params=[...], or use "
                "gradient=DirectAdjoint()"
            )
        return result


class _Cut(TorchFunctionMode):
    """Makes constants of what f computes under ``no_grad``: of forward mode torch does not ask it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not torch.is_grad_enabled():
            args, kwargs = map_leaves(lambda x: x.detach() if isinstance(x, Tensor) else x, (args, kwargs))
        return func(*args, **kwargs)
