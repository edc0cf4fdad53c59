"""Lanes that have ended are no longer evaluated, and nothing else changes."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import isocline as iso
from problems import fitting

F64 = torch.float64
GRADIENTS: dict[str, iso.Gradient] = {
    "direct": iso.DirectAdjoint(),
    "checkpoint": iso.RecursiveCheckpointAdjoint(),
    "checkpoint of 3": iso.RecursiveCheckpointAdjoint(3),
    "reversible": iso.ReversibleAdjoint(),
}
every_gradient = pytest.mark.parametrize("gradient", GRADIENTS.values(), ids=GRADIENTS)
close = partial(assert_close, rtol=1e-10, atol=1e-10)


class Counted:
    """A field that counts its calls and the rows it was given."""

    def __init__(self, f: Callable[..., Tensor]) -> None:
        self.f = f
        self.calls = 0
        self.rows: list[int] = []

    def __call__(self, t: Tensor, y: Tensor, *args: Any) -> Tensor:
        assert t.shape == (len(y), *[1] * (y.ndim - 1))
        self.calls += 1
        self.rows.append(len(y))
        return self.f(t, y, *args)


def van_der_pol(t: Tensor, y: Tensor, mu: Tensor) -> Tensor:
    x, v = y.unbind(-1)
    return torch.stack([v, mu * (1 - x**2) * v - x], dim=-1)


def whole(f: Callable[..., Tensor], lanes: int) -> Callable[..., Tensor]:
    """Return the field, but for no fewer lanes: it cannot be compacted."""

    def refusing(t: Tensor, y: Tensor, *args: Any) -> Tensor:
        if len(y) != lanes:
            raise ValueError("too few rows")
        return f(t, y, *args)

    return refusing


MU = torch.logspace(-1, math.log10(30), 256, dtype=F64)
START = torch.tensor([[2.0, 0.0]], dtype=F64).repeat(256, 1)
SETTINGS: dict[str, Any] = {"method": "dopri5", "rtol": 1e-5, "atol": 1e-6}


@pytest.mark.parametrize("gradient", [None, iso.RecursiveCheckpointAdjoint()], ids=["no grad", "checkpoint"])
def test_rows_are_about_those_of_solving_each_sample_alone(gradient: iso.Gradient | None) -> None:
    step = 8 if gradient else 4
    y0, mu = START[::step], MU[::step].clone().requires_grad_(gradient is not None)
    alone, backward = 0, 0
    for lane in range(len(mu)):
        sol = iso.solve(van_der_pol, y0[lane], (0.0, 10.0), args=(mu[lane],), gradient=gradient, **SETTINGS)
        alone += sol.stats.rows
        if gradient:
            sol.ys[-1].sum().backward()
            backward += sol.stats.backward.rows
    f = Counted(van_der_pol)
    sol = iso.solve(f, y0, (0.0, 10.0), args=(iso.PerLane(mu),), batch_dims=1, gradient=gradient, **SETTINGS)
    assert sol.stats.rows == sum(f.rows)
    assert sol.stats.evaluations == f.calls
    assert sol.stats.rows <= (1.1 if gradient else 1.05) * alone
    if gradient:
        sol.ys[-1].sum().backward()
        assert sol.stats.backward.rows <= 1.25 * backward
        assert sol.stats.rows + sol.stats.backward.rows == sum(f.rows) <= 1.15 * (alone + backward)
        assert sol.stats.evaluations + sol.stats.backward.evaluations == f.calls


def test_rows_of_joint_solves_and_of_fields_that_stay_whole() -> None:
    sol = iso.solve(van_der_pol, START[0], (0.0, 1.0), args=(MU[0],))
    assert sol.stats.rows == sol.stats.evaluations
    f = Counted(whole(van_der_pol, 8))
    sol = iso.solve(f, START[:8], (0.0, torch.linspace(1, 2, 8)), args=(MU[:8],), batch_dims=1)
    assert f.rows.count(8) == sol.stats.evaluations - 1  # one call that tried fewer
    assert sol.stats.rows == sum(f.rows)


# Lanes of very different lengths and fates, and of both directions of time.
ENDS = torch.tensor([0.3, 4.0, -1.0, 2.0, 0.0, 3.0, 5.0, 1.0], dtype=F64)
K = torch.tensor([1.0, 2.0, 0.5, 5.0, 1.0, -3.0, 0.1, 1.0], dtype=F64).unsqueeze(1)
Y0 = torch.linspace(0.5, 1.5, 16, dtype=F64).reshape(8, 2)


def decay(t: Tensor, y: Tensor, k: Tensor) -> Tensor:
    return torch.sin(3 * t) - k * y + 0.1 * y.roll(1, dims=1)


def both(f: Callable[..., Tensor], ts: Any, y0: Tensor = Y0, k: Tensor = K, **options: Any) -> list[iso.Solution]:
    """Solve with and without compaction; the first solve has compacted, or this fails."""
    counted = [Counted(f), Counted(whole(f, len(y0)))]
    first = iso.solve(counted[0], y0, ts, args=(iso.PerLane(k),), batch_dims=1, throw=False, **options)
    second = iso.solve(counted[1], y0, ts, args=(k,), batch_dims=1, throw=False, **options)
    assert min(counted[0].rows) <= len(y0) / 2
    assert sum(counted[0].rows) < sum(counted[1].rows)
    return [first, second]


def same(a: iso.Solution, b: iso.Solution) -> None:
    close(a.ys, b.ys, equal_nan=True)
    close(a.ts, b.ts)
    for x, y in ((a.status, b.status), (a.stats.steps, b.stats.steps), (a.stats.accepted, b.stats.accepted)):
        assert x.tolist() == y.tolist()


@pytest.mark.parametrize("method", ["tsit5", "dopri5", "bosh3", "heun", "vern7"])
@pytest.mark.parametrize("gradient", [None, iso.DirectAdjoint()], ids=["no grad", "direct"])
def test_saves_and_dense_output_are_the_same(method: str, gradient: iso.Gradient | None) -> None:
    ts = torch.linspace(0, 1, 7, dtype=F64).unsqueeze(1) * ENDS
    with torch.set_grad_enabled(gradient is not None):
        y0 = Y0.clone().requires_grad_()
        a, b = both(decay, ts, y0, method=method, dense=True, rtol=1e-4, atol=1e-4)
        same(a, b)
        inside = torch.linspace(0, 1, 23, dtype=F64).unsqueeze(1) * ENDS
        close(a(inside), b(inside))
        close(a(ts), a.ys, rtol=1e-9, atol=1e-9)


def test_fixed_steps_shared_times_and_trees() -> None:
    def f(t: Tensor, y: dict[str, Tensor], k: Tensor) -> dict[str, Tensor]:
        assert t.shape == (len(y["a"]), 1, 1)
        return {"a": -k * y["a"], "b": y["b"] * 0 + t}

    y0 = {"a": Y0, "b": torch.ones(8, 3, 2, dtype=F64)}
    ends = (0.0, ENDS)
    a = iso.solve(f, y0, ends, args=(iso.PerLane(K),), batch_dims=1, method="rk4", controller=iso.FixedStep(0.05))
    b = iso.solve(f, y0, ends, args=(K,), batch_dims=1, method="rk4", controller=iso.FixedStep(0.05))
    assert a.stats.rows < b.stats.rows / 2
    close(a.ys["a"], b.ys["a"])
    close(a.ys["b"], b.ys["b"])


def mixed_fates(t: Tensor, y: Tensor, k: Tensor) -> Tensor:
    """Growth that ends early in lanes of large k, and square roots of what becomes negative."""
    return torch.where(k > 4, y**2 * 3, torch.where(k < 0, -y.sqrt() - 1, torch.cos(20 * k * t)))


@pytest.mark.parametrize("gradient", [None, *GRADIENTS.values()], ids=["no grad", *GRADIENTS])
def test_statuses_are_the_same_where_lanes_fail(gradient: iso.Gradient | None) -> None:
    with torch.set_grad_enabled(gradient is not None):
        y0 = Y0.clone().requires_grad_()
        ts = torch.linspace(0, 1, 5, dtype=F64).unsqueeze(1) * ENDS
        method = fitting(gradient or iso.DirectAdjoint())
        a, b = both(mixed_fates, ts, y0, max_steps=150, gradient=gradient, method=method)
        same(a, b)
        assert {int(s) for s in a.status} >= {iso.Status.SUCCESS, iso.Status.MAX_STEPS, iso.Status.NON_FINITE}
        if gradient is not None:
            grads = [torch.autograd.grad(sol.ys.nan_to_num().sum(), y0)[0] for sol in (a, b)]
            assert grads[0].isfinite().all()
            close(*grads)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[0.3, -0.8], [0.9, 0.2]], dtype=F64))
        self.rows: list[int] = []

    def forward(self, t: Tensor, y: Tensor, k: dict[str, Tensor]) -> Tensor:
        self.rows.append(len(y) if y.ndim > 1 else 1)
        return torch.tanh(y @ self.weight) * torch.cos(4 * t) - k["k"] * y


def loss(sol: iso.Solution, lane: int | None = None) -> Tensor:
    weights = torch.cos(torch.arange(5 * 8 * 2, dtype=F64)).reshape(5, 8, 2)
    total = (sol.ys * (weights if lane is None else weights[:, lane])).sum()
    if sol.interpolant is None:
        return total
    inside = torch.linspace(0.05, 0.95, 9, dtype=F64).unsqueeze(1) * ENDS
    return total + (sol(inside if lane is None else inside[:, lane]) ** 2).sum()


@every_gradient
@pytest.mark.parametrize(
    ("method", "dense", "computed"),  # each pair of them once
    [("tsit5", False, True), ("tsit5", True, False), ("heun", False, False), ("heun", True, True)],
)
def test_gradients_are_those_of_solving_each_sample_alone(
    gradient: iso.Gradient, method: str, dense: bool, computed: bool
) -> None:
    def inputs() -> tuple[Net, Tensor, Tensor, Tensor]:
        ts = torch.linspace(0, 1, 5, dtype=F64).unsqueeze(1) * ENDS
        return Net(), Y0.clone().requires_grad_(), ts.requires_grad_(), K.clone().requires_grad_()

    options: dict[str, Any] = {"gradient": gradient, "dense": dense, "rtol": 1e-3, "atol": 1e-3}
    options["method"] = fitting(gradient, method)
    f, y0, ts, k = inputs()
    values = k * 1.0 if computed else k
    args = ({"k": iso.PerLane(values)},)
    sol = iso.solve(f, y0, ts, args=args, batch_dims=1, **options)
    loss(sol).backward()
    assert min(f.rows) == 1
    assert len({*f.rows}) > 3

    g, y0s, tss, ks = inputs()
    total = torch.zeros((), dtype=F64)
    for lane in range(8):
        if ENDS[lane] == 0:  # nothing to solve; dense output repeats y0
            total = total + loss(iso.Solution(tss[:, lane], y0s[lane].expand(5, 2), sol.status, sol.stats), lane)
            total = total + 9 * (y0s[lane] ** 2).sum() * dense
        else:
            total = total + loss(iso.solve(g, y0s[lane], tss[:, lane], args=({"k": ks[lane]},), **options), lane)
    total.backward()
    bar = partial(assert_close, rtol=1e-8, atol=1e-8)
    bar(f.weight.grad, g.weight.grad)
    bar(y0.grad, y0s.grad)
    bar(k.grad, ks.grad)
    others = ENDS != 0
    bar(ts.grad[:, others], tss.grad[:, others])


def test_backsolve_is_right_with_a_forward_pass_that_compacts() -> None:
    grads = []
    for gradient in (iso.BacksolveAdjoint(), iso.DirectAdjoint()):
        f, y0, k = Net(), Y0.clone().requires_grad_(), K.clone().requires_grad_()
        options = {"batch_dims": 1, "rtol": 1e-9, "atol": 1e-9, "gradient": gradient}
        sol = iso.solve(f, y0, (0.0, ENDS), args=({"k": iso.PerLane(k)},), **options)
        assert min(f.rows) == 1
        grads.append(torch.autograd.grad(sol.ys[-1].square().sum(), (f.weight, y0, k)))
        if sol.stats.backward:
            assert sol.stats.backward.rows == 8 * sol.stats.backward.evaluations
    assert_close(*grads, rtol=1e-6, atol=1e-6)


@every_gradient
def test_a_second_backward_pass_is_the_same(gradient: iso.Gradient) -> None:
    y0, k = Y0.clone().requires_grad_(), K.clone().requires_grad_()
    options: dict[str, Any] = {"batch_dims": 1, "gradient": gradient, "method": fitting(gradient)}
    sol = iso.solve(decay, y0, (0.0, ENDS), args=(iso.PerLane(k),), **options)
    once, twice = (torch.autograd.grad(sol.ys.sum(), (y0, k), retain_graph=True) for _ in range(2))
    close(once, twice)


@every_gradient
def test_a_lane_that_has_ended_and_waits_for_others_to_leave_leaves_no_trace(gradient: iso.Gradient) -> None:
    """Where it stands the derivative of f is infinite, and nothing depends on it."""
    if not gradient.suits(iso.METHODS["midpoint"]):
        pytest.skip("a reversible form evaluates f at the end of the last step, so something does")
    p = torch.ones((), dtype=F64, requires_grad=True)
    f = Counted(lambda t, y, p: -y * (p - t).abs().sqrt())
    ts = torch.tensor([[0.0] + [0.1] * 9, [1.0] + [2.0] * 9], dtype=F64)
    y0 = torch.ones(10, 1, dtype=F64)
    options: dict[str, Any] = {"method": "midpoint", "controller": iso.FixedStep(0.25), "gradient": gradient}
    sol = iso.solve(f, y0, ts, args=(p,), batch_dims=1, **options)
    assert set(f.rows) == {10}
    sol.ys[-1].sum().backward()
    assert p.grad is not None
    assert p.grad.isfinite().all()


def test_second_derivatives_go_through() -> None:
    y0, k = Y0.clone().requires_grad_(), K.clone().requires_grad_()
    f = lambda t, y, k: -k * y**2  # noqa: E731
    sol = iso.solve(f, y0, (0.0, ENDS.abs() / 10), args=(iso.PerLane(k.abs()),), batch_dims=1, rtol=1e-9, atol=1e-9)
    (g,) = torch.autograd.grad(sol.ys[-1].sum(), y0, create_graph=True)
    (h,) = torch.autograd.grad(g.sum(), y0)
    kt = k.abs() * ENDS.abs().unsqueeze(1) / 10
    assert_close(h, -2 * kt / (1 + kt * y0) ** 3, rtol=1e-5, atol=1e-6)


def coupled(t: Tensor, y: Tensor) -> Tensor:
    return y.mean(dim=0) - y + torch.sin(t)


def placed(t: Tensor, y: Tensor) -> Tensor:
    return -torch.arange(1.0, len(y) + 1).unsqueeze(1) * y


def closed_over(t: Tensor, y: Tensor) -> Tensor:
    return -K * y


ORDERS = {"last first": torch.arange(8.0, 0, -1), "first first": torch.arange(1.0, 9), "mixed": ENDS.abs() + 0.1}


@pytest.mark.parametrize("f", [coupled, placed, closed_over])
@pytest.mark.parametrize("ends", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("method", ["tsit5", "heun"])
def test_a_field_that_needs_all_rows_gets_them(f: Callable[..., Tensor], ends: Tensor, method: str) -> None:
    counted = Counted(f)
    options: dict[str, Any] = {"batch_dims": 1, "method": method, "rtol": 1e-3, "atol": 1e-3}
    sol = iso.solve(counted, Y0, (0.0, ends), **options)
    other = iso.solve(whole(f, 8), Y0, (0.0, ends), **options)
    assert sol.ys.equal(other.ys)
    assert sum(rows < 8 for rows in counted.rows) in (1, 2)
    assert all(rows == 8 for rows in counted.rows[-5:])


def test_two_lanes_one_of_them_first() -> None:
    """The rows that are left are in their own places, so only another order tells that places matter."""
    ends = torch.tensor([3.0, 2.0, 1.0], dtype=F64)
    sol = iso.solve(placed, Y0[:3], (0.0, ends), batch_dims=1, rtol=1e-8, atol=1e-8)
    exact = Y0[:3] * (-torch.arange(1.0, 4) * ends).exp().unsqueeze(1)
    assert_close(sol.ys[-1], exact, rtol=1e-6, atol=1e-6)


WEIGHTS = torch.linspace(0.5, 2, 8, dtype=F64).unsqueeze(1)
NORMS = {"closed over": lambda e: (WEIGHTS * e).abs().amax(dim=1), "coupled": lambda e: e.abs().amax(1) + e.abs().max()}


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
def test_a_norm_made_for_all_lanes_gets_them(norm: Callable[[Tensor], Tensor]) -> None:
    controller = iso.PID(norm=norm)
    f = Counted(decay)
    sol = iso.solve(f, Y0, (0.0, ENDS), args=(iso.PerLane(K),), batch_dims=1, controller=controller)
    assert all(rows == 8 for rows in f.rows[-5:])
    same(sol, iso.solve(decay, Y0, (0.0, ENDS), args=(K,), batch_dims=1, controller=controller))


def test_a_field_that_cannot_take_a_single_row_gets_more() -> None:
    f = Counted(lambda t, y: -y if len(y) > 1 else -y.squeeze())
    sol = iso.solve(f, Y0, (0.0, ENDS), batch_dims=1)
    assert_close(sol.ys[-1], Y0 * (-ENDS.unsqueeze(1)).exp(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["tsit5", "heun"])
def test_float32_networks_are_compacted(method: str) -> None:
    net = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 2))
    f = Counted(lambda t, y: net(y))
    with torch.no_grad():
        iso.solve(f, Y0.float(), (0.0, ENDS), batch_dims=1, method=method, rtol=1e-3, atol=1e-3)
    assert f.rows[-1] < 8


def test_two_batch_dimensions_are_not_compacted() -> None:
    shapes = set()

    def f(t: Tensor, y: Tensor, k: Tensor) -> Tensor:
        shapes.add(y.shape[:2])
        return -k * y

    y0, k = Y0.reshape(4, 2, 2), K.reshape(4, 2, 1)
    sol = iso.solve(f, y0, (0.0, ENDS.reshape(4, 2)), args=(iso.PerLane(k),), batch_dims=2)
    assert shapes == {(4, 2)}
    assert sol.stats.rows == 8 * sol.stats.evaluations
    assert_close(sol.ys[-1], y0 * (-k * ENDS.reshape(4, 2, 1)).exp(), rtol=1e-3, atol=1e-4)


def test_progress_goes_on() -> None:
    from isocline.observers import Progress

    seen: list[int] = []
    bar = Progress(torch.zeros(8, dtype=F64), ENDS, seen.append)
    step = type("Step", (), {"t1": torch.zeros(8, dtype=F64)})
    bar.see(step, int(bar.ask(step)))  # type: ignore[arg-type]
    bar.narrow(torch.tensor([1, 6]))
    step.t1 = ENDS[[1, 6]] / 2
    bar.see(step, int(bar.ask(step)))  # type: ignore[arg-type]
    assert seen == [0, 500]
    sol = iso.solve(decay, Y0, (0.0, ENDS), args=(iso.PerLane(K),), batch_dims=1, progress=True)
    assert sol.success.all()


def test_per_lane_without_lanes_is_the_tensor() -> None:
    seen: list[Any] = []

    def f(t: Tensor, y: Tensor, pair: tuple[Any, ...]) -> Tensor:
        seen.append(pair)
        return -pair[0] * y

    k = torch.tensor(2.0, dtype=F64)
    iso.solve(f, Y0, (0.0, 1.0), args=((iso.PerLane(k), "name"),))
    assert all(pair[0] is k and pair[1] == "name" for pair in seen)


def test_per_lane_refuses_what_has_no_row_for_each_sample() -> None:
    with pytest.raises(TypeError, match="PerLane needs a tensor, got a float"):
        iso.PerLane(1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"first dimensions \(8,\); got a torch.float64 tensor of shape \(7, 1\)"):
        iso.solve(decay, Y0, (0.0, 1.0), args=(iso.PerLane(K[:7]),), batch_dims=1)
    with pytest.raises(ValueError, match=r"first dimensions \(8,\)"):
        iso.solve(decay, Y0, (0.0, 1.0), args=([iso.PerLane(torch.ones(()))],), batch_dims=1)
