"""Backward differentiation formulas: exact on polynomials, of their order, and at SciPy's cost on stiff problems."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

import isocline as iso
from isocline.loop import take
from orders import slope
from problems import LOGISTIC

F64 = torch.float64


def of_order(k: int, grid: Tensor, states: Tensor) -> tuple[Tensor, ...]:
    """A carry that makes the next step from the end of the grid (N,) one of order k, from exact states (N, n)."""
    kept = min(len(grid), 6)
    times, past = (x[-kept:-1].flip(0).unsqueeze(0) for x in (grid, states))
    times = torch.nn.functional.pad(times, (0, 6 - kept), value=float(grid[0]))
    past = torch.nn.functional.pad(past, (0, 0, 0, 6 - kept))
    n = states.shape[1]
    memory = torch.ones(1, 2, dtype=F64), torch.zeros(1, n, n, dtype=F64)
    return torch.zeros(1, n, dtype=F64), times, past, torch.tensor([[float(k), kept, 0.0]], dtype=F64), *memory


@pytest.mark.parametrize("order", range(1, 6))
@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["forward", "backward"])
def test_exact_on_polynomials_and_uneven_grids(order: int, sign: float) -> None:
    def error(degree: int) -> float:
        generator = np.random.default_rng(degree)
        p = np.polynomial.Polynomial(generator.uniform(0.5, 1.5, degree + 1))
        grid = sign * torch.tensor(np.cumsum(generator.uniform(0.02, 0.1, 8)))
        exact = torch.tensor(p(grid.numpy())).unsqueeze(1)

        def f(t: Tensor, y: Tensor) -> Tensor:
            return torch.tensor(p.deriv()(t.numpy())).unsqueeze(1) - sign * 50 * (y - torch.tensor(p(t.numpy())))

        solver = iso.BDF().tuned(iso.PID(rtol=1e-12, atol=1e-12))
        carry = of_order(order, grid[:-1], exact[:-1])
        step, _ = take(f, solver, grid[-2:-1], grid[-1:], exact[-2:-1], carry)
        return float((step.y1 - exact[-1]).abs())

    assert error(order) < 1e-13
    assert error(order + 1) > 1e-9


@pytest.mark.parametrize("order", range(1, 6))
def test_measured_order(order: int) -> None:
    """Steps of one size and order, from exact states."""
    solver = iso.BDF().tuned(iso.PID(rtol=1e-12, atol=1e-12))
    errors = {}
    for n in (64, 96, 128):
        grid = torch.linspace(LOGISTIC.t0, LOGISTIC.t1, n + 1, dtype=F64)
        exact = LOGISTIC.exact(grid)  # type: ignore[misc]
        states = exact[:6].clone()
        for t0, t1 in pairwise(grid[5:].split(1)):
            reached = len(states)
            carry = of_order(order, grid[:reached], states)
            step, _ = take(LOGISTIC.f, solver, t0, t1, states[-1:], carry)
            states = torch.cat([states, step.y1])
        errors[n] = float((states - exact).abs().max())
    assert slope(errors) == pytest.approx(order, abs=0.2)


def _hires(
    t: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, g: Tensor, h: Tensor, i: Tensor
) -> tuple[Tensor, ...]:
    bound = 280 * g * i
    return (
        -1.71 * a + 0.43 * b + 8.32 * c + 0.0007,
        1.71 * a - 8.75 * b,
        -10.03 * c + 0.43 * d + 0.035 * e,
        8.32 * b + 1.71 * c - 1.12 * d,
        -1.745 * e + 0.43 * g + 0.43 * h,
        -bound + 0.69 * d + 1.71 * e - 0.43 * g + 0.69 * h,
        bound - 1.81 * h,
        -bound + 1.81 * h,
    )
