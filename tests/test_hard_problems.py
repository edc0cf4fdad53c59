"""Standard problems of the field, against closed forms or references made at 1e-13."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmarks.problems import DETEST, NONSTIFF, PROBLEMS, STIFF, Problem
from benchmarks.problems.problem import references
from scipy.integrate import solve_ivp

import isocline as iso

# The methods meant for a kind of problem, each with a tolerance that suits its order. Rosenbrock's and Radau's are held
# to a stricter bound on the same stiff problems in test_stiff_methods.
EXPLICIT = {
    "bosh3": 1e-4,
    "dopri5": 1e-6,
    "tsit5": 1e-6,
    "vern7": 1e-8,
    "vern8": 1e-8,
    "vern9": 1e-9,
    "dopri8": 1e-8,
    "dop853": 1e-8,
    "adams": 1e-6,
    "auto": 1e-6,
}
IMPLICIT = {
    "trbdf2": 1e-3,
    "kvaerno3": 1e-3,
    "kvaerno5": 1e-5,
    "kencarp4": 1e-4,
    "bdf": 1e-4,
    "auto": 1e-4,
}
SMOOTH = [problem for problem in NONSTIFF if problem.name != "rigid body"]
"""The torque of the rigid body starts with a jump in its second derivative, over which methods of high order step."""
ACCUMULATED = {"bosh3": 2, "trbdf2": 3, "kencarp4": 2}
"""Methods of low order take so many steps that their errors add up; kencarp4's estimate has a small constant."""


def pairs(methods: dict[str, float], problems: tuple[Problem, ...]) -> pytest.MarkDecorator:
    """Every method that is there, with every problem."""
    there = [(method, problem) for method in methods for problem in problems]
    return pytest.mark.parametrize(("method", "problem"), there, ids=str)


def run(problem: Problem, method: str, tolerance: float) -> iso.Solution:
    with torch.no_grad():
        return iso.solve(
            problem.f,
            problem.start,
            (problem.t0, problem.t1),
            method=method,
            rtol=tolerance,
            atol=tolerance * problem.atol,
        )


def multiple(problem: Problem, method: str, tolerance: float) -> float:
    """Error at the end, the worst component, in units of the tolerance."""
    return problem.error(run(problem, method, tolerance).ys[-1]) / tolerance


@pairs(EXPLICIT, (*DETEST, *SMOOTH))
def test_the_error_is_a_small_multiple_of_the_tolerance(method: str, problem: Problem) -> None:
    """Tolerances are for steps; what the problem makes of an error in one of them is its condition."""
    assert multiple(problem, method, EXPLICIT[method]) < 10 * ACCUMULATED.get(method, 1) * problem.condition


@pairs(IMPLICIT, STIFF)
def test_stiff_problems_are_solved(method: str, problem: Problem) -> None:
    assert multiple(problem, method, IMPLICIT[method]) < 10 * ACCUMULATED.get(method, 1) * problem.condition


@pytest.mark.parametrize("problem", DETEST, ids=str)
def test_the_error_follows_the_tolerance(problem: Problem) -> None:
    """A thousand times tighter is at least thirty times, and normally a thousand times, more accurate."""
    loose, tight = (tol * multiple(problem, "tsit5", tol) for tol in (1e-5, 1e-8))
    assert tight < loose / 30


@pytest.mark.parametrize("method", ["dopri5", "tsit5"])
def test_the_arenstorf_orbit_closes(method: str) -> None:
    sol = run(PROBLEMS["Arenstorf"], method, 1e-9)
    assert float((sol.ys[-1] - sol.ys[0])[:2].abs().max()) < 1e-4


@pytest.mark.parametrize("name", ["A3", "B5", "C2", "D5", "E2", "Pleiades", "van der Pol, mu=10"])
@pytest.mark.parametrize("tolerance", [1e-4, 1e-7])
def test_dopri5_costs_what_it_costs_in_scipy(name: str, tolerance: float) -> None:
    problem = PROBLEMS[name]
    ours = run(problem, "dopri5", tolerance).stats.evaluations
    theirs = solve_ivp(
        problem.numpy_field, (problem.t0, problem.t1), np.array(problem.y0), rtol=tolerance, atol=tolerance
    ).nfev
    assert ours < 1.3 * theirs


@pytest.mark.parametrize("name", ["A5", "B1", "C2", "D3", "E2", "Pleiades"])
def test_dop853_costs_what_it_costs_in_scipy(name: str) -> None:
    """Evaluations at equal error, from a line through (log error, log evaluations) of three tolerances each."""
    problem = PROBLEMS[name]
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
    problem = replace(PROBLEMS["Robertson"], t1=1.0)
    with torch.no_grad():
        sol = iso.solve(problem.f, problem.start, (0.0, problem.t1), rtol=1e-5, atol=1e-8, throw=False, max_steps=3000)
    assert sol.stats.steps <= 3000
    if sol.success:
        there = solve_ivp(problem.numpy_field, (0.0, 1.0), np.array(problem.y0), "Radau", rtol=1e-9, atol=1e-12)
        assert torch.allclose(sol.ys[-1], torch.from_numpy(there.y[:, -1]), rtol=1e-3, atol=1e-6)
    else:
        assert sol.status == iso.Status.MAX_STEPS
        assert sol.ys[-1].isnan().all()


@pytest.mark.parametrize("problem", [p for p in DETEST if p.exact], ids=str)
def test_closed_forms_are_solutions(problem: Problem) -> None:
    """Where the field's own derivative of the closed form is f: at the start, the middle and the end."""
    assert problem.exact is not None
    ts = torch.linspace(problem.t0, problem.t1, 7, dtype=torch.float64)
    torch.testing.assert_close(problem.exact(ts[:1])[0], problem.start, rtol=1e-13, atol=1e-13)
    h = 1e-3
    weights = {-2: 1 / 12, -1: -2 / 3, 1: 2 / 3, 2: -1 / 12}
    inner = ts[1:-1]
    slope = sum((weight * problem.exact(inner + i * h) for i, weight in weights.items()), torch.zeros(())) / h
    f = torch.stack([problem.f(t, y) for t, y in zip(inner, problem.exact(inner), strict=True)])
    torch.testing.assert_close(slope, f, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=str)
def test_fields_are_the_same_joint_and_per_sample(problem: Problem) -> None:
    t = torch.tensor([[problem.t0], [problem.t1 / 2]], dtype=torch.float64)
    y = torch.stack([problem.start, 1.01 * problem.start + 0.01])
    each = torch.stack([problem.f(t[i, 0], y[i]) for i in range(2)])
    torch.testing.assert_close(problem.f(t, y), each, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("problem", [p for p in PROBLEMS.values() if p.exact is None], ids=str)
def test_references_were_confirmed(problem: Problem) -> None:
    """By another method, or by what was published, to more digits than any test asks for."""
    assert max(references()[problem.name]["digits"].values()) > 8
