"""Rosenbrock and Radau methods: orders, stiff problems, batches of them, gradients, Jacobians by the user, failures."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.problems import Problem
from benchmarks.problems.reference import solve as scipy
from benchmarks.problems.stiff import HIRES, ROBERTSON, STIFF, VAN_DER_POL_1E3
from scipy.integrate import solve_ivp
from torch import Tensor

import isocline as iso
from problems import HOPF, LOGISTIC, RATES, RELAXATION, robertson, van_der_pol
from test_convergence import error, slope, within_steps

F64 = torch.float64

METHODS = ("rosenbrock23", "rodas4", "rodas5p", "radau")
STEPS = {2: (64, 96, 144), 4: (48, 64, 96), 5: (16, 24, 36)}

every_method = pytest.mark.parametrize("method", METHODS)
smooth = pytest.mark.parametrize("problem", [RELAXATION, LOGISTIC, HOPF], ids=str)


def with_jacobian(method: str, jacobian: Any) -> iso.Solver:
    return replace(iso.METHODS[method], jacobian=jacobian)  # type: ignore[type-var]


# Order -----------------------------------------------------------------------------------------------------------


@every_method
@smooth
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_order(problem: Problem, method: str, backward: bool) -> None:
    order = iso.METHODS[method].order
    ts = torch.linspace(problem.t0, problem.t1, 5, dtype=F64)
    errors = {n: error(problem, method, n, ts.flip(0) if backward else ts) for n in STEPS[order]}
    assert slope(errors) == pytest.approx(order, abs=0.25)


@every_method
@smooth
def test_order_between_the_steps(problem: Problem, method: str) -> None:
    solver = iso.METHODS[method]
    order = min(solver.order, solver.dense_order + 1)  # type: ignore[attr-defined]
    errors = {n: error(problem, method, n, within_steps(problem, n)) for n in STEPS[solver.order]}
    assert slope(errors) == pytest.approx(order, abs=0.25)


@every_method
def test_steps_far_longer_than_the_fast_scale(method: str) -> None:
    """Prothero & Robinson 1974: the solution is cos t, whatever the stiffness; the start is off it."""
    for rate in (1e4, 1e8):
        sol = iso.solve(
            lambda t, y, rate=rate: -rate * (y - t.cos()) - t.sin(),
            torch.tensor([1.5], dtype=F64),
            (0.0, 0.2, 2.0),
            method=method,
            controller=iso.FixedStep(0.1),
        )
        torch.testing.assert_close(sol.ys[1:, 0], sol.ts[1:].cos(), rtol=0.0, atol=2e-3)


# Stiff problems --------------------------------------------------------------------------------------------------

# Methods and tolerances that suit them.
SUITED = {"rodas5p": 1e-4, "radau": 1e-4, "rodas4": 1e-4, "rosenbrock23": 1e-3}

# Error at the end in units of the tolerance; the jumps of a limit cycle come too late or too early.
USUAL = 10
AMPLIFIED = {("rosenbrock23", "Oregonator"): 150}


@pytest.mark.parametrize("problem", STIFF, ids=str)
@every_method
def test_stiff_problems(problem: Problem, method: str) -> None:
    rtol = SUITED[method]
    with torch.no_grad():
        sol = iso.solve(problem.f, problem.start, (0.0, problem.t1), method=method, rtol=rtol, atol=rtol * problem.atol)
    assert problem.error(sol.ys[-1]) < AMPLIFIED.get((method, problem.name), USUAL) * rtol


@pytest.mark.parametrize("problem", [ROBERTSON, VAN_DER_POL_1E3, HIRES], ids=str)
def test_radau_costs_what_it_costs_in_scipy(problem: Problem) -> None:
    """SciPy does not count evaluations for Jacobians; ours are one each."""
    rtol = 1e-4
    with torch.no_grad():
        sol = iso.solve(
            problem.f, problem.start, (0.0, problem.t1), method="radau", rtol=rtol, atol=rtol * problem.atol
        )
    theirs = scipy(problem, "Radau", rtol)
    assert sol.stats.evaluations - sol.stats.jacobians < 1.05 * theirs.nfev
    assert sol.stats.jacobians < 1.5 * theirs.njev
    assert problem.error(sol.ys[-1]) < 3 * problem.error(torch.from_numpy(theirs.y[:, -1]))


@every_method
def test_samples_of_different_stiffness_are_solved_as_if_alone(method: str) -> None:
    mu = torch.tensor([0.3, 5.0, 200.0], dtype=F64)
    y0 = torch.tensor([[2.0, 0.0]], dtype=F64).expand(3, 2)
    settings: dict[str, Any] = {"method": method, "rtol": 1e-4, "atol": 1e-6}
    with torch.no_grad():
        together = iso.solve(van_der_pol, y0, (0.0, 0.9), args=(iso.PerLane(mu),), batch_dims=1, **settings)
        for lane in range(3):
            alone = iso.solve(van_der_pol, y0[lane], (0.0, 0.9), args=(mu[lane],), **settings)
            assert together.stats.steps[lane] == alone.stats.steps
            torch.testing.assert_close(together.ys[-1, lane], alone.ys[-1], rtol=1e-8, atol=1e-8)
    steps = together.stats.steps
    assert steps[2] > 3 * steps[0]


@every_method
def test_float32(method: str) -> None:
    sol = iso.solve(HIRES.f, HIRES.start.float(), (0.0, HIRES.t1), method=method, rtol=1e-3, atol=1e-6)
    assert sol.ys.dtype == torch.float32
    assert HIRES.error(sol.ys[-1].double()) < 0.02


@every_method
def test_a_state_of_several_tensors(method: str) -> None:
    def f(t: Tensor, y: dict[str, Any]) -> dict[str, Any]:
        matrix, (vector,) = y["a"], y["b"]
        return {"a": -10 * matrix @ matrix + vector.sum(), "b": (matrix.sum(dim=-1) - t * vector,)}

    y0 = {"a": torch.eye(2, dtype=F64), "b": (torch.ones(2, dtype=F64),)}
    settings = {"rtol": 1e-6, "atol": 1e-6}
    found, expected = (iso.solve(f, y0, (0.0, 1.0), method=m, **settings).ys for m in (method, "tsit5"))
    torch.testing.assert_close(found["a"], expected["a"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found["b"][0], expected["b"][0], rtol=1e-4, atol=1e-4)


@every_method
def test_inference_mode(method: str) -> None:
    """There is no autograd there, unless it is switched on: a Jacobian of zeros would go unnoticed."""
    with torch.no_grad():
        expected = iso.solve(HIRES.f, HIRES.start, (0.0, 5.0), method=method)
    with torch.inference_mode():
        found = iso.solve(HIRES.f, HIRES.start, (0.0, 5.0), method=method)
    assert found.stats.evaluations == expected.stats.evaluations
    assert torch.equal(found.ys, expected.ys)


# Gradients -------------------------------------------------------------------------------------------------------

GRADIENTS = {"direct": iso.DirectAdjoint(), "checkpoint": iso.RecursiveCheckpointAdjoint(4)}
SAMPLES = RATES * torch.tensor([[1.0], [10.0]], dtype=F64)


@cache
def slopes_of_scipy() -> Tensor:
    """Differences of what Robertson's reaction has made until 0.3 and 40, by the rates of each sample."""

    def made(k: Any) -> float:
        def f(t: float, y: Any) -> Any:
            slow, fast = k[0] * y[0] - k[2] * y[1] * y[2], k[1] * y[1] ** 2
            return [-slow, slow - fast, fast]

        return float(solve_ivp(f, (0, 40), [1.0, 0, 0], "Radau", [0.3, 40.0], rtol=1e-10, atol=1e-13).y[2].sum())

    def slope(k: Any, i: int) -> float:
        shift = 1e-3 * k[i] * np.eye(3)[i]
        return (made(k + shift) - made(k - shift)) / (2e-3 * float(k[i]))

    return torch.tensor([[slope(k, i) for i in range(3)] for k in SAMPLES.numpy()], dtype=F64)


@pytest.mark.parametrize(
    ("method", "gradient"),
    [("rosenbrock23", "direct"), *((method, gradient) for method in ("rodas5p", "radau") for gradient in GRADIENTS)],
)
def test_gradients_with_respect_to_rate_constants(method: str, gradient: str) -> None:
    """Each sample has its own rates."""
    rates = SAMPLES.clone().requires_grad_()
    y0 = ROBERTSON.start.expand(2, 3)
    rtol = 1e-4 if method == "rosenbrock23" else 1e-6
    settings: dict[str, Any] = {"method": method, "rtol": rtol, "atol": 1e-4 * rtol, "batch_dims": 1}
    how = GRADIENTS[gradient]
    sol = iso.solve(robertson, y0, (0.0, 0.3, 40.0), args=(iso.PerLane(rates),), gradient=how, **settings)
    (found,) = torch.autograd.grad(sol.ys[1:, :, 2].sum(), rates)
    torch.testing.assert_close(found, slopes_of_scipy(), rtol=2e-2 if method == "rosenbrock23" else 1e-4, atol=0.0)


@every_method
def test_nothing_is_recorded_for_autograd_where_nothing_requires_grad(method: str) -> None:
    sol = iso.solve(HIRES.f, HIRES.start, (0.0, 5.0), method=method, dense=True)
    assert not sol.ys.requires_grad
    with torch.no_grad():
        assert sol.stats.evaluations == iso.solve(HIRES.f, HIRES.start, (0.0, 5.0), method=method).stats.evaluations


@every_method
def test_a_parameter_alone_is_differentiated(method: str) -> None:
    """Neither y0 nor times require grad: what f closes over must be found by itself."""
    p = torch.tensor(0.7, dtype=F64, requires_grad=True)
    sol = iso.solve(lambda t, y: -p * y**2, torch.ones(1, dtype=F64), (0.0, 1.0), method=method, rtol=1e-7, atol=1e-7)
    (found,) = torch.autograd.grad(sol.ys[-1].sum(), p)
    assert found.item() == pytest.approx(-1 / 1.7**2, rel=1e-4)  # y = 1 / (1 + p t)


@every_method
def test_backsolve_says_what_to_use(method: str) -> None:
    y0 = torch.ones(1, dtype=F64, requires_grad=True)
    with pytest.raises(ValueError, match=rf"cannot solve backwards by method '{method}'; use .*method='tsit5'"):
        iso.solve(lambda t, y: -y, y0, (0.0, 1.0), method=method, gradient=iso.BacksolveAdjoint())
    gradient = iso.BacksolveAdjoint(method="tsit5", rtol=1e-7, atol=1e-7)
    sol = iso.solve(lambda t, y: -y, y0, (0.0, 1.0), method=method, rtol=1e-6, atol=1e-6, gradient=gradient)
    (found,) = torch.autograd.grad(sol.ys[-1].sum(), y0)
    assert found.item() == pytest.approx(np.exp(-1), rel=1e-5)


# Jacobians by the user -------------------------------------------------------------------------------------------


def van_der_pol_jacobian(t: Tensor, y: Tensor, mu: Tensor) -> Tensor:
    x, v = y.unbind(-1)
    one = torch.ones_like(x)
    rows = [torch.stack([0 * one, one], -1), torch.stack([mu**2 * (-2 * x * v - 1), mu**2 * (1 - x**2)], -1)]
    return torch.stack(rows, dim=-2)


@every_method
@pytest.mark.parametrize("batch_dims", [0, 1])
def test_a_jacobian_by_the_user_is_as_good_as_ours(method: str, batch_dims: int) -> None:
    mu = torch.tensor([3.0, 8.0], dtype=F64) if batch_dims else torch.tensor(3.0, dtype=F64)
    calls = 0

    def jacobian(t: Tensor, y: Tensor, mu: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return van_der_pol_jacobian(t, y, mu)

    def solved(solver: iso.Solver) -> tuple[Tensor, Tensor, int]:
        y0 = torch.tensor([2.0, 0.0], dtype=F64).expand(*mu.shape, 2).clone().requires_grad_()
        # Something that changes in time, so that its derivative matters too.
        f = lambda t, y, mu: van_der_pol(t, y, mu) + (3 * t).sin()  # noqa: E731
        settings: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5, "batch_dims": batch_dims}
        sol = iso.solve(f, y0, (0.0, 0.6), args=(iso.PerLane(mu),), method=solver, **settings)
        return sol.ys[-1].detach(), torch.autograd.grad(sol.ys[-1].sum(), y0)[0], sol.stats.evaluations

    ours, theirs = solved(iso.METHODS[method]), solved(with_jacobian(method, jacobian))
    assert calls > 0
    assert ours[2] == theirs[2]
    torch.testing.assert_close(theirs[:2], ours[:2], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", ["rodas5p", "radau", "kvaerno3", "bdf"])
def test_a_jacobian_for_a_state_of_several_tensors(method: str) -> None:
    """Over all numbers one after another; the rates are 1 and 100, and only the slower is excited."""
    calls = 0

    def jacobian(t: Tensor, y: dict[str, Tensor]) -> Tensor:
        nonlocal calls
        calls += 1
        return torch.tensor([[0.0, 1.0], [-100.0, -101.0]], dtype=F64)

    y0 = {"x": torch.ones(1, dtype=F64), "v": -torch.ones(1, dtype=F64)}
    sol = iso.solve(
        lambda t, y: {"x": 1 * y["v"], "v": -100 * y["x"] - 101 * y["v"]},
        y0,
        (0.0, 1.0),
        method=with_jacobian(method, jacobian),
        rtol=1e-6,
        atol=1e-6,
    )
    assert calls == sol.stats.jacobians > 0
    assert sol.ys["x"][-1].item() == pytest.approx(np.exp(-1), abs=1e-5)


@every_method
def test_a_jacobian_of_the_wrong_shape_is_refused(method: str) -> None:
    for wrong in (lambda t, y: torch.ones(3), lambda t, y: 1.0):
        with pytest.raises(ValueError, match=r"jacobian returned .*shape \(2, 2\)"):
            iso.solve(lambda t, y: -y, torch.ones(2), (0.0, 1.0), method=with_jacobian(method, wrong))
    with pytest.raises(TypeError, match="must be a function"):
        with_jacobian(method, torch.eye(2))


# Failures --------------------------------------------------------------------------------------------------------


@every_method
def test_a_singular_matrix_fails_its_own_lane_only(method: str) -> None:
    """With f = r y and 1 / r the step size times an eigenvalue, nothing can be solved for."""
    solver = iso.METHODS[method]
    eigenvalue = 1 / solver.tableau.gamma if isinstance(solver, iso.Rosenbrock) else 3 + 3 ** (2 / 3) - 3 ** (1 / 3)
    step = 2.0**-4
    rate = torch.tensor([-1.0, eigenvalue / step, 1.0], dtype=F64)
    sol = iso.solve(
        lambda t, y, rate: rate.unsqueeze(-1) * y,
        torch.ones(3, 1, dtype=F64),
        (0.0, 2 * step),
        args=(iso.PerLane(rate),),
        method=solver,
        controller=iso.FixedStep(step),
        batch_dims=1,
        throw=False,
    )
    expected = (2 * step * rate).exp()
    torch.testing.assert_close(sol.ys[-1, [0, 2], 0], expected[[0, 2]], rtol=1e-3, atol=0.0)
    # Rounding may leave a tiny pivot instead of zero: then the state is huge, but never wrong and unnoticed.
    assert sol.status[1] == iso.Status.NON_FINITE or sol.ys[-1, 1].abs() > 1e10


@every_method
@pytest.mark.parametrize("gradient", GRADIENTS.values(), ids=GRADIENTS)
def test_a_jacobian_that_is_infinite_fails_its_own_lane_only(method: str, gradient: iso.Gradient) -> None:
    """The square root is finite at zero, its derivative is not; dividing by that would give a state that rests."""
    y0 = torch.tensor([[1.0], [0.0], [4.0]], dtype=F64, requires_grad=True)
    sol = iso.solve(
        lambda t, y: 1 - y.sqrt(),
        y0,
        (0.0, 0.5),
        method=method,
        controller=iso.FixedStep(0.05),
        batch_dims=1,
        throw=False,
        gradient=gradient,
    )
    assert sol.success.tolist() == [True, False, True]
    (found,) = torch.autograd.grad(sol.ys[-1][sol.success].sum(), y0)
    alone = torch.tensor([[1.0], [4.0]], dtype=F64, requires_grad=True)
    expected = iso.solve(lambda t, y: 1 - y.sqrt(), alone, (0.0, 0.5), method="rk4", controller=iso.FixedStep(0.05))
    torch.testing.assert_close(sol.ys[-1, [0, 2]], expected.ys[-1], rtol=1e-3, atol=0.0)
    torch.testing.assert_close(found[[0, 2]], torch.autograd.grad(expected.ys[-1].sum(), alone)[0], rtol=1e-3, atol=0.0)
    assert found[1] == 0.0


@pytest.mark.parametrize("method", ["implicit_euler", "trbdf2", "kvaerno3", "kvaerno5", "bdf"])
def test_other_implicit_methods_notice_an_infinite_jacobian_too(method: str) -> None:
    """One over inf is zero: a Newton iteration would seem to have converged at its first guess."""
    y0 = torch.tensor([[1.0], [0.0]], dtype=F64)
    settings: dict[str, Any] = {"controller": iso.FixedStep(0.05), "batch_dims": 1, "throw": False}
    sol = iso.solve(lambda t, y: 1 - y.sqrt(), y0, (0.0, 0.5), method=method, **settings)
    assert sol.success.tolist() == [True, False]


@every_method
def test_a_solution_that_blows_up(method: str) -> None:
    sol = iso.solve(lambda t, y: y**2, torch.ones(1, dtype=F64), (0.0, 2.0), method=method, throw=False)
    assert sol.status in (iso.Status.NON_FINITE, iso.Status.STEP_TOO_SMALL)
    assert sol.stats.steps < 2000
