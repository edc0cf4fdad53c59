"""Diagonally implicit methods on stiff problems: accuracy, iterations, Jacobians, failures, fields in two parts."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.problems.detest import van_der_pol
from benchmarks.problems.stiff import ROBERTSON
from scipy.integrate import solve_ivp
from torch import Tensor

import isocline as iso
from isocline import Status
from isocline.tableaus import IMPLICIT
from orders import slope
from problems import RATES, robertson

F64 = torch.float64

every_method = pytest.mark.parametrize("method", IMPLICIT)
every_accurate_method = pytest.mark.parametrize("method", [name for name in IMPLICIT if name != "implicit_euler"])


def final(f: Callable[..., Any], y0: Tensor, t1: float, **settings: Any) -> Tensor:
    with torch.no_grad():
        ys: Tensor = iso.solve(f, y0, (0.0, t1), **settings).ys
    return ys[-1]


# Accuracy on stiff problems --------------------------------------------------------------------------------------


@every_method
@pytest.mark.parametrize("rate", [1e3, 1e6])
def test_order_on_the_problem_of_prothero_and_robinson(method: str, rate: float) -> None:
    """``y' = -rate (y - cos t) - sin t``: the order is that of the stages, and the error falls with the rate."""

    def f(t: Tensor, y: Tensor) -> Tensor:
        return -rate * (y - t.cos()) - t.sin()

    order, errors = min(IMPLICIT[method].order, 2), {}
    for n in (10, 20, 40):
        y1 = final(f, torch.ones(1, dtype=F64), 2.0, method=method, controller=iso.FixedStep(2 / n))
        errors[n] = abs(y1.item() - np.cos(2))
    assert slope(errors) > order - 0.1
    assert errors[40] < 0.5 / 40**order / rate


@every_accurate_method
def test_robertson_to_1e11(method: str) -> None:
    rtol = 1e-3 if method == "trbdf2" else 1e-4
    sol = iso.solve(
        ROBERTSON.f, ROBERTSON.start, (0.0, 1e11), method=method, rtol=rtol, atol=rtol * 1e-11, max_steps=1000
    )
    assert (sol.ys[-1] / ROBERTSON.end() - 1).abs().max() < 10 * rtol
    assert (sol.ys[-1].sum() - 1).abs() < 1e-13
    assert sol.stats.jacobians < sol.stats.steps


@cache
def oscillation(mu: float, t1: float) -> Tensor:
    def f(t: float, y: Any) -> Any:
        return [y[1], mu * (1 - y[0] ** 2) * y[1] - y[0]]

    solution = solve_ivp(f, (0.0, t1), [2.0, 0.0], method="Radau", rtol=1e-10, atol=1e-12)
    return torch.from_numpy(solution.y[:, -1].copy())


@pytest.mark.parametrize("method", ["trbdf2", "kvaerno5", "kencarp4"])
def test_van_der_pol(method: str) -> None:
    y0 = torch.tensor([2.0, 0.0], dtype=F64)
    y1 = final(van_der_pol(1e3), y0, 1200.0, method=method, rtol=1e-4, atol=1e-6)
    error = (y1 - oscillation(1e3, 1200.0)).abs() / (1e-6 + 1e-4 * y1.abs())
    assert error.max() < 10


@pytest.mark.parametrize(
    ("f", "y0", "t1", "rtol", "atol", "limit"),
    [
        (ROBERTSON.f, (1.0, 0.0, 0.0), 1e5, 1e-6, 1e-10, 0.8),
        (van_der_pol(1e3), (2.0, 0.0), 2000.0, 1e-5, 1e-7, 1.35),
    ],
    ids=["Robertson", "van der Pol"],
)
def test_evaluations_beside_radau(
    f: Callable[..., Tensor], y0: tuple[float, ...], t1: float, rtol: float, atol: float, limit: float
) -> None:
    """A method of order 5 of another family: about as many evaluations at the same tolerance."""

    def plain(t: float, y: Any) -> Any:
        return f(torch.tensor(t, dtype=F64), torch.from_numpy(y)).numpy()

    radau = solve_ivp(plain, (0.0, t1), np.array(y0), method="Radau", rtol=rtol, atol=atol)
    with torch.no_grad():
        sol = iso.solve(f, torch.tensor(y0, dtype=F64), (0.0, t1), method="kvaerno5", rtol=rtol, atol=atol)
    assert sol.stats.evaluations < limit * radau.nfev
    assert ((sol.ys[-1] - torch.from_numpy(radau.y[:, -1])).abs() / (atol + rtol * sol.ys[-1].abs())).max() < 10


# Lanes -----------------------------------------------------------------------------------------------------------


def rates(count: int) -> Tensor:
    spread = torch.rand(count, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    return RATES * 10 ** (4 * spread - 2)


def starts(count: int) -> Tensor:
    return ROBERTSON.start.repeat(count, 1)


@every_accurate_method
def test_each_lane_is_solved_as_if_alone(method: str) -> None:
    """Jacobians are evaluated for all lanes at once, but none takes one because of another."""
    settings: Any = {"method": method, "rtol": 1e-4, "atol": 1e-8}
    k = rates(5)
    with torch.no_grad():
        together = iso.solve(robertson, starts(5), (0.0, 100.0), args=(iso.PerLane(k),), batch_dims=1, **settings)
        for lane in range(5):
            alone = iso.solve(robertson, starts(1)[0], (0.0, 100.0), args=(k[lane],), **settings)
            assert alone.stats.steps == together.stats.steps[lane]
            assert alone.stats.rejected == together.stats.rejected[lane]
            torch.testing.assert_close(together.ys[-1, lane], alone.ys[-1], rtol=1e-9, atol=1e-16)


def test_a_stiff_batch() -> None:
    k = rates(200)
    with torch.no_grad():
        sol = iso.solve(
            robertson,
            starts(200),
            (0.0, 1e4),
            args=(iso.PerLane(k),),
            batch_dims=1,
            method="kvaerno5",
            rtol=1e-5,
            atol=1e-9,
        )
    assert bool(sol.success.all())
    assert (sol.ys[-1].sum(-1) - 1).abs().max() < 1e-13
    assert sol.stats.steps.max() < 200


# Iterations and Jacobians ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "evaluations"),
    [("implicit_euler", 22), ("trbdf2", 32), ("kvaerno3", 42), ("kvaerno5", 72), ("kencarp4", 72)],
)
@pytest.mark.parametrize("grad", [False, True])
def test_work_on_a_linear_problem(method: str, evaluations: int, grad: bool) -> None:
    """One Jacobian serves for the whole solve; one iteration a stage is enough once the step's rate is known."""
    calls = 0

    def f(t: Tensor, y: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return -y

    with torch.set_grad_enabled(grad):
        y0 = torch.ones(2, dtype=F64)
        stats = iso.solve(f, y0, (0.0, 1.0), method=method, controller=iso.FixedStep(0.1)).stats
    assert stats.evaluations == calls == evaluations
    assert stats.jacobians == 1
    assert stats.steps == 10


def test_jacobians_are_used_again() -> None:
    with torch.no_grad():
        sol = iso.solve(ROBERTSON.f, ROBERTSON.start, (0.0, 1e5), method="kvaerno5", rtol=1e-6, atol=1e-10)
    assert 20 < sol.stats.jacobians < 60 < sol.stats.steps


def by_hand(t: Tensor, y: Tensor) -> Tensor:
    a, b, c = y.unbind(-1)
    zero = torch.zeros_like(a)
    first = torch.stack([zero - 0.04, 1e4 * c, 1e4 * b], dim=-1)
    third = torch.stack([zero, 6e7 * b, zero], dim=-1)
    return torch.stack([first, -first - third, third], dim=-2)


@pytest.mark.parametrize("batch_dims", [0, 1])
def test_a_jacobian_by_hand(batch_dims: int) -> None:
    calls = 0

    def jacobian(t: Tensor, y: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return by_hand(t, y)

    y0 = starts(3) if batch_dims else starts(1)[0]
    settings: Any = {"batch_dims": batch_dims, "rtol": 1e-5, "atol": 1e-9}
    mine = iso.ESDIRK(IMPLICIT["kvaerno5"], jacobian=jacobian)
    with torch.no_grad():
        sol, found = (iso.solve(ROBERTSON.f, y0, (0.0, 100.0), method=m, **settings) for m in (mine, "kvaerno5"))
    assert sol.stats.jacobians == found.stats.jacobians == calls
    assert sol.stats.evaluations == found.stats.evaluations - calls
    torch.testing.assert_close(sol.ys, found.ys, rtol=1e-10, atol=1e-16)


def test_settings_that_do_not_fit() -> None:
    table = IMPLICIT["kvaerno3"]
    with pytest.raises(TypeError, match="needs an ImplicitTableau"):
        iso.ESDIRK("kvaerno3")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="jacobian must be a function"):
        iso.ESDIRK(table, jacobian=torch.eye(2))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="linear_solver must be 'auto', 'lu' or 'gmres'"):
        iso.ESDIRK(table, linear_solver="cg")
    with pytest.raises(ValueError, match="leave jacobian out"):
        iso.ESDIRK(table, jacobian=by_hand, linear_solver="gmres")
    with pytest.raises(ValueError, match="jacobian returned"):
        iso.solve(ROBERTSON.f, starts(2), (0, 1), method=iso.ESDIRK(table, jacobian=lambda t, y: torch.eye(3)))
    with pytest.raises(ValueError, match=r"solver\.tuned"):
        iso.METHODS["kvaerno3"].init(lambda t, y: y, 0.0, torch.ones(1, 1), lambda: torch.ones(1, 1))


def heat(t: Tensor, y: Tensor) -> Tensor:
    """Heat conduction with a reaction: stiff, of any size; the last dimension is space."""
    n = y.shape[-1]
    around = torch.nn.functional.pad(y, (1, 1))
    return (n + 1) ** 2 * 0.01 * (around[..., 2:] - 2 * y + around[..., :-2]) + y * (1 - y) * torch.cos(t)


def bump(n: int) -> Tensor:
    return torch.sin(torch.linspace(0, torch.pi, n, dtype=F64)) ** 2


@pytest.mark.parametrize("batch_dims", [0, 1])
def test_gmres_finds_what_lu_finds(batch_dims: int) -> None:
    y0 = torch.stack([bump(40), 0.3 * bump(40)])
    settings: Any = {"batch_dims": batch_dims, "rtol": 1e-6, "atol": 1e-8, "gradient": iso.DirectAdjoint()}
    found = []
    for linear_solver in ("lu", "gmres"):
        start = y0.clone().requires_grad_()
        method = iso.ESDIRK(IMPLICIT["kencarp4"], linear_solver=linear_solver)
        sol = iso.solve(heat, start, (0.0, 0.5), method=method, **settings)
        (bar,) = torch.autograd.grad((sol.ys[-1] ** 2).sum(), start)
        found.append((sol.ys[-1].detach(), bar))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-5, atol=1e-6)


def test_large_states_need_no_matrix() -> None:
    """600 numbers: a factored matrix would be a Jacobian a few steps, products are none."""
    seen: list[int] = []

    def f(t: Tensor, y: Tensor) -> Tensor:
        seen.append(y.numel())
        return heat(t, y)

    large, small = (final(f, bump(n), 0.1, method="kvaerno3", rtol=1e-4, atol=1e-6) for n in (601, 301))
    assert set(seen) == {601, 301}
    torch.testing.assert_close(large[::2], small, rtol=0.0, atol=3e-3)  # the grids differ


# Failures --------------------------------------------------------------------------------------------------------


def test_a_singular_matrix_is_a_failed_step() -> None:
    """``I - h gamma df/dy = 0`` for the first step size: nothing raises, and a smaller step goes."""

    def f(t: Tensor, y: Tensor) -> Tensor:
        return y / (0.25 * 0.26)

    y0 = torch.ones(1, dtype=F64)
    fixed = iso.solve(f, y0, (0.0, 1.0), method="kvaerno5", controller=iso.FixedStep(0.25), throw=False)
    assert fixed.status == Status.NON_FINITE
    assert fixed.stats.steps == 1
    free = iso.solve(f, y0, (0.0, 1.0), method="kvaerno5", controller=iso.PID(dt0=0.25, rtol=1e-6, atol=1e-6))
    assert free.ys[-1].item() == pytest.approx(np.exp(1 / 0.065), rel=1e-3)
    assert free.stats.rejected >= 1


def test_a_jacobian_that_is_nan() -> None:
    """The square root is fine in f, but not in its derivative; the other lane does not mind."""

    def f(t: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        return -y + (scale * (y - y.detach())).sqrt()

    y0, scale = torch.ones(2, 1, dtype=F64), torch.tensor([[0.0], [1.0]], dtype=F64)
    alone = iso.solve(f, y0[:1], (0.0, 1.0), args=(scale[1],), method="kvaerno5", throw=False)
    assert alone.status == Status.NON_FINITE
    assert alone.stats.steps < 60
    with pytest.raises(iso.SolveError, match="an implicit method's iteration did not converge"):
        iso.solve(f, y0[:1], (0.0, 1.0), args=(scale[1],), method="kvaerno5")

    def g(t: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        return -y + torch.where(scale > 0, scale * (y - y.detach()), 1.0).sqrt() - torch.where(scale > 0, 0.0, 1.0)

    both = iso.solve(g, y0, (0.0, 1.0), args=(iso.PerLane(scale),), method="kvaerno5", batch_dims=1, throw=False)
    assert both.status.tolist() == [Status.SUCCESS, Status.NON_FINITE]
    assert both.ys[-1, 0].item() == pytest.approx(np.exp(-1), rel=1e-4)


def test_steps_that_are_too_large_to_iterate_shrink() -> None:
    """Far out the cubic has no solution nearby; the first step is a hundred times too large."""
    sol = iso.solve(
        lambda t, y: 100 * torch.sin(40 * y),
        torch.tensor([0.04], dtype=F64),
        (0.0, 1.0),
        method="kvaerno5",
        controller=iso.PID(rtol=1e-6, atol=1e-8, dt0=1.0),
    )
    assert sol.stats.rejected > 0
    assert sol.ys[-1].item() == pytest.approx(np.pi / 40, rel=1e-5)


# Fields in two parts ---------------------------------------------------------------------------------------------


def slow(t: Tensor, y: Tensor) -> Tensor:
    return torch.sin(3 * t) * y.flip(-1) + 0.3 * y**2


def stiff(t: Tensor, y: Tensor) -> Tensor:
    return -y * torch.tensor([5.0, 1.0], dtype=F64) * (1 + y**2)


def whole(t: Tensor, y: Tensor) -> Tensor:
    return slow(t, y) + stiff(t, y)


def pair() -> Tensor:
    return torch.tensor([0.7, -0.4], dtype=F64)


def test_order_of_a_field_in_two_parts() -> None:
    ts = torch.linspace(0, 2, 3, dtype=F64)
    with torch.no_grad():
        exact = iso.solve(whole, pair(), ts, method="dopri5", rtol=1e-13, atol=1e-13).ys
        errors = {}
        for n in (16, 24, 36):
            step = iso.FixedStep(2 / n)
            ys = iso.solve(iso.Split(slow, stiff), pair(), ts, method="kencarp4", controller=step).ys
            errors[n] = (ys - exact).abs().max().item()
    assert slope(errors) == pytest.approx(4, abs=0.25)


def test_order_between_the_steps_of_a_field_in_two_parts() -> None:
    """In the second half of the time: the first begins with a layer, in which so few steps are not asymptotic."""
    table, start = IMPLICIT["kencarp4"], pair()
    with torch.no_grad():
        errors = {}
        for n in (48, 64, 96):
            ts = 2 * (torch.arange(n // 2, n).unsqueeze(1) + torch.tensor([0.21, 0.5, 0.83], dtype=F64)).flatten() / n
            ts = torch.cat([torch.zeros(1, dtype=F64), ts])
            exact = iso.solve(whole, start, ts, method="dopri5", rtol=1e-13, atol=1e-13).ys
            step = iso.FixedStep(2 / n)
            ys = iso.solve(iso.Split(slow, stiff), start, ts, method="kencarp4", controller=step).ys
            errors[n] = (ys - exact).abs().max().item()
    assert slope(errors) == pytest.approx(min(table.order, table.dense_order + 1), abs=0.25)


def test_only_the_implicit_part_is_iterated() -> None:
    calls = {"slow": 0, "stiff": 0}

    def counted(name: str, f: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def g(t: Tensor, y: Tensor) -> Tensor:
            calls[name] += 1
            return f(t, y)

        return g

    with torch.no_grad():
        field = iso.Split(counted("slow", slow), counted("stiff", stiff))
        sol = iso.solve(field, pair(), (0.0, 1.0), method="kencarp4", controller=iso.FixedStep(0.1))
    assert calls["slow"] == 6 * 10
    assert calls["stiff"] > 60
    assert sol.stats.evaluations == sum(calls.values())


def test_other_methods_take_the_sum() -> None:
    for method in ("tsit5", "kvaerno5"):
        sums, parts = (final(f, pair(), 1.0, method=method) for f in (whole, iso.Split(slow, stiff)))
        assert torch.equal(sums, parts)
    tree = iso.Split(lambda t, y: {"a": y["b"], "b": -y["a"]}, lambda t, y: {"b": -y["b"], "a": -y["a"]})
    sol = iso.solve(tree, {"a": torch.ones(2), "b": torch.zeros(2)}, (0.0, 1.0))
    assert sol.ys["a"][-1].tolist() == pytest.approx([np.exp(-1) * np.cos(1)] * 2, abs=1e-4)
    with pytest.raises(TypeError, match="Split needs two functions"):
        iso.Split(slow, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("batch_dims", [0, 1])
def test_a_stiff_field_in_two_parts(batch_dims: int) -> None:
    """The stiff part may be as stiff as it likes."""
    field = iso.Split(lambda t, y: torch.cos(t).expand_as(y), lambda t, y: -1e4 * y)
    y0 = torch.ones(3, 1, dtype=F64)
    settings: Any = {"rtol": 1e-4, "atol": 1e-6, "max_steps": 300, "batch_dims": batch_dims}
    sol = iso.solve(field, y0, (0.0, 2.0), method="kencarp4", **settings)
    assert sol.ys[-1].flatten().tolist() == pytest.approx([1e-4 * np.cos(2)] * 3, abs=1e-5)
    assert sol.stats.steps.max() < 200


def test_compile_steps_eagerly() -> None:
    settings: Any = {"method": "kvaerno5", "rtol": 1e-6, "atol": 1e-8}
    with torch.no_grad():
        eager, compiled = (iso.solve(whole, pair(), (0.0, 1.0), compile=c, **settings).ys for c in (False, True))
    assert torch.equal(eager, compiled)
