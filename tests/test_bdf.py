"""Backward differentiation formulas: exact on polynomials, of their order, and at SciPy's cost on stiff problems."""

from dataclasses import replace
from functools import cache
from itertools import pairwise
from math import exp, log

import numpy as np
import pytest
import torch
from benchmarks.problems import Problem
from benchmarks.problems.detest import van_der_pol
from benchmarks.problems.reference import solve as scipy
from benchmarks.problems.stiff import HIRES, ROBERTSON
from torch import Tensor

import isocline as iso
from isocline.loop import take
from orders import slope
from problems import LOGISTIC, RATES, RELAXATION, robertson

F64 = torch.float64


def of_order(k: int, grid: Tensor, states: Tensor) -> tuple[Tensor, ...]:
    """A carry that makes the next step from the end of the grid (N,) one of order k, from exact states (N, n)."""
    kept = min(len(grid), 6)
    times, past = (x[-kept:-1].flip(0).unsqueeze(0) for x in (grid, states))
    times = torch.nn.functional.pad(times, (0, 6 - kept), value=float(grid[0]))
    past = torch.nn.functional.pad(past, (0, 0, 0, 6 - kept))
    n = states.shape[1]
    memory = torch.tensor([[1.0, 0.0, 0.0]], dtype=F64), torch.zeros(1, n, n, dtype=F64)
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
            at, rate = (torch.tensor(x(t.detach().numpy())).unsqueeze(1) for x in (p, p.deriv()))
            return rate - sign * 50 * (y - at)

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
    for n in (96, 144) if order < 5 else (64, 96):
        grid = torch.linspace(RELAXATION.t0, RELAXATION.t1, n + 1, dtype=F64)
        exact = RELAXATION.exact(grid)  # type: ignore[misc]
        states = exact[:6].clone()
        for t0, t1 in pairwise(grid[5:].split(1)):
            reached = len(states)
            carry = of_order(order, grid[:reached], states)
            step, _ = take(RELAXATION.f, solver, t0, t1, states[-1:], carry)
            states = torch.cat([states, step.y1])
        errors[n] = float((states - exact).abs().max())
    assert slope(errors) == pytest.approx(order, abs=0.2)


# With an absolute tolerance that suits all that is larger than the shortest-lived.
STIFF = {
    "Robertson": replace(ROBERTSON, t1=1e4, atol=1e-4),
    "HIRES": replace(HIRES, t1=100.0, atol=1e-2),
    "van der Pol": Problem("van der Pol, mu=20", van_der_pol(20.0), (2.0, 0.0), t1=30.0),
}


@cache
def reference(name: str) -> Tensor:
    return torch.from_numpy(scipy(STIFF[name], "Radau", 1e-11).y[:, -1].copy())


def distance(name: str, y: Tensor) -> float:
    """Error beside the size of each number that is above what the absolute tolerance thinks of."""
    end = reference(name)
    return float(((y - end).abs() / (end.abs() + STIFF[name].atol)).max())


def solve(name: str, tolerance: float, **settings: object) -> iso.Solution:
    problem = STIFF[name]
    settings = {"method": "bdf", "rtol": tolerance, "atol": tolerance * problem.atol, **settings}
    with torch.no_grad():
        return iso.solve(problem.f, problem.start, (0.0, problem.t1), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["Robertson", "HIRES"])
@pytest.mark.parametrize("tolerance", [1e-4, 1e-6, 1e-8])
def test_stiff_problems_are_solved_to_the_tolerance(name: str, tolerance: float) -> None:
    assert distance(name, solve(name, tolerance).ys[-1]) < 10 * tolerance


@pytest.mark.parametrize("name", STIFF)
@pytest.mark.parametrize("tolerance", [1e-4, 1e-6])
def test_it_costs_no_more_than_scipys_at_equal_error(name: str, tolerance: float) -> None:
    ours = solve(name, tolerance)
    points = []
    for i in (-2, -1, 0, 1):
        theirs = scipy(STIFF[name], "BDF", tolerance * 10.0**i)
        points.append((log(distance(name, torch.from_numpy(theirs.y[:, -1]))), log(theirs.nfev)))
    calls = exp(np.interp(log(distance(name, ours.ys[-1])), *zip(*sorted(points), strict=True)))
    assert ours.stats.evaluations < 1.2 * calls


def test_the_order_climbs_with_the_tolerance() -> None:
    loose, tight = (float(solve("HIRES", tol).state.state.carry[3][0, 0]) for tol in (1e-2, 1e-9))
    assert loose < tight
    assert tight >= 4


def test_saved_states_are_as_good_as_those_at_the_ends_of_steps() -> None:
    ts = torch.linspace(LOGISTIC.t0, LOGISTIC.t1, 201, dtype=F64)
    exact = LOGISTIC.exact(ts)  # type: ignore[misc]
    with torch.no_grad():
        sol = iso.solve(LOGISTIC.f, exact[0], ts, method="bdf", rtol=1e-7, atol=1e-7)
    assert (sol.ys - exact).abs().max() < 1e-5
    assert (sol.ys - exact)[-1].abs().max() < 1e-5


@pytest.mark.parametrize("how", [{"jacobian": True}, {"linear_solver": "gmres"}])
def test_other_ways_to_solve_the_equations(how: dict[str, object]) -> None:
    if how.get("jacobian"):
        how = {"jacobian": lambda t, y: torch.func.jacrev(lambda y: HIRES.f(t, y))(y)}
    sol = solve("HIRES", 1e-6, method=iso.BDF(**how))  # type: ignore[arg-type]
    assert distance("HIRES", sol.ys[-1]) < 1e-5


def test_lanes_with_rates_far_apart_step_as_each_alone() -> None:
    rates = RATES.repeat(3, 1)
    rates[:, 0] *= torch.tensor([1e-2, 1.0, 1e2])
    y0 = ROBERTSON.start
    settings = {"method": "bdf", "rtol": 1e-6, "atol": 1e-10}
    with torch.no_grad():
        together = iso.solve(
            robertson, y0.expand(3, 3), (0.0, 100.0), args=(iso.PerLane(rates),), batch_dims=1, **settings
        )
        for i in range(3):
            alone = iso.solve(robertson, y0, (0.0, 100.0), args=(rates[i],), **settings)
            assert alone.stats.steps == together.stats.steps[i]
            torch.testing.assert_close(alone.ys[-1], together.ys[-1, i], rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize(
    "gradient", [iso.DirectAdjoint(), iso.RecursiveCheckpointAdjoint()], ids=["direct", "checkpoint"]
)
def test_gradients_by_the_rates_are_finite_differences(gradient: iso.Gradient) -> None:
    y0 = ROBERTSON.start.expand(2, 3)

    def end(rates: Tensor, tolerance: float = 1e-6) -> Tensor:
        settings = {"method": "bdf", "rtol": tolerance, "atol": 1e-4 * tolerance, "gradient": gradient}
        return iso.solve(robertson, y0, (0.0, 1.0), args=(iso.PerLane(rates),), batch_dims=1, **settings).ys[-1, :, 2]

    def of(first: Tensor) -> Tensor:
        return torch.cat([first.unsqueeze(1), RATES[1:].expand(2, 2)], dim=1)

    rates = torch.tensor([0.04, 0.4], dtype=F64, requires_grad=True)
    (found,) = torch.autograd.grad(end(of(rates)).sum(), rates)
    with torch.no_grad():
        h = 1e-3 * rates
        expected = (end(of(rates + h), 1e-10) - end(of(rates - h), 1e-10)) / (2 * h)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0.0)


def test_the_adjoint_says_what_to_use() -> None:
    y0 = torch.ones(1, dtype=F64, requires_grad=True)
    with pytest.raises(ValueError, match=r"'bdf'.*DirectAdjoint.*RecursiveCheckpointAdjoint"):
        iso.solve(lambda t, y: -y, y0, (0.0, 1.0), method="bdf", gradient=iso.BacksolveAdjoint())
