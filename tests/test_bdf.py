"""Backward differentiation formulas: exact on polynomials, of their order, and at SciPy's cost on stiff problems."""

from functools import cache
from itertools import pairwise
from math import exp, log

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

import isocline as iso
from isocline.loop import take
from orders import slope
from problems import LOGISTIC, RELAXATION

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


def columns(*parts: Tensor) -> Tensor:
    return torch.stack(torch.broadcast_tensors(*parts), dim=-1)


def robertson(t: Tensor, y: Tensor, k: float | Tensor = 0.04) -> Tensor:
    a, b, c = y.unbind(-1)
    slow, fast = k * a - 1e4 * b * c, 3e7 * b**2
    return columns(-slow, slow - fast, fast)


def van_der_pol(t: Tensor, y: Tensor) -> Tensor:
    x, v = y.unbind(-1)
    return columns(v, 20 * (1 - x**2) * v - x)


def hires(t: Tensor, y: Tensor) -> Tensor:
    """Schafer 1975, in Hairer & Wanner 1996, IV.10."""
    a, b, c, d, e, g, h, i = y.unbind(-1)
    bound = 280 * g * i - 1.81 * h
    return columns(
        -1.71 * a + 0.43 * b + 8.32 * c + 0.0007,
        1.71 * a - 8.75 * b,
        -10.03 * c + 0.43 * d + 0.035 * e,
        8.32 * b + 1.71 * c - 1.12 * d,
        -1.745 * e + 0.43 * (g + h),
        -280 * g * i + 0.69 * d + 1.71 * e - 0.43 * g + 0.69 * h,
        bound,
        -bound,
    )


# The field, its start and end, and the absolute over the relative tolerance.
STIFF = {
    "Robertson": (robertson, (1.0, 0.0, 0.0), 1e4, 1e-4),
    "HIRES": (hires, (1.0, *[0.0] * 6, 0.0057), 100.0, 1e-2),
    "van der Pol": (van_der_pol, (2.0, 0.0), 30.0, 1.0),
}


def scipy(name: str, method: str, tolerance: float) -> tuple[Tensor, int]:
    """The state at the end, and the evaluations of f besides those for the Jacobian."""
    f, y0, t1, absolute = STIFF[name]

    def numpy_field(t: float, y: object) -> object:
        return f(torch.tensor(t, dtype=F64), torch.as_tensor(y)).numpy()

    def jacobian(t: float, y: object) -> object:
        return torch.func.jacrev(lambda y: f(torch.tensor(t, dtype=F64), y))(torch.as_tensor(y)).numpy()

    atol = tolerance * absolute
    there = solve_ivp(numpy_field, (0.0, t1), np.array(y0), method, rtol=tolerance, atol=atol, jac=jacobian)
    return torch.from_numpy(there.y[:, -1].copy()), there.nfev


@cache
def reference(name: str) -> Tensor:
    return scipy(name, "Radau", 1e-11)[0]


def distance(name: str, y: Tensor) -> float:
    """Error beside the size of each number that is above what the absolute tolerance thinks of."""
    end = reference(name)
    return float(((y - end).abs() / (end.abs() + STIFF[name][3])).max())


def solve(name: str, tolerance: float, **settings: object) -> iso.Solution:
    f, y0, t1, absolute = STIFF[name]
    start = torch.tensor(y0, dtype=F64)
    settings = {"method": "bdf", "rtol": tolerance, "atol": tolerance * absolute, **settings}
    with torch.no_grad():
        return iso.solve(f, start, (0.0, t1), **settings)  # type: ignore[arg-type]


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
        y, calls = scipy(name, "BDF", tolerance * 10.0**i)
        points.append((log(distance(name, y)), log(calls)))
    theirs = exp(np.interp(log(distance(name, ours.ys[-1])), *zip(*sorted(points), strict=True)))
    assert ours.stats.evaluations < 1.2 * theirs


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
    f = STIFF["HIRES"][0]
    if how.get("jacobian"):
        how = {"jacobian": lambda t, y: torch.func.jacrev(lambda y: f(t, y))(y)}
    sol = solve("HIRES", 1e-6, method=iso.BDF(**how))  # type: ignore[arg-type]
    assert distance("HIRES", sol.ys[-1]) < 1e-5


def test_lanes_with_rates_far_apart_step_as_each_alone() -> None:
    rates = torch.tensor([4e-4, 0.04, 4.0], dtype=F64)
    y0 = torch.tensor([1.0, 0.0, 0.0], dtype=F64)
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
    y0 = torch.tensor([1.0, 0.0, 0.0], dtype=F64).expand(2, 3)

    def end(rates: Tensor, tolerance: float = 1e-6) -> Tensor:
        settings = {"method": "bdf", "rtol": tolerance, "atol": 1e-4 * tolerance, "gradient": gradient}
        return iso.solve(robertson, y0, (0.0, 1.0), args=(iso.PerLane(rates),), batch_dims=1, **settings).ys[-1, :, 2]

    rates = torch.tensor([0.04, 0.4], dtype=F64, requires_grad=True)
    (found,) = torch.autograd.grad(end(rates).sum(), rates)
    with torch.no_grad():
        h = 1e-3 * rates
        expected = (end(rates + h, 1e-10) - end(rates - h, 1e-10)) / (2 * h)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0.0)


def test_the_adjoint_says_what_to_use() -> None:
    y0 = torch.ones(1, dtype=F64, requires_grad=True)
    with pytest.raises(ValueError, match=r"'bdf'.*DirectAdjoint.*RecursiveCheckpointAdjoint"):
        iso.solve(lambda t, y: -y, y0, (0.0, 1.0), method="bdf", gradient=iso.BacksolveAdjoint())
