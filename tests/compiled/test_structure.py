"""Compiled solves by methods with carries and stages of their own."""

from typing import Any

import pytest
import torch
from torch import Tensor

import isocline as iso

from .problems import draw

pytestmark = [
    pytest.mark.usefixtures("graphs_only"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]


def found(f: Any, pair: bool, compiled: bool, **settings: Any) -> tuple[Tensor, ...]:
    """States, and gradients by start, times, and a tensor that f closes over."""
    k = draw(2, seed=3).requires_grad_()
    start = [draw(3, 2, seed=i).requires_grad_() for i in range(1 + pair)]
    ts = torch.tensor([0.0, 0.31, 0.33, 0.9, 1.3], dtype=torch.float64, requires_grad=True)
    sol = iso.solve(
        f,
        tuple(start) if pair else start[0],
        ts,
        args=(k,),
        compile=compiled,
        controller=iso.FixedStep(0.1),
        **settings,
    )
    ys = torch.stack(sol.ys) if pair else sol.ys
    bars = torch.autograd.grad((draw(*ys.shape, seed=7) * ys).sum(), [k, ts, *start])
    return ys.detach(), *bars


def same(f: Any, pair: bool, **settings: Any) -> None:
    for a, b in zip(*(found(f, pair, compiled, **settings) for compiled in (True, False)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_pairs() -> None:
    def f(t: Tensor, state: tuple[Tensor, Tensor], k: Tensor) -> tuple[Tensor, Tensor]:
        q, p = state
        return p * (1 + 0.3 * torch.sin(2 * t)), -k * torch.sin(q)

    same(f, True, method="leapfrog", gradient=iso.DirectAdjoint())


CASES = {
    "reversible_heun, checkpoint": ("reversible_heun", iso.RecursiveCheckpointAdjoint()),
    "reversible_heun, backsolve": ("reversible_heun", iso.BacksolveAdjoint()),
    "Reversible(heun), reversible": (iso.Reversible("heun"), iso.ReversibleAdjoint()),
    "Reversible(heun), backsolve": (iso.Reversible("heun"), iso.BacksolveAdjoint()),
    "Reversible(vern7), direct": (iso.Reversible("vern7"), iso.DirectAdjoint()),
}


@pytest.mark.parametrize("case", CASES)
def test_reversible(case: str) -> None:
    def f(t: Tensor, y: Tensor, k: Tensor) -> Tensor:
        return torch.sin(k * y) + t

    method, gradient = CASES[case]
    same(f, False, method=method, gradient=gradient)
