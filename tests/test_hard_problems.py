"""Standard problems of the field, against closed forms or SciPy's DOP853 at 1e-13."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

import isocline as iso
from problems import (
    ARENSTORF,
    DETEST,
    LORENZ,
    PLEIADES,
    ROBERTSON,
    VAN_DER_POL_10,
    Problem,
)

PROBLEMS = (*DETEST, PLEIADES, VAN_DER_POL_10, LORENZ)
BY_NAME = {problem.name: problem for problem in (*PROBLEMS, ARENSTORF, ROBERTSON)}

# Error at the end in units of the tolerance. Error control is per step; what a problem makes of it is its condition.
USUAL = 100
AMPLIFIED = {"B1": 400, "D1": 1500, "D2": 1500, "D3": 600, "D4": 300, "D5": 600, "Pleiades": 2000, "Lorenz": 400}

every_problem = pytest.mark.parametrize("problem", PROBLEMS, ids=str)


def run(problem: Problem, method: str, tolerance: float) -> iso.Solution:
    with torch.no_grad():
        return iso.solve(
            problem.f,
            problem.start,
            (problem.t0, problem.t1),
            method=method,
            rtol=tolerance,
            atol=tolerance,
        )


def scaled_error(problem: Problem, method: str, tolerance: float) -> float:
    """Error at the end over (atol + rtol |y|), the worst component."""
    end = problem.end()
    error = (run(problem, method, tolerance).ys[-1] - end).abs()
    return float((error / (tolerance + tolerance * end.abs())).max())


@pytest.mark.parametrize(
    ("method", "tolerance"), [("bosh3", 1e-4), ("dopri5", 1e-6), ("tsit5", 1e-6), ("vern7", 1e-8), ("dopri8", 1e-9)]
)
@every_problem
def test_the_error_is_a_small_multiple_of_the_tolerance(problem: Problem, method: str, tolerance: float) -> None:
    assert scaled_error(problem, method, tolerance) < AMPLIFIED.get(problem.name, USUAL)


@every_problem
def test_the_error_follows_the_tolerance(problem: Problem) -> None:
    """A thousand times tighter is at least thirty times, and normally a thousand times, more accurate."""
    loose, tight = (tol * scaled_error(problem, "tsit5", tol) for tol in (1e-5, 1e-8))
    assert tight < loose / 30


@pytest.mark.parametrize("method", ["dopri5", "tsit5"])
def test_the_arenstorf_orbit_closes(method: str) -> None:
    sol = run(ARENSTORF, method, 1e-9)
    assert float((sol.ys[-1] - sol.ys[0])[:2].abs().max()) < 1e-4


@pytest.mark.parametrize("name", ["A3", "B5", "C2", "D5", "E2", "Pleiades", "van der Pol, mu=10"])
@pytest.mark.parametrize("tolerance", [1e-4, 1e-7])
def test_dopri5_costs_what_it_costs_in_scipy(name: str, tolerance: float) -> None:
    problem = BY_NAME[name]
    ours = run(problem, "dopri5", tolerance).stats.evaluations
    theirs = solve_ivp(
        problem.numpy_field, (problem.t0, problem.t1), np.array(problem.y0), rtol=tolerance, atol=tolerance
    ).nfev
    assert ours < 1.3 * theirs


@pytest.mark.parametrize("name", ["A5", "B1", "C2", "D3", "E2", "Pleiades"])
def test_dop853_costs_what_it_costs_in_scipy(name: str) -> None:
    """Evaluations at equal error, from a line through (log error, log evaluations) of three tolerances each."""
    problem = BY_NAME[name]
    ours, theirs = [], []
    for tolerance in (1e-5, 1e-7, 1e-9):
        sol = run(problem, "dop853", tolerance)
        ours.append((sol.stats.evaluations, float((sol.ys[-1] - problem.end()).norm())))
        span, y0 = (problem.t0, problem.t1), np.array(problem.y0)
        other = solve_ivp(problem.numpy_field, span, y0, method="DOP853", rtol=tolerance, atol=tolerance)
        theirs.append((other.nfev, float((torch.from_numpy(other.y[:, -1]) - problem.end()).norm())))
    middle = np.log([error for _, error in ours + theirs]).mean()
    ours_there, theirs_there = (
        np.polyval(np.polyfit(np.log([error for _, error in found]), np.log([n for n, _ in found]), 1), middle)
        for found in (ours, theirs)
    )
    assert ours_there - theirs_there < np.log(1.2)


def test_robertson_is_solved_or_given_up_soon() -> None:
    """Stiff: stability, not accuracy, sets the steps of an explicit method."""
    problem = ROBERTSON
    with torch.no_grad():
        sol = iso.solve(problem.f, problem.start, (0.0, problem.t1), rtol=1e-5, atol=1e-8, throw=False, max_steps=3000)
    assert sol.stats.steps <= 3000
    if sol.success:
        assert torch.allclose(sol.ys[-1], problem.end(), rtol=1e-3, atol=1e-6)
    else:
        assert sol.status == iso.Status.MAX_STEPS
        assert sol.ys[-1].isnan().all()
