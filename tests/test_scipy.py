"""SciPy's solvers as black boxes."""

import math
import sys
from typing import Any

import pytest
import scipy
import torch
from benchmarks.problems.stiff import ROBERTSON
from scipy.integrate import ode, solve_ivp
from torch import Tensor
from torch.testing import assert_close

import isocline as iso
from isocline import Status
from isocline.solvers.scipy_ import ORDERS, _load
from problems import HOPF

F64 = torch.float64
methods = pytest.mark.parametrize("method", ORDERS)
AT_FAULT = pytest.mark.skipif(scipy.__version__.startswith("1.17."), reason="VODE's Newton: SciPy issue 24933")
stiff = pytest.mark.parametrize("method", ["LSODA", "BDF", "Radau", pytest.param("VODE-BDF", marks=AT_FAULT)])
ACCURATE = {"rtol": 1e-8, "atol": 1e-10}


def field(t: Tensor, y: Tensor) -> Tensor:
    return torch.cos(t) * y


def exact(t: Tensor, y0: Tensor) -> Tensor:
    return y0 * torch.exp(torch.sin(t) - math.sin(0.3))


def times(end: float = 2.1, count: int = 6) -> Tensor:
    return torch.linspace(0.3, end, count, dtype=F64)


def solve(*given: Any, **settings: Any) -> iso.Solution:
    with torch.no_grad():
        return iso.solve(*given, **settings)


@pytest.mark.parametrize("method", [method for method in ORDERS if not method.startswith("VODE")])
@pytest.mark.parametrize("end", [2.1, -1.7], ids=["forward", "backward"])
def test_it_is_what_scipy_gives(method: str, end: float) -> None:
    """The same numbers from the same evaluations, between the steps, too."""
    y0, ts = torch.tensor([0.5, 0.1], dtype=F64), times(end)
    sol = solve(HOPF.f, y0, ts, method=iso.SciPy(method), **ACCURATE)
    calls = 0

    def counted(t: float, y: Any) -> Any:
        nonlocal calls
        calls += 1
        return HOPF.numpy_field(t, y)

    between = solve_ivp(counted, (0.3, end), y0.numpy(), method, t_eval=ts[1:-1].numpy(), **ACCURATE)
    assert sol.stats.evaluations == calls
    assert_close(sol.ys[1:-1], torch.from_numpy(between.y.T.copy()), rtol=1e-14, atol=1e-14)
    steps = solve_ivp(HOPF.numpy_field, (0.3, end), y0.numpy(), method, **ACCURATE)
    assert_close(sol.ys[-1], torch.from_numpy(steps.y[:, -1].copy()), rtol=1e-14, atol=1e-14)
    assert sol.stats.steps == sol.stats.accepted == len(steps.t) - 1
    assert sol.success


@pytest.mark.parametrize("family", ["Adams", "BDF"])
@pytest.mark.parametrize("end", [2.1, -1.7], ids=["forward", "backward"])
def test_vode_is_what_scipy_gives(family: str, end: float) -> None:
    """As from the older interface, which stops where it is asked to; backwards it does so in -t."""
    y0, ts = torch.tensor([0.5, 0.1], dtype=F64), times(end)
    sol = solve(HOPF.f, y0, ts, method=iso.SciPy(f"VODE-{family}"), **ACCURATE)
    sign, calls = math.copysign(1.0, end), 0

    def counted(s: float, y: Any) -> Any:
        nonlocal calls
        calls += 1
        return sign * HOPF.numpy_field(sign * s, y)

    vode = ode(counted).set_integrator("vode", method=family.lower(), with_jacobian=family == "BDF", **ACCURATE)
    vode.set_initial_value(y0.numpy(), sign * 0.3)
    between = [torch.from_numpy(vode.integrate(sign * float(t)).copy()) for t in ts[1:-1]]
    assert_close(sol.ys[1:-1], torch.stack(between), rtol=1e-14, atol=1e-14)
    last = torch.from_numpy(vode.integrate(sign * end).copy())
    assert_close(sol.ys[-1], last, rtol=1e-7, atol=1e-9)  # interpolated there, past the end
    assert abs(sol.stats.evaluations - calls) <= 3
    assert sol.success


@methods
@pytest.mark.parametrize("batch_dims", [0, 1, 2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_layouts(method: str, batch_dims: int, dtype: torch.dtype) -> None:
    y0 = torch.tensor([[[1.0, 2.0], [0.5, -1.0]]], dtype=dtype)
    tolerance = ACCURATE if dtype == F64 else {"rtol": 1e-5, "atol": 1e-6}
    sol = solve(field, y0, times(), method=iso.SciPy(method), batch_dims=batch_dims, **tolerance)
    assert sol.ys.dtype == dtype
    expected = exact(times().reshape(-1, 1, 1, 1), y0.double())
    error = (sol.ys.double() - expected).abs().max()
    assert error < (1e-6 if dtype == F64 else 3e-4)
    assert sol.status.shape == sol.stats.steps.shape == y0.shape[:batch_dims]
    assert torch.equal(sol.ys[0], y0)


def test_times_of_each_sample() -> None:
    y0 = torch.tensor([[1.0], [2.0], [3.0]], dtype=F64)
    ts = torch.tensor([[0.3, 0.3, 0.5], [0.5, -0.1, 0.5], [2.0, -1.0, 0.5]], dtype=F64)  # the last goes nowhere
    sol = solve(field, y0, ts, method=iso.SciPy("DOP853"), batch_dims=1, dense=True, **ACCURATE)
    expected = exact(ts.unsqueeze(2), y0)
    expected[:, 2] = y0[2]
    assert_close(sol.ys, expected, rtol=1e-7, atol=1e-7)
    assert_close(sol(ts), sol.ys, rtol=1e-13, atol=1e-13)
    assert sol.stats.steps[2] == 0
    assert sol.success.all()


def test_fields_that_know_their_rows() -> None:
    """Marked rows, and closed-over rows that only an evaluation of all can have."""
    rates = torch.tensor([[0.5], [1.0], [2.0]], dtype=F64)
    y0 = torch.ones(3, 2, dtype=F64)
    settings: Any = {"method": iso.SciPy("LSODA"), "batch_dims": 1, **ACCURATE}
    marked = solve(lambda t, y, k: -k * y, y0, times(), args=(iso.PerLane(rates),), **settings)
    closed = solve(lambda t, y: -rates * y, y0, times(), **settings)
    expected = torch.exp(-rates * (times() - 0.3).reshape(-1, 1, 1)).expand(-1, -1, 2)
    assert_close(marked.ys, expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(closed.ys, marked.ys)
    assert closed.stats.rows > 2.5 * marked.stats.rows


def test_structures() -> None:
    y0 = {"x": torch.ones(2, 3, dtype=F64), "v": (torch.ones(2, dtype=F64),)}

    def f(t: Tensor, y: dict[str, Any]) -> dict[str, Any]:
        return {"x": -y["x"], "v": (2 * y["v"][0],)}

    for batch_dims in (0, 1):
        sol = solve(f, y0, (0.0, 1.0), method=iso.SciPy("RK45"), batch_dims=batch_dims, **ACCURATE)
        assert_close(sol.ys["x"][-1], torch.full((2, 3), math.exp(-1), dtype=F64), rtol=1e-6, atol=1e-6)
        assert_close(sol.ys["v"][0][-1], torch.full((2,), math.exp(2), dtype=F64), rtol=1e-6, atol=1e-6)


@methods
@pytest.mark.parametrize("batch_dims", [0, 1])
@pytest.mark.parametrize("end", [2.1, -1.7], ids=["forward", "backward"])
def test_dense_output(method: str, batch_dims: int, end: float) -> None:
    y0 = torch.tensor([[1.0, 2.0], [0.5, -1.0]], dtype=F64)
    ts, many = times(end), times(end, 101)
    settings: Any = {"method": iso.SciPy(method), "batch_dims": batch_dims, **ACCURATE}
    sol = solve(field, y0, ts, dense=True, **settings)
    assert_close(sol(ts), sol.ys, rtol=1e-13, atol=1e-13)
    assert torch.equal(sol(ts[-1]), sol.ys[-1])
    saved = solve(field, y0, many, **settings)
    assert_close(sol(many), saved.ys, rtol=1e-13, atol=1e-13)
    with pytest.raises(ValueError, match="knows times from"):
        sol(5.0)


@stiff
def test_stiff(method: str) -> None:
    """Robertson's problem to t=1e4, against Radau's solution at 1e-10."""
    sol = solve(ROBERTSON.f, ROBERTSON.start, (0.0, 1e4), method=iso.SciPy(method), rtol=1e-7, atol=1e-11)
    own = solve_ivp(ROBERTSON.numpy_field, (0.0, 1e4), ROBERTSON.start.numpy(), "Radau", rtol=1e-10, atol=1e-13)
    assert_close(sol.ys[-1], torch.from_numpy(own.y[:, -1].copy()), rtol=1e-5, atol=1e-9)
    assert sol.stats.steps < 1500


@stiff
def test_stiff_in_float32(method: str) -> None:
    """SciPy's own finite differences would be lost in rounding errors."""
    y0 = torch.tensor([2.0, 0.0])

    def van_der_pol(t: Tensor, y: Tensor) -> Tensor:
        x, v = y.unbind(-1)
        return torch.stack([v, 300 * (1 - x**2) * v - x], dim=-1)

    sol = solve(van_der_pol, y0, (0.0, 200.0), method=iso.SciPy(method), rtol=1e-4, atol=1e-5)
    truth = solve(van_der_pol, y0.double(), (0.0, 200.0), method=iso.SciPy("Radau"), rtol=1e-9, atol=1e-9)
    assert_close(sol.ys[-1].double(), truth.ys[-1], rtol=2e-3, atol=2e-3)
    assert sol.stats.evaluations < 3000


@methods
def test_a_field_that_is_nan_at_the_start(method: str) -> None:
    sol = solve(lambda t, y: y * math.nan, torch.ones(2), (0.0, 1.0), method=iso.SciPy(method), throw=False)
    assert sol.status == Status.NON_FINITE
    assert sol.stats.steps == 0
    assert sol.ys[-1].isnan().all()


@methods
def test_a_field_that_becomes_nan(method: str) -> None:
    def f(t: Tensor, y: Tensor) -> Tensor:
        return torch.where(t > 1, torch.nan, -y)

    ts = torch.tensor([0.0, 0.5, 2.0], dtype=F64)
    sol = solve(f, torch.ones(2, dtype=F64), ts, method=iso.SciPy(method), throw=False)
    assert sol.status == Status.NON_FINITE
    assert sol.ys[1].isfinite().all()
    assert sol.ys[2].isnan().all()
    with pytest.raises(iso.SolveError, match=r"stopped at t=(0\.[89]|1).* of 2 .*NON_FINITE"):
        solve(f, torch.ones(2, dtype=F64), ts, method=iso.SciPy(method))


@methods
def test_an_initial_state_that_is_not_finite(method: str) -> None:
    y0 = torch.tensor([1.0, math.inf], dtype=F64)
    sol = solve(lambda t, y: torch.zeros_like(y), y0, (0.0, 1.0), method=iso.SciPy(method), throw=False)
    assert sol.status == Status.NON_FINITE


@methods
def test_a_solution_that_blows_up(method: str) -> None:
    y0 = torch.tensor([[1.0], [-1.0]], dtype=F64)
    sol = solve(lambda t, y: y**2, y0, (0.0, 2.0), method=iso.SciPy(method), batch_dims=1, throw=False)
    assert sol.status[0] in (Status.STEP_TOO_SMALL, Status.NON_FINITE)
    assert sol.status[1] == Status.SUCCESS
    assert sol.ys[-1, 0].isnan().all()
    assert_close(sol.ys[-1, 1], torch.tensor([-1 / 3], dtype=F64), rtol=1e-3, atol=1e-3)


@methods
def test_most_steps(method: str) -> None:
    sol = solve(HOPF.f, HOPF.start, (0.0, 50.0), method=iso.SciPy(method), max_steps=7, throw=False)
    assert sol.status == Status.MAX_STEPS
    assert sol.stats.steps == 7


def test_errors_of_f_come_through() -> None:
    def f(t: Tensor, y: Tensor) -> Tensor:
        if t > 0.5:
            raise ValueError("mine")
        return -y

    for method in ORDERS:
        with pytest.raises(ValueError, match="mine"):
            solve(f, torch.ones(2), (0.0, 1.0), method=iso.SciPy(method))


def test_the_controllers_settings() -> None:
    seen: list[float] = []

    def f(t: Tensor, y: Tensor) -> Tensor:
        seen.append(t.item())
        return -y

    pid = iso.PID(rtol=1e-3, atol=1e-3, dt0=0.01, dt_max=0.05)
    sol = solve(f, torch.ones(1, dtype=F64), (0.0, 1.0), method=iso.SciPy("RK45"), controller=pid, dense=True)
    dense = sol.interpolant.dense  # type: ignore[union-attr]
    steps = (dense.t1 - dense.t0).flatten()
    assert steps[0] == pytest.approx(0.01)
    assert steps.max() <= 0.05 + 1e-12
    assert sol.stats.evaluations == len(seen)


def test_refusals() -> None:
    y0 = torch.ones(2)
    lsoda = iso.SciPy("LSODA")
    with pytest.raises(ValueError, match=r"SciPy knows RK23, .*, LSODA, VODE-Adams, VODE-BDF; got 'tsit5'"):
        iso.SciPy("tsit5")
    with pytest.raises(ValueError, match=r"SciPy\('LSODA'\) chooses its own steps, so FixedStep .*give rtol and atol"):
        iso.solve(field, y0, (0.0, 1.0), method=lsoda, controller=iso.FixedStep(0.1))
    for gradient in (iso.DirectAdjoint(), iso.RecursiveCheckpointAdjoint()):
        with pytest.raises(ValueError, match=r"SciPy\('LSODA'\) does not show its steps, .*BacksolveAdjoint\(\)"):
            iso.solve(field, y0, (0.0, 1.0), method=lsoda, gradient=gradient)
    with pytest.raises(ValueError, match="dense output has no gradient through BacksolveAdjoint"):
        iso.solve(field, y0.requires_grad_(), (0.0, 1.0), method=lsoda, dense=True)
    with pytest.raises(TypeError, match="solves as a whole"):
        lsoda.step(lambda t, y: y, 0.0, 1.0, y0.reshape(1, 2), ())
    with pytest.raises(TypeError, match="solves as a whole"):
        lsoda.init(lambda t, y: y, 0.0, y0.reshape(1, 2), lambda: y0)


@pytest.mark.parametrize("method", ["RK45", "LSODA", "Radau", "VODE-Adams", "VODE-BDF"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_tolerances_of_each_component(method: str, dtype: torch.dtype) -> None:
    """The second component need not be right, so the solve costs less."""

    def f(t: Tensor, y: Tensor) -> Tensor:
        return torch.cat([-y[..., :1], 30 * torch.cos(30 * t) + 0 * y[..., 1:]], dim=-1)

    y0 = torch.tensor([[1.0, 0.0], [2.0, 0.0]], dtype=dtype)
    settings: Any = {"method": iso.SciPy(method), "rtol": 1e-5, "batch_dims": 1}
    some = solve(f, y0, (0.0, 3.0), atol=torch.tensor([1e-5, 10.0]), **settings)
    both = solve(f, y0, (0.0, 3.0), atol=1e-5, **settings)
    assert some.stats.evaluations < both.stats.evaluations / 2
    assert_close(some.ys[-1, :, 0], y0[:, 0] * math.exp(-3), rtol=1e-3, atol=1e-3)


def test_jump_ts() -> None:
    def f(t: Tensor, y: Tensor) -> Tensor:
        return torch.where(t < 0.5, 1.0, -1.0) + 0 * y

    sol = solve(f, torch.zeros(1, dtype=F64), (0.0, 0.7, 2.0), method=iso.SciPy("DOP853"), jump_ts=[0.5])
    assert_close(sol.ys.flatten(), torch.tensor([0.0, 0.3, -1.0], dtype=F64), rtol=1e-12, atol=1e-12)


def test_what_needs_steps_is_refused() -> None:
    y0, lsoda = torch.ones(2), iso.SciPy("LSODA")
    first = solve(field, y0, (0.0, 1.0))
    for name, value in (("event", lambda t, y: y[0]), ("step_ts", [0.5]), ("state", first.state)):
        with pytest.raises(ValueError, match=f"does not show its steps, so it cannot take {name}; use"):
            solve(field, y0, (1.0, 2.0), method=lsoda, **{name: value})
    with pytest.raises(ValueError, match=r"a black box knows no smallest step; leave out dt_min=0\.1"):
        solve(field, y0, (0.0, 1.0), method=lsoda, controller=iso.PID(dt_min=0.1))


def test_dense_output_where_nothing_is_differentiated() -> None:
    sol = iso.solve(field, torch.ones(2), (0.3, 1.0), method=iso.SciPy("LSODA"), dense=True)
    assert sol(0.5).shape == (2,)


def test_compile_changes_nothing() -> None:
    y0 = torch.ones(2, dtype=F64)
    compiled = solve(field, y0, times(), method=iso.SciPy("RK45"), compile=True)
    assert torch.equal(compiled.ys, solve(field, y0, times(), method=iso.SciPy("RK45")).ys)


def test_without_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    _load.cache_clear()
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ImportError, match=r"isocline.SciPy\(\.\.\.\) needs SciPy; install isocline\[scipy\]"):
        iso.SciPy("LSODA")


def test_progress(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    solve(field, torch.ones(2), times(), method=iso.SciPy("RK45"), progress=True)
    assert "100%" in capfd.readouterr().err
