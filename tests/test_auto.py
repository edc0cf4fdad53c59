"""The method that notices stiffness."""

from typing import Any

import pytest
import torch
from benchmarks.problems import PROBLEMS
from torch import Tensor
from torch.testing import assert_close

import isocline as iso
from isocline.gradients import GRADIENTS

F64 = torch.float64


def attracted(t: Tensor, y: Tensor, rate: Tensor) -> Tensor:
    """Towards cos t, at a rate that decays from its first value to 1: y = cos t is a solution throughout."""
    now = 1 + (rate - 1) * torch.exp(-t)
    return -now * (y - torch.cos(t)) - torch.sin(t)


def solve(rate: float | Tensor, end: float = 30.0, method: str = "auto", **settings: Any) -> iso.Solution:
    y0, args = torch.ones(1, dtype=F64), (torch.as_tensor(rate),)
    return iso.solve(attracted, y0, (0.0, end), args=args, method=method, **settings)


def test_where_nothing_is_stiff_it_is_the_explicit_method() -> None:
    auto, explicit = solve(1.0), solve(1.0, method="tsit5")
    assert torch.equal(auto.ys, explicit.ys)
    assert auto.stats.evaluations == explicit.stats.evaluations
    assert auto.stats.jacobians == 0


def test_it_becomes_stiff_and_explicit_again() -> None:
    sol = solve(1e5, dense=True)
    # Explicit steps of at most 3.3 over the rate would be 30,000.
    assert sol.stats.steps < 400
    # The rate falls to 10 by t = 9; from then on two thirds of the time are left for explicit steps.
    assert 10 < sol.stats.jacobians < sol.stats.steps - 40
    ts = torch.linspace(0, 30, 301, dtype=F64)
    assert_close(sol(ts)[:, 0], ts.cos(), rtol=0, atol=1e-3)


def evaluations(name: str, method: str, tolerance: float, end: float) -> tuple[int, int]:
    problem = PROBLEMS[name]
    settings: dict[str, Any] = {"method": method, "rtol": tolerance, "atol": tolerance * problem.atol}
    with torch.no_grad():
        stats = iso.solve(problem.f, problem.start, (0.0, end), **settings).stats
    return stats.evaluations, stats.jacobians


def test_tight_tolerances_do_not_hide_stiffness() -> None:
    """Accuracy keeps explicit steps below the edge of stability there: only trying shows how long others can be."""
    auto, stiff = (evaluations("Robertson", method, 1e-8, 1e4)[0] for method in ("auto", "rodas5p"))
    assert auto < 1.5 * stiff


@pytest.mark.parametrize("name", ["Arenstorf", "Pleiades"])
def test_trying_costs_little_where_nothing_is_stiff(name: str) -> None:
    problem = PROBLEMS[name]
    auto, jacobians = evaluations(name, "auto", 1e-7, problem.t1)
    explicit, _ = evaluations(name, "tsit5", 1e-7, problem.t1)
    assert 0 < jacobians < 15
    assert auto < 1.08 * explicit


@pytest.mark.parametrize("batch_dims", [0, 1])
def test_each_lane_by_itself(batch_dims: int) -> None:
    rates = torch.tensor([[1.0], [1e2], [1e5]], dtype=F64)
    y0, args = torch.ones(3, 1, dtype=F64), (iso.PerLane(rates) if batch_dims else rates,)
    sol = iso.solve(attracted, y0, (0.0, 10.0), args=args, method="auto", batch_dims=batch_dims)
    assert_close(sol.ys[-1], torch.tensor(10.0, dtype=F64).cos().expand(3, 1), rtol=0, atol=1e-4)
    if batch_dims:
        alone = [solve(rate, 10.0) for rate in rates[:, 0]]
        # Rounding errors of the two ways to factor, times the stiffness, may tip a step over.
        assert_close(sol.ys[-1], torch.stack([one.ys[-1] for one in alone]), rtol=0, atol=1e-5)
        for lane, one in enumerate(alone):
            assert sol.stats.steps[lane] == pytest.approx(one.stats.steps, abs=3)  # type: ignore[index]


def towards(t: Tensor, y: Tensor, rate: Tensor) -> Tensor:
    return -rate * (y - torch.cos(t))


def steady(t: Tensor, rate: Tensor) -> Tensor:
    """The solution of ``towards`` to which all others tend, as exp(-rate t)."""
    return (rate**2 * t.cos() + rate * t.sin()) / (1 + rate**2)


@pytest.mark.parametrize("gradient", ["direct", "checkpoint"])
def test_gradients_of_lanes_with_either_method(gradient: str) -> None:
    rate = torch.tensor([[1.0], [3e3]], dtype=F64, requires_grad=True)
    y0 = torch.tensor([[0.3], [0.4]], dtype=F64, requires_grad=True)
    settings: dict[str, Any] = {"method": "auto", "rtol": 1e-6, "atol": 1e-6, "gradient": GRADIENTS[gradient]}
    sol = iso.solve(towards, y0, (0.0, 3.0), args=(iso.PerLane(rate),), batch_dims=1, **settings)
    assert sol.stats.jacobians > 5
    t = torch.tensor(3.0, dtype=F64)
    exact = steady(t, rate) + (y0 - steady(t * 0, rate)) * (-rate * t).exp()
    assert_close(sol.ys[-1], exact, rtol=0, atol=1e-5)
    found, expected = (torch.autograd.grad(y.sum(), [rate, y0]) for y in (sol.ys[-1], exact))
    assert_close(found[0], expected[0], rtol=1e-3, atol=1e-9)
    assert_close(found[1], expected[1], rtol=1e-4, atol=1e-6)


def test_methods_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="Auto detects stiffness from the stages of tsit5 or dopri5, not of 'vern7'"):
        iso.Auto(explicit=iso.METHODS["vern7"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has 4, that of 'rosenbrock23' 2"):
        iso.Auto(stiff=iso.METHODS["rosenbrock23"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="BacksolveAdjoint cannot solve backwards by method 'auto'"):
        solve(torch.tensor(1.0, requires_grad=True), gradient=iso.BacksolveAdjoint())
