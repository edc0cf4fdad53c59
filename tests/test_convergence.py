"""The measured order of every method, forward and backward in time, at the steps and between them."""

import pytest
import torch
from torch import Tensor

import isocline as iso
from isocline.tableaus import IMPLICIT, TABLEAUS, ImplicitTableau, Tableau
from orders import slope
from problems import HOPF, LOGISTIC, RELAXATION, Problem

# Numbers of steps by order: fine enough to be asymptotic, coarse enough to stay above rounding errors.
STEPS = {
    1: (160, 240),
    2: (64, 96, 144),
    3: (64, 96, 144),
    4: (64, 96, 144),
    5: (144, 192, 256),
    7: (24, 32, 40),
    8: (12, 16),
    9: (12, 16, 20),
}
FEWER = {1: (160, 240), 2: (32, 48, 64), 3: (32, 48, 64), 4: (32, 48, 64), 5: (32, 48, 64)}
"""The same for methods that iterate, whose steps cost more; their errors are larger, too."""

TABLES: dict[str, Tableau | ImplicitTableau] = {**TABLEAUS, **IMPLICIT}
methods = pytest.mark.parametrize("method", [name for name, table in TABLES.items() if table.order <= 5])
high_methods = pytest.mark.parametrize("method", [name for name, table in TABLES.items() if table.order > 5])
every_method = pytest.mark.parametrize("method", TABLES)
problems = pytest.mark.parametrize("problem", [RELAXATION, LOGISTIC, HOPF], ids=str)


def steps(method: str, order: int) -> tuple[int, ...]:
    return (FEWER if method in IMPLICIT else STEPS)[order]


def error(problem: Problem, method: str, n: int, ts: Tensor) -> float:
    """Largest error at times ts with n fixed steps over the whole interval."""
    assert problem.exact is not None
    exact = problem.exact(ts)
    step = iso.FixedStep((problem.t1 - problem.t0) / n)
    with torch.no_grad():
        sol = iso.solve(problem.f, exact[0], ts, method=method, controller=step)
    assert sol.stats.steps == n
    return float((sol.ys - exact).norm(dim=-1).max())


@methods
@problems
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_order(problem: Problem, method: str, backward: bool) -> None:
    order = TABLES[method].order
    # Quarters of the interval are ends of steps.
    ts = torch.linspace(problem.t0, problem.t1, 5, dtype=torch.float64)
    errors = {n: error(problem, method, n, ts.flip(0) if backward else ts) for n in steps(method, order)}
    assert slope(errors) == pytest.approx(order, abs=0.1)


def within_steps(problem: Problem, n: int) -> Tensor:
    """Three times inside each of n steps, and the ends of the interval."""
    theta = torch.tensor([0.21, 0.5, 0.83], dtype=torch.float64)
    inner = (torch.arange(n).unsqueeze(1) + theta).flatten() / n
    unit = torch.cat([torch.zeros(1), inner, torch.ones(1)])
    return problem.t0 + (problem.t1 - problem.t0) * unit


@methods
@problems
def test_order_between_the_steps(problem: Problem, method: str) -> None:
    table = TABLES[method]
    order = min(table.order, table.dense_order + 1)
    errors = {n: error(problem, method, n, within_steps(problem, n)) for n in steps(method, order)}
    assert slope(errors) == pytest.approx(order, abs=0.15)


# At high order it is not far from the coarsest steps that are asymptotic to rounding errors, so slopes are less sharp;
# and on each of the problems the leading errors of some method nearly cancel, hence the median.


@high_methods
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_high_order(method: str, backward: bool) -> None:
    order, slopes = TABLEAUS[method].order, []
    for problem in (RELAXATION, LOGISTIC, HOPF):
        ts = torch.linspace(problem.t0, problem.t1, 5, dtype=torch.float64)
        slopes.append(slope({n: error(problem, method, n, ts.flip(0) if backward else ts) for n in STEPS[order]}))
    assert sorted(slopes)[1] == pytest.approx(order, abs=0.45)


@high_methods
@pytest.mark.parametrize("problem", [RELAXATION, HOPF], ids=str)
def test_high_order_between_the_steps(problem: Problem, method: str) -> None:
    """The interpolant's own error is of the same order, or higher by one, and may outweigh that of the steps."""
    table = TABLEAUS[method]
    order = min(table.order, table.dense_order + 1)
    errors = {n: error(problem, method, n, within_steps(problem, n)) for n in STEPS[order]}
    assert order - 0.2 < slope(errors) < order + 1.3


@every_method
def test_lanes_take_the_same_fixed_steps_as_a_joint_solve(method: str) -> None:
    y0 = torch.rand(5, 2, dtype=torch.float64)
    ts = torch.linspace(0, 2, 7, dtype=torch.float64)
    joint, lanes = (
        iso.solve(HOPF.f, y0, ts, method=method, controller=iso.FixedStep(0.1), batch_dims=batch_dims).ys
        for batch_dims in (0, 1)
    )
    # Each lane iterates as far as it must; the weights of vern8 are up to 120 in size.
    tolerance = 1e-11 if method in IMPLICIT else 1e-13 if method == "vern8" else 1e-14
    torch.testing.assert_close(lanes, joint, rtol=10 * tolerance if method in IMPLICIT else tolerance, atol=tolerance)
