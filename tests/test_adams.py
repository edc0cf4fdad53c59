"""Adams' methods: exact on polynomials, of their order, and at the cost of the best known programs."""

import warnings
from functools import cache
from itertools import pairwise
from math import exp, log

import numpy as np
import pytest
import torch
from benchmarks.problems import PROBLEMS, Problem
from scipy.integrate import ode
from torch import Tensor

import isocline as iso
from isocline.controllers import FixedStep
from isocline.loop import take
from orders import slope
from problems import HOPF, LOGISTIC

F64 = torch.float64


def error_on_polynomials(solver: iso.AdamsFixed, degree: int, backward: bool) -> float:
    """Largest error on ``y' = p'(t) + (y - p(t)) / 2``, whose solution is p, on uneven grids."""
    generator, k = np.random.default_rng(degree), solver.order
    p = np.polynomial.Polynomial(generator.uniform(0.5, 1.5, degree + 1))
    dp = p.deriv() if degree else lambda t: 0 * t
    grid = torch.tensor(np.cumsum(generator.uniform(0.01, 0.1, (30, 2)), axis=0))
    grid = -grid if backward else grid
    exact, slopes = (torch.tensor(x(grid.numpy())).unsqueeze(2) for x in (p, dp))

    def f(t: Tensor, y: Tensor) -> Tensor:
        at, rate = (torch.tensor(x(t.numpy())).unsqueeze(1) for x in (p, dp))
        return rate + (y - at) / 2

    kept = max(k, 2)
    y, errors = exact[kept - 1], []
    carry = grid[: kept - 1].flip(0).T, slopes[:kept].flip(0).transpose(0, 1), torch.full((2, 1), float(k), dtype=F64)
    for (t0, t1), end in zip(pairwise(grid[kept - 1 :]), exact[kept:], strict=True):
        step, carry = take(f, solver, t0, t1, y, carry)
        y = step.y1
        errors.append((y - end).abs().max() / exact.abs().max())
    return float(max(errors))


@pytest.mark.parametrize("corrector", [False, True])
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("order", range(1, 13))
def test_exact_on_polynomials_and_uneven_grids(order: int, backward: bool, corrector: bool) -> None:
    solver = iso.AdamsFixed(order, corrector)
    # Without a corrector the highest orders amplify rounding errors.
    rounding = 1e-12 if corrector or order < 11 else 1e-10
    assert error_on_polynomials(solver, order, backward) < rounding
    assert error_on_polynomials(solver, order + 1, backward) > 20 * rounding


STEPS = {1: (160, 240), 2: (96, 144), 3: (96, 144), 4: (96, 144), 5: (96, 144), 6: (72, 96), 7: (64, 80), 8: (56, 72)}


def fixed_error(problem: Problem, solver: iso.Solver, n: int, ts: Tensor) -> float:
    assert problem.exact is not None
    exact = problem.exact(ts)
    with torch.no_grad():
        sol = iso.solve(problem.f, exact[0], ts, method=solver, controller=FixedStep((problem.t1 - problem.t0) / n))
    return float((sol.ys - exact).norm(dim=-1).max())


@pytest.mark.parametrize("order", range(1, 13))
def test_measured_order(order: int) -> None:
    ts = torch.linspace(HOPF.t0, HOPF.t1, 5, dtype=F64)
    # The last orders are of rounding errors soon: coarse grids, and just two.
    steps = STEPS.get(order, (32, 40) if order < 12 else (24, 32))
    errors = {n: fixed_error(HOPF, iso.AdamsFixed(order), n, ts) for n in steps}
    assert slope(errors) == pytest.approx(order, abs=0.25 if order < 9 else 1.5)


@pytest.mark.parametrize("order", range(1, 7))
def test_measured_order_without_a_corrector(order: int) -> None:
    ts = torch.linspace(HOPF.t0, HOPF.t1, 5, dtype=F64)
    errors = {n: fixed_error(HOPF, iso.AdamsFixed(order, corrector=False), n, ts) for n in STEPS[order]}
    assert slope(errors) == pytest.approx(order, abs=0.25)


@pytest.mark.parametrize("order", range(1, 9))
def test_measured_order_between_the_steps(order: int) -> None:
    """At order 4 or less from the start on; later at the method's."""
    errors = {}
    for n in STEPS[order]:
        first = 0 if order <= 4 else order
        times = HOPF.t0 + (torch.arange(first, n) + 0.37) * (HOPF.t1 - HOPF.t0) / n
        ends = torch.tensor([HOPF.t0, HOPF.t1])
        errors[n] = fixed_error(HOPF, iso.AdamsFixed(order), n, torch.cat([ends[:1], times, ends[1:]]).to(F64))
    assert slope(errors) == pytest.approx(order, abs=0.3)


def test_a_shortened_last_step_costs_no_accuracy() -> None:
    """Steps that are not even: the weights of even ones would make errors as of order 2."""
    even = fixed_error(LOGISTIC, iso.AdamsFixed(6), 80, torch.tensor([0.0, 5.0], dtype=F64))
    short = fixed_error(LOGISTIC, iso.AdamsFixed(6), 80, torch.tensor([0.0, 4.99], dtype=F64))
    assert short < 3 * even


@pytest.mark.parametrize(("order", "message"), [(0, "whole number >= 1"), (13, "at most 12"), (2.0, "whole number")])
def test_orders_there_are_not(order: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        iso.AdamsFixed(order)


def variable(problem: Problem, tolerance: float, **settings: object) -> iso.Solution:
    with torch.no_grad():
        ends = (problem.t0, problem.t1)
        return iso.solve(problem.f, problem.start, ends, method="adams", rtol=tolerance, atol=tolerance, **settings)  # type: ignore[arg-type]


def order_at_the_end(sol: iso.Solution) -> float:
    return float(sol.state.state.carry[2][0, 0])


def test_the_order_climbs_where_the_solution_is_smooth() -> None:
    loose, middle, tight = (order_at_the_end(variable(PROBLEMS["B5"], tolerance)) for tolerance in (1e-3, 1e-6, 1e-11))
    assert loose < middle < tight
    assert tight >= 9


def test_the_order_is_low_where_the_solution_is_stiff() -> None:
    """High orders are hardly stable: C4 is the heat equation."""
    assert order_at_the_end(variable(PROBLEMS["C4"], 1e-4)) <= 4


@pytest.mark.parametrize("name", ["A1", "A3", "B2", "B5", "C1", "E1", "E3"])
@pytest.mark.parametrize("tolerance", [1e-4, 1e-7, 1e-10])
def test_the_error_is_a_small_multiple_of_the_tolerance(name: str, tolerance: float) -> None:
    problem = PROBLEMS[name]
    end = problem.end()
    error = (variable(problem, tolerance).ys[-1] - end).abs()
    assert float((error / (tolerance + tolerance * end.abs())).max()) < 100


def distance(problem: Problem, y: Tensor) -> float:
    return float((y - problem.end()).abs().max())


@cache
def vode(problem: Problem, tolerance: float) -> tuple[float, int]:
    """Error and number of evaluations of VODE's Adams method."""
    calls = 0

    def f(t: float, y: object) -> object:
        nonlocal calls
        calls += 1
        return problem.numpy_field(t, y)

    program = ode(f).set_integrator("vode", method="adams", rtol=tolerance, atol=tolerance, nsteps=10**6)
    program.set_initial_value(np.array(problem.y0), problem.t0)
    return distance(problem, torch.from_numpy(program.integrate(problem.t1))), calls


def evaluations_at_equal_error(problem: Problem, error: float, tolerance: float) -> float:
    points = [vode(problem, tolerance * 10.0**i) for i in range(-3, 3)]
    points = sorted((log(e), log(calls)) for e, calls in points)
    return exp(np.interp(log(error), *zip(*points, strict=True)))


@pytest.mark.parametrize("name", ["A3", "B5", "D1", "E2", "E3", "Arenstorf"])
@pytest.mark.parametrize("tolerance", [1e-6, 1e-9])
def test_it_costs_no_more_than_vode_at_equal_error(name: str, tolerance: float) -> None:
    problem = PROBLEMS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sol = variable(problem, tolerance)
        theirs = evaluations_at_equal_error(problem, distance(problem, sol.ys[-1]), tolerance)
    assert sol.stats.evaluations < 1.2 * theirs


def test_lanes_step_as_each_alone() -> None:
    mu = torch.tensor([0.1, 1.0, 5.0], dtype=F64)

    def f(t: Tensor, y: Tensor, mu: Tensor) -> Tensor:
        x, v = y.unbind(-1)
        return torch.stack([v, mu * (1 - x**2) * v - x], dim=-1)

    y0 = torch.tensor([2.0, 0.0], dtype=F64)
    ts = torch.linspace(0, 7, 12, dtype=F64)
    settings = {"method": "adams", "rtol": 1e-7, "atol": 1e-7}
    together = iso.solve(f, y0.expand(3, 2), ts, args=(iso.PerLane(mu),), batch_dims=1, **settings)
    for i in range(3):
        alone = iso.solve(f, y0, ts, args=(mu[i],), **settings)
        assert alone.stats.steps == together.stats.steps[i]
        torch.testing.assert_close(alone.ys, together.ys[:, i], rtol=1e-9, atol=1e-9)


def test_saved_states_are_as_good_as_those_at_the_ends_of_steps() -> None:
    ts = torch.linspace(HOPF.t0, HOPF.t1, 301, dtype=F64)
    exact = HOPF.exact(ts)  # type: ignore[misc]
    for tolerance in (1e-5, 1e-9):
        with torch.no_grad():
            sol = iso.solve(HOPF.f, exact[0], ts, method="adams", rtol=tolerance, atol=tolerance)
        errors = (sol.ys - exact).abs().amax(dim=1)
        assert errors.max() < 5 * max(float(errors[-1]), tolerance)


def test_it_passes_a_discontinuity() -> None:
    f = lambda t, y: torch.where(t < 0.5, 1.0, -20.0) * y  # noqa: E731
    y0 = torch.ones(1, dtype=F64)
    sol = iso.solve(f, y0, (0.0, 1.0), method="adams", rtol=1e-8, atol=1e-8)
    assert float(sol.ys[-1]) == pytest.approx(exp(0.5 - 10), abs=1e-7)
    marked = iso.solve(f, y0, (0.0, 1.0), method="adams", rtol=1e-8, atol=1e-8, jump_ts=(0.5,))
    assert marked.stats.evaluations < sol.stats.evaluations


def test_float32() -> None:
    sol = iso.solve(lambda t, y: -y, torch.ones(2), (0.0, 1.0), method="adams", rtol=1e-6, atol=1e-6)
    assert sol.ys.dtype == torch.float32
    torch.testing.assert_close(sol.ys[-1], torch.full((2,), exp(-1)), rtol=3e-6, atol=0.0)


@pytest.mark.parametrize("method", ["adams", "adams_fixed"])
@pytest.mark.parametrize("batch_dims", [0, 1])
def test_parameters_by_the_adjoint(method: str, batch_dims: int) -> None:
    """The way back integrates them over its own interpolant, whose past begins again at each save time."""
    k = torch.tensor(0.7, dtype=F64, requires_grad=True)
    y0 = torch.tensor([[1.0], [2.0]], dtype=F64)
    ts = torch.linspace(0, 1, 4, dtype=F64)
    controller = iso.FixedStep(0.02) if method == "adams_fixed" else iso.PID(1e-9, 1e-9)
    settings = {"method": method, "controller": controller, "batch_dims": batch_dims}
    sol = iso.solve(lambda t, y: -k * y * t, y0, ts, gradient=iso.BacksolveAdjoint(), **settings)
    (found,) = torch.autograd.grad(sol.ys.sum(), k)
    expected = (-(ts**2) / 2 * (-0.7 * ts**2 / 2).exp()).sum() * y0.sum()
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=0.0)
