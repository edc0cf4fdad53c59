"""Methods whose steps can be undone: their orders, and how well they are undone."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import isocline as iso
from isocline.solvers import ReversibleHeun
from isocline.solvers.base import Invertible
from isocline.tableaus import TABLEAUS
from orders import slope
from problems import HOPF, LOGISTIC, Problem

F64 = torch.float64
SOLVERS: dict[str, Invertible] = {
    "reversible_heun": ReversibleHeun(),
    **{f"Reversible({name})": iso.Reversible(name) for name, table in TABLEAUS.items() if table.order < 6},
}
STEPS = {
    1: (160, 240, 360),
    2: (64, 96, 144),
    3: (32, 48, 64),
    4: (32, 48, 64),
    5: (64, 96, 128),
    7: (12, 16, 24),
    8: (8, 12),
    9: (8, 12),
}

solvers = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
"""Bases of a higher order have nothing of their own but late stages; see the last test."""


def turning(t: Tensor, y: Tensor) -> Tensor:
    """Depends on time: the angle turns at the rate cos t, and the length changes with it."""
    x, y = y.unbind(-1)
    return torch.stack([-y * t.cos() - 0.3 * x, x * t.cos() - 0.3 * y], dim=-1)


def turned(t: Tensor) -> Tensor:
    angle = t.sin() + 0.4
    return (-0.3 * t).exp().unsqueeze(-1) * torch.stack([angle.cos(), angle.sin()], dim=-1)


TURNING = Problem("turning", turning, (1.0, 0.0), t1=4.0, exact=turned)

problems = pytest.mark.parametrize("problem", [LOGISTIC, HOPF, TURNING], ids=str)


def error(problem: Problem, solver: iso.Solver, n: int, ts: Tensor) -> float:
    assert problem.exact is not None
    exact = problem.exact(ts)
    with torch.no_grad():
        step = iso.FixedStep((problem.t1 - problem.t0) / n)
        sol = iso.solve(problem.f, exact[0], ts, method=solver, controller=step)
    assert sol.stats.steps == n
    return float((sol.ys - exact).norm(dim=-1).max())


@solvers
@problems
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_order(problem: Problem, solver: iso.Solver, backward: bool) -> None:
    ts = torch.linspace(problem.t0, problem.t1, 5, dtype=F64)
    errors = {n: error(problem, solver, n, ts.flip(0) if backward else ts) for n in STEPS[solver.order]}
    assert slope(errors) > solver.order - 0.2


@solvers
def test_order_between_the_steps(solver: iso.Solver) -> None:
    order = min(solver.order, solver.dense_order + 1)  # type: ignore[attr-defined]
    ts = torch.linspace(0, TURNING.t1, 500, dtype=F64)
    errors = {n: error(TURNING, solver, n, ts) for n in STEPS[order]}
    assert slope(errors) > order - 0.3


@solvers
@pytest.mark.parametrize("numbers", ["floats", "tensors"])
def test_steps_are_undone(solver: Invertible, numbers: str) -> None:
    """Three hundred steps of changing size, and back: to rounding errors."""
    n, lanes = 300, 2
    sizes = 0.02 + 0.03 * torch.rand(n, dtype=F64)
    times: Any = torch.cat([torch.zeros(1, dtype=F64), sizes.cumsum(0)])
    times = times.tolist() if numbers == "floats" else list(times.unsqueeze(1).expand(-1, lanes))
    y = torch.rand(lanes, 2, dtype=F64)

    def f(t: Any, y: Tensor) -> Tensor:
        return turning(torch.as_tensor(t, dtype=F64), y) + 0.1 * y.sin()

    carry = solver.init(f, times[0], y, lambda: f(times[0], y))
    states = [(y, *carry)]
    for t0, t1 in pairwise(times):
        attempt = solver.step(f, t0, t1, y, carry)
        y, carry = attempt.y1, attempt.carry
        states.append((y, *carry))
    for i in reversed(range(n)):
        y, carry = solver.reverse(f, times[i], times[i + 1], y, carry)
        if i % 50 == 0:
            for found, expected in zip((y, *carry), states[i], strict=True):
                assert_close(found, expected, rtol=0.0, atol=3e-12)
    assert (states[0][0] - states[-1][0]).abs().max() > 0.1


def test_a_plain_method_is_not_undone_by_stepping_back() -> None:
    solver = iso.METHODS["heun"]
    y = torch.ones(1, 2, dtype=F64)
    there = solver.step(turning_lanes, 0.0, 0.05, y, ()).y1
    back = solver.step(turning_lanes, 0.05, 0.0, there, ()).y1
    assert (back - y).abs().max() > 1e-8


def turning_lanes(t: Any, y: Tensor) -> Tensor:
    return turning(torch.as_tensor(t, dtype=F64), y)


ADAPTIVE = {name: solver for name, solver in SOLVERS.items() if solver.error_order is not None}


@pytest.mark.parametrize("name", ADAPTIVE)
def test_error_control(name: str) -> None:
    solver = ADAPTIVE[name]
    tolerance = 1e-4 if solver.order < 3 else 1e-8
    start = turned(torch.zeros((), dtype=F64))
    pid = iso.PID(rtol=tolerance, atol=tolerance)
    with torch.no_grad():
        sol = iso.solve(turning, start, (0.0, 4.0), method=solver, controller=pid)
        base = (
            None
            if name == "reversible_heun"
            else iso.solve(turning, start, (0.0, 4.0), method=solver.base, controller=pid)
        )  # type: ignore[attr-defined]
    assert (sol.ys[-1] - turned(torch.tensor(4.0, dtype=F64))).abs().max() < 20 * tolerance
    if base is not None:
        # The estimate is the base's.
        assert abs(int(sol.stats.steps) - int(base.stats.steps)) <= 0.1 * int(base.stats.steps) + 1


@solvers
def test_evaluations(solver: Invertible) -> None:
    with torch.no_grad():
        fixed = iso.FixedStep(0.25)
        stats = iso.solve(turning, torch.ones(2), (0.0, 1.0), method=solver, controller=fixed).stats
    carried = isinstance(solver, ReversibleHeun)
    expected = 1 if carried else 2 * solver.base.evaluations
    assert stats.evaluations == 4 * expected + carried


def test_the_second_trajectory_stays_beside_the_first() -> None:
    """In a long solve of a damped problem z decays like y: the coupling sees to it."""
    solver = iso.Reversible("rk4", coupling=0.9)
    y = torch.ones(1, 2, dtype=F64)
    carry = (y,)
    for i in range(400):
        attempt = solver.step(turning_lanes, 0.1 * i, 0.1 * (i + 1), y, carry)
        y, carry = attempt.y1, attempt.carry
    assert y.abs().max() < 1e-4
    assert (carry[0] - y).abs().max() < 1e-6


def test_bases() -> None:
    assert iso.Reversible("tsit5") == iso.Reversible(iso.METHODS["tsit5"])
    assert iso.Reversible("tsit5").name == "Reversible('tsit5')"
    assert hash(iso.Reversible("tsit5")) == hash(iso.Reversible("tsit5"))
    for bad in ("leapfrog", "nonsense", iso.METHODS["reversible_heun"], 5):
        with pytest.raises(ValueError, match=r"Reversible needs an explicit Runge-Kutta method: one of euler, .*got"):
            iso.Reversible(bad)  # type: ignore[arg-type]
    for coupling in (0.0, 1.0, -0.5):
        with pytest.raises(ValueError, match=r"coupling must be between 0 and 1, such as 0.999; got"):
            iso.Reversible("rk4", coupling)
    with pytest.raises(TypeError, match="coupling must be a number"):
        iso.Reversible("rk4", "a lot")  # type: ignore[arg-type]


@solvers
@pytest.mark.parametrize("batch_dims", [0, 1])
def test_dense_output_agrees_with_saved_states(solver: Invertible, batch_dims: int) -> None:
    ts = torch.linspace(0, 2, 9, dtype=F64)
    y0 = torch.rand(3, 2, dtype=F64)
    with torch.no_grad():
        settings: Any = {"method": solver, "controller": iso.FixedStep(0.15), "batch_dims": batch_dims}
        f = lambda t, y: turning(t.squeeze(-1) if batch_dims else t, y)  # noqa: E731
        sol = iso.solve(f, y0, ts, dense=True, **settings)
    assert_close(sol(ts), sol.ys, rtol=1e-13, atol=1e-13)
    assert torch.equal(sol(ts[0]), sol.ys[0])
    assert_close(sol(ts[-1]), sol.ys[-1], rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("name", ["vern7", "dop853"])
def test_late_stages_of_the_base(name: str) -> None:
    """Saved states are those of the base's interpolant, whether its late stages are made when asked for or always."""
    ts = torch.linspace(0, 2, 9, dtype=F64)
    settings: dict[str, Any] = {"method": iso.Reversible(name), "rtol": 1e-10, "atol": 1e-10}
    y0 = torch.rand(3, 2, dtype=F64)
    sol = iso.solve(HOPF.f, y0, ts, dense=True, **settings)
    assert_close(sol(ts), sol.ys, rtol=0, atol=1e-14)
    assert_close(iso.solve(HOPF.f, y0, ts, **settings).ys, sol.ys, rtol=0, atol=1e-14)
    assert_close(sol.ys, iso.solve(HOPF.f, y0, ts, method=name, rtol=1e-12, atol=1e-12).ys, rtol=0, atol=1e-8)


@pytest.mark.parametrize("method", ["reversible_heun", iso.Reversible("tsit5"), iso.Reversible("vern7")], ids=str)
def test_events_are_found_between_the_steps(method: Any) -> None:
    def swing(t: Tensor, y: Tensor) -> Tensor:
        return torch.stack([y[..., 1], -y[..., 0]], dim=-1)

    y0 = torch.tensor([[1.0, 0.0], [0.6, 0.8]], dtype=F64)
    fixed = iso.FixedStep(0.01)
    sol = iso.solve(swing, y0, (0.0, 5.0), method=method, controller=fixed, event=lambda t, y: y[..., 0], batch_dims=1)
    expected = torch.tensor([math.pi / 2, math.pi - math.atan2(0.6, 0.8)], dtype=F64)
    assert_close(sol.event_t, expected, rtol=1e-4, atol=1e-4)
