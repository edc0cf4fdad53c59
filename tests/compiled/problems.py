"""Solving twice, and comparing."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

import isocline as iso
from isocline.tree import leaves

TIGHT = {"rtol": 1e-8, "atol": 1e-8}


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Net(nn.Module):
    """Depends on everything: t, parameters, a buffer, and numbers that are attributes."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2, dtype=torch.float64)
        self.register_buffer("shift", draw(2, seed=seed + 7))
        self.scale = 1.0
        with torch.no_grad():
            self.linear.weight.copy_(draw(2, 2, seed=seed + 8))
            self.linear.bias.copy_(draw(2, seed=seed + 9))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        if not self.training:
            return -y
        return self.scale * torch.tanh(self.linear(y) + self.shift * torch.sin(2 * t)) - 0.1 * y


def solve_both(f: Callable[..., Any], y0: Any, ts: Any, **settings: Any) -> tuple[iso.Solution, iso.Solution]:
    """Compiled and eager."""
    first, second = (iso.solve(f, y0, ts, compile=compiled, **settings) for compiled in (True, False))
    return first, second


def assert_same(first: iso.Solution, second: iso.Solution) -> None:
    """The same solution, with as many evaluations.

    With several lanes there may be fewer: eager solves make some to see if lanes can leave, and, with gradients, where
    some lanes were rejected.
    """
    for a, b in zip(leaves(first.ys), leaves(second.ys), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9, equal_nan=True)
    assert torch.equal(first.ts, second.ts)
    assert torch.equal(first.status, second.status)
    assert torch.equal(first.stats.steps, second.stats.steps)
    assert torch.equal(first.stats.rejected, second.stats.rejected)
    if first.stats.steps.ndim:
        assert first.stats.evaluations <= second.stats.evaluations
    else:
        assert first.stats.evaluations == second.stats.evaluations
        assert first.stats.rows == first.stats.evaluations


def gradients(ys: Any, wanted: Sequence[Tensor], **settings: Any) -> list[Tensor]:
    """Gradients of a weighted sum of all saved states."""
    loss = sum((draw(*y.shape, seed=i) * y).sum() for i, y in enumerate(leaves(ys)))
    return list(torch.autograd.grad(loss, wanted, **{"retain_graph": True, **settings}))


def assert_same_gradients(f: Callable[..., Any], y0: Any, ts: Any, wanted: Sequence[Tensor], **settings: Any) -> None:
    """The compiled solve and its gradients against the eager ones of ``DirectAdjoint``."""
    first, second = solve_both(f, y0, ts, **settings)
    assert_same(first, second)
    ours, theirs = gradients(first.ys, wanted), gradients(second.ys, wanted)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8 * (1 + b.abs().max().item()))
    backward = first.stats.backward
    assert backward is not None
    assert backward.steps >= first.stats.accepted.max()
    single = not first.stats.steps.ndim
    assert backward.evaluations <= 1 if single else backward.evaluations >= backward.steps
    assert second.stats.backward is None


def graphs() -> int:
    """How many graphs the compiler's front end has made: one for a field, and one for each of its loops."""
    return counters["stats"]["unique_graphs"]
