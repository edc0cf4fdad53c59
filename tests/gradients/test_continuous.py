"""The continuous adjoints: where they are right, where solving backwards is not and says so, norms and tolerances."""

import math
import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from benchmarks.problems import PROBLEMS
from benchmarks.problems.stiff import robertson
from torch import Tensor

import isocline as iso

from .problems import LAYOUTS, draw, exact, gradients, worst

F64 = torch.float64
ALONG: dict[str, type[iso.InterpolatingAdjoint] | type[iso.GaussAdjoint]] = {
    "interpolating": iso.InterpolatingAdjoint,
    "gauss": iso.GaussAdjoint,
}
every_kind = pytest.mark.parametrize("make", ALONG.values(), ids=ALONG)
UNSTABLE = "off the saved one by .* RecursiveCheckpointAdjoint.* or InterpolatingAdjoint"


def leaf(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F64, requires_grad=True)


# Where the state cannot be solved for backwards --------------------------------------------------------------------


def decay(gradient: iso.Gradient, **settings: Any) -> tuple[Tensor, Tensor]:
    """Gradients of y(1) + y(1/2) for y' = k (c - y), rate 100, with respect to k and c."""
    k, c = leaf(100.0, 120.0), leaf(0.3)
    y0 = torch.tensor([[1.0, 2.0], [0.5, -1.0]], dtype=F64)
    sol = iso.solve(lambda t, y: k * (c - y), y0, (0.0, 0.02, 1.0), gradient=gradient, **settings)
    by_k, by_c = torch.autograd.grad(sol.ys[1:].sum(), (k, c))
    return by_k, by_c


def decay_exactly() -> tuple[Tensor, Tensor]:
    k, c = leaf(100.0, 120.0), leaf(0.3)
    y0 = torch.tensor([[1.0, 2.0], [0.5, -1.0]], dtype=F64)
    ys = torch.stack([c + (y0 - c) * torch.exp(-k * t) for t in (0.02, 1.0)])
    by_k, by_c = torch.autograd.grad(ys.sum(), (k, c))
    return by_k, by_c


@pytest.mark.parametrize(("method", "batch_dims"), [("tsit5", 1), ("kvaerno5", 0)])
@pytest.mark.parametrize(
    "gradient", [*(make(checkpoints=k) for make in ALONG.values() for k in (None, 3)), iso.RecursiveCheckpointAdjoint()]
)
def test_fast_decay(gradient: iso.Gradient, method: str, batch_dims: int) -> None:
    found = decay(gradient, method=method, batch_dims=batch_dims, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(found, decay_exactly(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch_dims", [0, 1])
def test_backsolve_warns_of_fast_decay(batch_dims: int) -> None:
    where = " in 2 of 2 lanes (0, 1)" if batch_dims else ""
    with pytest.warns(RuntimeWarning, match=UNSTABLE) as caught:
        decay(iso.BacksolveAdjoint(), batch_dims=batch_dims, rtol=1e-6, atol=1e-6)
    assert len(caught) == 1
    assert f"times the tolerance{where}, so" in str(caught[0].message)


def test_backsolve_says_why_it_blew_up() -> None:
    y0 = leaf(1.0, 2.0)
    settings: Any = {"rtol": 1e-6, "atol": 1e-6, "gradient": iso.BacksolveAdjoint()}
    sol = iso.solve(lambda t, y: 100 * (t.cos() - torch.sinh(y)), y0, (0.0, 0.2), **settings)
    with pytest.raises(iso.SolveError, match=r"contracts strongly, or is chaotic.* InterpolatingAdjoint"):
        sol.ys[-1].sum().backward()


def lorenz(p: Tensor) -> Any:
    def f(t: Tensor, y: Tensor) -> Tensor:
        a, b, c = y.unbind(-1)
        return torch.stack([p[0] * (b - a), a * (p[1] - c) - b, a * b - p[2] * c], dim=-1)

    return f


LORENZ = (10.0, 28.0, 8.0 / 3.0)


def chaos(gradient: iso.Gradient | None, p: Tensor, y0: Tensor, **settings: Any) -> Tensor:
    """The first component at t = 20, where a change at the start has grown some million times."""
    ts = torch.linspace(0.0, 20.0, settings.pop("saved", 2), dtype=F64)
    settings = {"method": "tsit5", "controller": iso.FixedStep(0.02), "gradient": gradient, **settings}
    return iso.solve(lorenz(p), y0, ts, **settings).ys[1:, 0].sum()


def test_chaos() -> None:
    """Against DirectAdjoint's gradient of the same discrete solution, and that against differences of it."""
    ways = (iso.DirectAdjoint(), iso.InterpolatingAdjoint(), iso.RecursiveCheckpointAdjoint(20))
    expected, *found = (
        torch.autograd.grad(chaos(how, p, y0), (p, y0))
        for how, p, y0 in ((how, leaf(*LORENZ), leaf(1.0, 1.5, 20.0)) for how in ways)
    )
    assert expected[1].abs().max() > 1e4
    for gradient in found:
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=0.0)
    direction = draw(6, seed=1)
    with torch.no_grad():
        up, down = (
            chaos(None, leaf(*LORENZ) + step * direction[:3], leaf(1.0, 1.5, 20.0) + step * direction[3:])
            for step in (1e-9, -1e-9)
        )
    slope = torch.dot(torch.cat(expected), direction)
    assert (up - down).item() / 2e-9 == pytest.approx(slope.item(), rel=1e-3)


def test_backsolve_warns_of_chaos() -> None:
    p, y0 = leaf(*LORENZ), leaf(1.0, 1.5, 20.0)
    loss = chaos(iso.BacksolveAdjoint(), p, y0, saved=21, controller=iso.PID(1e-6, 1e-6))
    with pytest.warns(RuntimeWarning, match=UNSTABLE):
        found = torch.autograd.grad(loss, y0)[0]
    expected = torch.autograd.grad(chaos(iso.DirectAdjoint(), p, y0, saved=21, controller=iso.PID(1e-6, 1e-6)), y0)[0]
    assert not torch.allclose(found, expected, rtol=0.1)


@pytest.mark.parametrize("name", ["A3", "A5", "B1", "B4", "C5", "E1", "E3", "E5"])
def test_backsolve_is_not_doubted_on_ordinary_problems(name: str) -> None:
    """A warning would fail this."""
    problem, found = PROBLEMS[name], []
    for gradient in (iso.BacksolveAdjoint(), iso.DirectAdjoint()):
        y0 = problem.start.requires_grad_()
        ys = iso.solve(problem.f, y0, (problem.t0, problem.t1), rtol=1e-5, atol=1e-5, gradient=gradient).ys[-1]
        found.append(torch.autograd.grad(torch.dot(draw(len(y0), seed=1), ys), y0)[0])
    backsolve, direct = found
    assert (backsolve - direct).norm() < 0.01 * direct.norm()


@pytest.mark.parametrize("name", ["A1", "B2", "D5"])
def test_backsolve_is_doubted_where_it_should_be(name: str) -> None:
    """Two are contracting; the third is an orbit past a mass, in which errors grow both ways."""
    problem = PROBLEMS[name]
    y0 = problem.start.requires_grad_()
    settings: Any = {"rtol": 1e-6, "atol": 1e-6, "gradient": iso.BacksolveAdjoint()}
    ys = iso.solve(problem.f, y0, (problem.t0, problem.t1), **settings).ys[-1]
    with pytest.warns(RuntimeWarning, match=UNSTABLE):
        ys.sum().backward()


def test_fixed_steps_are_not_doubted() -> None:
    """Nobody said how accurate they are."""
    settings: Any = {"method": "euler", "controller": iso.FixedStep(0.05), "gradient": iso.BacksolveAdjoint()}
    error, where = worst(gradients(LAYOUTS["own-times"], **settings), exact("own-times"))
    assert 1e-2 < error < 0.3, where


# Stiff methods on the way back -------------------------------------------------------------------------------------

STIFF = {"kvaerno5": 0, "kencarp4": 1, "rodas5p": 0, "radau": 1, "bdf": 0, "auto": 1}
"""With batch_dims."""


def fall(gradient: iso.Gradient, method: str, batch_dims: int = 0) -> tuple[tuple[Tensor, ...], iso.Stats]:
    """A fast component, of rate 1e4, that drives a slow one."""
    c = leaf(1.5, 2.0)
    y0 = torch.tensor([0.3, 0.4], dtype=F64).repeat(*[2] * batch_dims, 1).requires_grad_()

    def f(t: Tensor, y: Tensor) -> Tensor:
        fast, slow = y.split(1, dim=-1)
        return torch.cat([-1e4 * (fast - c[0] * t.cos()), -c[1] * (slow - fast**2)], dim=-1)

    settings: Any = {"method": method, "rtol": 1e-6, "atol": 1e-8, "batch_dims": batch_dims}
    sol = iso.solve(f, y0, (0.0, 0.7, 2.0), gradient=gradient, **settings)
    grads = torch.autograd.grad((sol.ys[1:] * torch.tensor([1.0, 3.0], dtype=F64)).sum(), (c, y0))
    return grads, sol.stats


@pytest.mark.parametrize(("method", "batch_dims"), STIFF.items())
def test_stiff_methods_solve_for_the_adjoint(method: str, batch_dims: int) -> None:
    """Their stages have no weights, so both kinds are the same."""
    found, stats = fall(iso.InterpolatingAdjoint(), method, batch_dims)
    expected, _ = fall(iso.DirectAdjoint(), "rodas5p", batch_dims)
    torch.testing.assert_close(found, expected, rtol=2e-4, atol=1e-5)
    assert stats.backward is not None
    # An explicit method needs about 2e4 / 3 of them.
    assert stats.backward.steps < 600 * (1 + batch_dims)


def reacted(gradient: iso.Gradient, method: str, tol: float) -> Tensor:
    """Gradient by the logarithms of Robertson's rate constants, saved while steps are longer than save times apart."""
    logarithms = torch.tensor([0.04, 3e7, 1e4], dtype=F64).log().requires_grad_()
    y0, ts = torch.tensor([1.0, 0.0, 0.0], dtype=F64), (0.0, *(1e3 * i for i in range(1, 11)))
    settings: Any = {"method": method, "rtol": tol, "atol": 1e-6 * tol, "gradient": gradient}
    sol = iso.solve(lambda t, y: robertson(t, y, *logarithms.exp()), y0, ts, **settings)
    weights = torch.cos(torch.arange(30, dtype=F64)).reshape(10, 3)
    (found,) = torch.autograd.grad((weights * sol.ys[1:]).sum(), logarithms)
    return found


@pytest.mark.parametrize("method", ["kvaerno5", "kencarp4"])
def test_save_times_inside_of_stiff_steps(method: str) -> None:
    """What a step damps its interpolant does not: there steps of the way back end at save times."""
    found, expected = reacted(iso.InterpolatingAdjoint(), method, 1e-4), reacted(iso.DirectAdjoint(), "rodas5p", 1e-5)
    torch.testing.assert_close(found, expected, rtol=5e-3, atol=0.0)


@pytest.mark.parametrize(
    "method",
    [
        replace(iso.METHODS["rodas5p"], jacobian=lambda t, y: -1e2 * torch.eye(1, dtype=F64)),  # type: ignore[type-var]
        replace(iso.METHODS["kvaerno5"], jacobian=lambda t, y: -1e2 * torch.eye(1, dtype=F64)),  # type: ignore[type-var]
        replace(iso.METHODS["kvaerno5"], linear_solver="gmres"),  # type: ignore[type-var]
    ],
    ids=["rodas5p by hand", "kvaerno5 by hand", "gmres"],
)
@every_kind
def test_jacobians_of_the_user_serve_both_ways(make: Any, method: iso.Solver) -> None:
    y0, k = leaf(0.5), leaf(100.0)
    sol = iso.solve(
        lambda t, y: k * (t.sin() - y), y0, (0.0, 1.0), method=method, rtol=1e-7, atol=1e-9, gradient=make()
    )
    (by_k,) = torch.autograd.grad(sol.ys[-1].sum(), k)
    # y(1) = particular solution + c exp(-k)
    k1 = leaf(100.0)
    y1 = (k1 * k1 * math.sin(1) - k1 * math.cos(1)) / (1 + k1 * k1)
    (expected,) = torch.autograd.grad(y1.sum(), k1)
    torch.testing.assert_close(by_k, expected, rtol=1e-4, atol=0.0)


@every_kind
def test_methods_that_cannot_solve_backwards(make: Any) -> None:
    name = make.__name__
    y0 = torch.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match=rf"{name} cannot solve backwards by method .*{name}\(method='tsit5'\)"):
        iso.solve(lambda t, y: -y, y0, (0.0, 1.0), gradient=make(method=iso.SciPy("LSODA")))
    pair = {"method": "leapfrog", "controller": iso.FixedStep(0.1)}
    with pytest.raises(ValueError, match="by method 'leapfrog'"):
        iso.solve(lambda t, y: (y[1], -y[0]), (y0, y0), (0.0, 1.0), gradient=make(), **pair)
    sol = iso.solve(lambda t, y: (y[1], -y[0]), (y0, y0), (0.0, 1.0), gradient=make(method="tsit5"), **pair)
    (found,) = torch.autograd.grad(sol.ys[0][-1].sum(), y0)
    torch.testing.assert_close(found, torch.full_like(y0, math.cos(1) + math.sin(1)), rtol=1e-2, atol=0.0)


# Blocks ------------------------------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize(("layout", "checkpoints"), [("own-times", 1), ("backward", 2), ("nested", 7), ("joint", 1000)])
def test_any_number_of_checkpoints_will_do(make: Any, layout: str, checkpoints: int) -> None:
    settings: Any = {"method": "bosh3", "controller": iso.PID(1e-6, 1e-6)}
    error, where = worst(gradients(LAYOUTS[layout], gradient=make(checkpoints=checkpoints), **settings), exact(layout))
    assert error < 2e-5, where


@every_kind
@pytest.mark.parametrize("checkpoints", [None, 4])
def test_a_second_backward_pass_is_the_same(make: Any, checkpoints: int | None) -> None:
    y0 = leaf(0.5, 0.7)
    sol = iso.solve(lambda t, y: torch.sin(3 * y) + t, y0, (0.0, 0.5, 3.0), gradient=make(checkpoints=checkpoints))
    once, twice = (torch.autograd.grad(sol.ys.sum(), y0, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(once, twice)


@every_kind
def test_lanes_that_end_early_cost_nothing_further(make: Any) -> None:
    ends = torch.tensor([0.1] * 7 + [2.0], dtype=F64)
    y0 = draw(8, 2, seed=1).requires_grad_()
    sol = iso.solve(
        lambda t, y: torch.sin(3 * y) + t,
        y0,
        (0.0, ends),
        batch_dims=1,
        gradient=make(method="rk4", controller=iso.FixedStep(0.05)),
        method="rk4",
        controller=iso.FixedStep(0.05),
    )
    (found,) = torch.autograd.grad(sol.ys[-1].square().sum(), y0)
    for lane in (0, 7):
        alone = y0.detach()[lane].requires_grad_()
        settings: Any = {"method": "rk4", "controller": iso.FixedStep(0.05)}
        y1 = iso.solve(lambda t, y: torch.sin(3 * y) + t, alone, (0.0, ends[lane]), **settings).ys[-1]
        (expected,) = torch.autograd.grad(y1.square().sum(), alone)
        torch.testing.assert_close(found[lane], expected, rtol=1e-4, atol=1e-6)
    assert sol.stats.backward.rows < 3 * sol.stats.backward.evaluations


@every_kind
def test_many_save_times_cost_little(make: Any) -> None:
    def evaluations(count: int) -> int:
        y0 = leaf(0.5, 0.7)
        ts = torch.linspace(0.0, 3.0, count, dtype=F64)
        sol = iso.solve(lambda t, y: torch.sin(3 * y) + t, y0, ts, gradient=make())
        sol.ys.square().mean().backward()
        assert sol.stats.backward is not None
        return sol.stats.backward.evaluations

    assert evaluations(1001) < 2.5 * evaluations(11)


# Tolerances and norms ----------------------------------------------------------------------------------------------


@every_kind
def test_tolerances_of_the_way_back_are_its_own(make: Any) -> None:
    def solve(**options: Any) -> tuple[Tensor, iso.Stats]:
        y0 = leaf(0.5, 0.7)
        settings: Any = {"rtol": 1e-6, "atol": 1e-6}
        sol = iso.solve(lambda t, y: torch.sin(3 * y) + t, y0, (0.0, 3.0), gradient=make(**options), **settings)
        return torch.autograd.grad(sol.ys[-1].sum(), y0)[0], sol.stats

    _, plain = solve()
    _, same = solve(rtol=1e-6, atol=1e-6)
    coarse_found, coarse = solve(rtol=1e-2, atol=1e-2)
    fine_found, fine = solve(rtol=1e-9, atol=1e-9, controller=None)
    held, fixed = solve(method="rk4", controller=iso.FixedStep(1 / 64))
    assert plain.evaluations == same.evaluations == coarse.evaluations == fine.evaluations
    steps = [stats.backward.steps for stats in (coarse, plain, same, fine)]  # type: ignore[union-attr]
    assert steps[0] < steps[1] == steps[2] < steps[3] / 2
    assert fixed.backward is not None
    assert 192 <= fixed.backward.steps <= 192 + 20
    torch.testing.assert_close(coarse_found, fine_found, rtol=1e-1, atol=0.0)
    torch.testing.assert_close(held, fine_found, rtol=1e-4, atol=0.0)


def two_scales(t: Tensor, y: Tensor) -> Tensor:
    """A slow component, and a fast one."""
    return torch.stack([-y[..., 0], 30 * torch.cos(30 * t.squeeze() if t.ndim else 30 * t) * y[..., 1]], dim=-1)


def backward_steps(gradient: iso.Gradient, loss: int, **settings: Any) -> int:
    y0 = leaf(1.0, 1.0)
    sol = iso.solve(two_scales, y0, (0.0, 1.0), gradient=gradient, **settings)
    torch.autograd.grad(sol.ys[-1][loss], y0)
    assert sol.stats.backward is not None
    return int(sol.stats.backward.steps)


def slow_only(x: Tensor) -> Tensor:
    assert x.shape[1] == 2
    return x[:, 0].abs()


@every_kind
def test_a_norm_gets_the_error_of_the_adjoint(make: Any) -> None:
    both = backward_steps(make(rtol=1e-6, atol=1e-6), 1)
    assert backward_steps(make(controller=iso.PID(1e-6, 1e-6, norm=slow_only)), 1) < both / 2
    # The forward's own serves, too.
    assert backward_steps(make(), 1, controller=iso.PID(1e-6, 1e-6, norm=slow_only)) < both / 2


def test_a_norm_of_backsolve_gets_state_and_adjoint() -> None:
    def of_the_adjoint(x: Tensor) -> Tensor:
        state, adjoint = x.chunk(2, dim=1)
        assert state.shape == adjoint.shape == (1, 2)
        return adjoint.abs().amax(dim=1)

    def backsolve(norm: Any) -> iso.Gradient:
        return iso.BacksolveAdjoint(controller=iso.PID(1e-6, 1e-6, norm=norm))

    # The adjoint of the slow component alone is slow; the state is not.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nobody looks at the fast component of the state, which is lost
        assert backward_steps(backsolve(of_the_adjoint), 0) < backward_steps(backsolve("max"), 0) / 2


def test_the_forward_norm_judges_both_halves_in_backsolve() -> None:
    """It is written for a state: it gets state and adjoint one by one."""
    plain = backward_steps(iso.BacksolveAdjoint(controller=iso.PID(1e-6, 1e-6, norm="max")), 1)
    largest = iso.PID(1e-6, 1e-6, norm=lambda x: x[:, :2].abs().amax(dim=1))
    assert backward_steps(iso.BacksolveAdjoint(), 1, controller=largest) == plain


# What it costs -----------------------------------------------------------------------------------------------------


class Counted(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Parameter(torch.tensor([0.4, 0.9], dtype=F64))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.sin(self.a * y + t)


@pytest.mark.parametrize("name", ALONG)
@pytest.mark.parametrize(("checkpoints", "again"), [(None, 16), (1, 136), (32, 16)])
def test_fixed_steps_cost_their_stages(name: str, checkpoints: int | None, again: int) -> None:
    """Sixteen steps of rk4 are taken again, and sixteen of the adjoint, at the same places, whatever the blocks."""
    settings: Any = {"method": "rk4", "controller": iso.FixedStep(1 / 16)}
    sol = iso.solve(Counted(), leaf(0.5, -0.3), (0.0, 1.0), gradient=ALONG[name](checkpoints=checkpoints), **settings)
    assert sol.stats.evaluations == 1 + 64
    sol.ys[-1].sum().backward()
    backward = sol.stats.backward
    assert backward is not None
    assert backward.steps == backward.accepted == 16
    points = 2 * 16 if name == "gauss" else 0
    assert backward.evaluations == 4 * 16 + 4 * again + points
