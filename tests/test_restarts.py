"""Known discontinuities, times at which steps end, and solves that go on from others."""

from typing import Any

import pytest
import torch
from torch import Tensor

import isocline as iso

TIGHT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-9}
GRADIENTS = {
    "direct": iso.DirectAdjoint(),
    "checkpoint": iso.RecursiveCheckpointAdjoint(),
    "backsolve": iso.BacksolveAdjoint(),
    "interpolating": iso.InterpolatingAdjoint(),
}


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


class Switched:
    """y' = -3 y before the switch, 2 y from it on; notes the times at which it is evaluated."""

    def __init__(self, at: float) -> None:
        self.at = at
        self.seen: list[Tensor] = []

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        self.seen.append(t.detach().clone().flatten())
        return torch.where(t < self.at, -3.0, 2.0).to(y.dtype) * y


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [False, True])
def test_jump_ts_keep_to_their_side(backwards: bool, dtype: torch.dtype, batch: bool) -> None:
    f, at = Switched(0.3), 0.3
    y0, ts = torch.ones(2, 1, dtype=dtype), torch.linspace(0, 1, 11, dtype=torch.float64)
    ts = ts.flip(0) if backwards else ts
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-9}[dtype]
    options: dict[str, Any] = {"rtol": tolerance, "atol": tolerance, "batch_dims": int(batch)}
    sol = iso.solve(f, y0, ts, jump_ts=[at], **options)
    grown = torch.where(ts < at, -3 * (ts - at), 2 * (ts - at))
    expected = (grown - grown[0]).exp().to(dtype).reshape(-1, 1, 1).expand(-1, 2, 1)
    torch.testing.assert_close(sol.ys, expected, rtol=30 * tolerance, atol=0)
    seen = torch.cat(f.seen)
    assert not (seen == torch.tensor(at, dtype=dtype)).any()
    without = iso.solve(f, y0, ts, **options)
    assert sol.stats.rejected.max() < 2 < without.stats.rejected.max()


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("batch", [False, True])
def test_jump_times_are_differentiable(gradient: str, batch: bool) -> None:
    """y' = k for t < c and m after: dy(1)/dc = k - m."""
    k, m, c = (x.requires_grad_() for x in tensor(2.0, -1.0, 0.4).unbind())
    y0 = torch.zeros(3, 1, dtype=torch.float64, requires_grad=True)
    sol = iso.solve(
        lambda t, y: torch.where(t < c, k, m) + 0 * y,
        y0,
        torch.linspace(0, 1, 5, dtype=torch.float64),
        jump_ts=[c],
        gradient=GRADIENTS[gradient],
        batch_dims=int(batch),
        **TIGHT,
    )
    found = torch.autograd.grad(sol.ys[-1].sum(), (k, m, c, y0))
    expected = (3 * c.detach(), 3 * (1 - c.detach()), 3 * (k - m).detach(), torch.ones_like(y0))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_jump_ts_with_events_for_each_lane() -> None:
    """A push at t = 1 takes some lanes over the line; the others come later or not at all."""

    def f(t: Tensor, y: Tensor) -> Tensor:
        return torch.where(t < 1, 0.0, 1.0).to(y.dtype).expand_as(y)

    y0 = tensor(0.0, 1.5, 2.0, -5.0).unsqueeze(1)
    sol = iso.solve(f, y0, (0.0, 4.0), event=lambda t, y: y[:, 0] - 2.5, jump_ts=[1.0, 2.0], batch_dims=1, **TIGHT)
    torch.testing.assert_close(sol.event_t, tensor(3.5, 2.0, 1.5, float("nan")), rtol=0, atol=1e-12, equal_nan=True)
    assert sol.status.tolist() == [iso.Status.EVENT] * 3 + [iso.Status.SUCCESS]


def test_jump_ts_keep_jacobians_and_split_fields_to_their_side() -> None:
    seen: list[Tensor] = []

    def rate(t: Tensor) -> Tensor:
        seen.append(t.flatten())
        return torch.where(t < 0.3, -3.0, 2.0).double()

    jacobian = iso.ESDIRK(iso.METHODS["kvaerno5"].tableau, jacobian=lambda t, y: rate(t).reshape(-1, 1, 1))
    y0, options = torch.ones(2, 1, dtype=torch.float64), {**TIGHT, "batch_dims": 1}
    split = iso.Split(lambda t, y: 0.5 * rate(t) * y, lambda t, y: 0.5 * rate(t) * y)
    for f, method in ((lambda t, y: rate(t) * y, jacobian), (split, "kencarp4"), (split, "tsit5")):
        sol = iso.solve(f, y0, (0.0, 1.0), method=method, jump_ts=[0.3], **options)
        torch.testing.assert_close(sol.ys[-1], y0 * tensor(0.5).exp(), rtol=1e-7, atol=0)
    assert not (torch.cat(seen) == 0.3).any()


class Ends:
    """Collects the ends of accepted steps by dense output."""

    def __new__(cls, sol: iso.Solution) -> Tensor:  # type: ignore[misc]
        return sol.interpolant.dense.t1  # type: ignore[union-attr]


def circle(t: Tensor, y: Tensor) -> Tensor:
    return torch.stack([y[..., 1], -y[..., 0] * (1 + 0.1 * t.reshape(t.shape[:1]))], dim=-1)


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("sign", [1, -1])
def test_step_ts_are_ends_of_steps(batch: bool, sign: int) -> None:
    y0 = tensor(1.0, 0.0, 0.5, 2.0).reshape(2, 2) if batch else tensor(1.0, 0.0)
    marks = sign * tensor(2.71, 0.5, 1.234567)
    with torch.no_grad():
        options: dict[str, Any] = {**TIGHT, "dense": True, "batch_dims": int(batch)}
        sol = iso.solve(circle, y0, (0.0, sign * 4.0), step_ts=marks, **options)
        plain = iso.solve(circle, y0, (0.0, sign * 4.0), **options)
    for mark in marks:
        assert (Ends(sol) == mark).any(dim=0).all()
        assert not (Ends(plain) == mark).any()
    torch.testing.assert_close(sol.ys, plain.ys, rtol=0, atol=1e-7)
    # No restarts: a step more for each, and nothing else.
    assert (sol.stats.steps - plain.stats.steps).max() <= 4
    assert sol.stats.evaluations - plain.stats.evaluations <= 4 * 6


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_step_ts_with_gradients(gradient: str) -> None:
    y0 = tensor(1.0, 0.0).requires_grad_()
    found = []
    for marks in (None, [0.3, 0.9]):
        sol = iso.solve(circle, y0, (0.0, 2.0), step_ts=marks, gradient=GRADIENTS[gradient], **TIGHT)
        found.append(torch.autograd.grad(sol.ys[-1].square().sum(), y0)[0])
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("method", ["tsit5", "bosh3", "rk4", "adams", "bdf", "kvaerno3"])
def test_two_halves_are_one_solve(method: str, batch: bool) -> None:
    y0 = tensor(1.0, 0.0, 0.5, 2.0).reshape(2, 2) if batch else tensor(1.0, 0.0)
    controller = iso.FixedStep(0.03) if method == "rk4" else iso.PID(1e-6, 1e-6, dcoeff=0.1)
    options: dict[str, Any] = {"method": method, "controller": controller, "batch_dims": int(batch)}
    with torch.no_grad():
        whole = iso.solve(circle, y0, (0.0, 4.0), step_ts=[1.5], **options)
        first = iso.solve(circle, y0, (0.0, 1.5), **options)
        second = iso.solve(circle, first.ys[-1], (1.5, 4.0), state=first.state, **options)
    assert torch.equal(second.ys[-1], whole.ys[-1])
    assert torch.equal(first.stats.steps + second.stats.steps, whole.stats.steps)
    # Once a solve f is tried for fewer lanes. Lanes that iterate together do so as often as the slowest of those that
    # happen to step at the same time, so then only their steps are the same.
    if not (batch and method in ("bdf", "kvaerno3")):
        tried = 2 if batch and method != "rk4" else 0
        assert 0 <= first.stats.evaluations + second.stats.evaluations - whole.stats.evaluations <= tried


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_restarts_are_differentiable(gradient: str) -> None:
    k = tensor(0.7)[0].requires_grad_()
    options: dict[str, Any] = {**TIGHT, "gradient": GRADIENTS[gradient]}
    first = iso.solve(lambda t, y: -k * y, tensor(1.0), (0.0, 1.0), **options)
    second = iso.solve(lambda t, y: -k * y, first.ys[-1], (1.0, 3.0), state=first.state, **options)
    (found,) = torch.autograd.grad(second.ys[-1].sum(), k)
    torch.testing.assert_close(found, -3 * torch.exp(-3 * k.detach()), rtol=1e-7, atol=0)


@pytest.mark.parametrize("method", ["adams", "bdf"])
def test_what_is_carried_has_no_history(method: str) -> None:
    """Where there is nothing to differentiate, that does not matter."""
    k = torch.ones(2, dtype=torch.float64)
    first = iso.solve(circle, k, (0.0, 1.0), method=method)
    more: dict[str, Any] = {"method": method, "state": first.state}
    plain = iso.solve(circle, first.ys[-1], (1.0, 2.0), **more)
    with torch.no_grad():
        assert torch.equal(plain.ys, iso.solve(circle, first.ys[-1], (1.0, 2.0), **more).ys)
    assert not plain.ys.requires_grad
    k.requires_grad_()
    with pytest.raises(ValueError, match="a state with gradients"):
        iso.solve(lambda t, y: k * circle(t, y), first.ys[-1], (1.0, 2.0), **more)
    with pytest.raises(ValueError, match="a state with gradients"):
        iso.solve(circle, first.ys[-1].clone().requires_grad_(), (1.0, 2.0), **more)


def test_states_that_do_not_fit_are_refused() -> None:
    y0 = tensor(1.0, 0.0)
    first = iso.solve(circle, y0, (0.0, 1.0))
    y, state = first.ys[-1], first.state

    def go_on(y: Tensor, ts: Any, message: str, **options: Any) -> None:
        with pytest.raises((ValueError, TypeError), match=message):
            iso.solve(circle, y, ts, state=options.pop("state", state), **options)

    go_on(y, (1.0, 2.0), "method 'tsit5'", method="dopri5")
    go_on(y, (1.0, 2.0), "controller", controller=iso.PID(pcoeff=0.3))
    go_on(y0, (1.0, 2.0), "go on from its last time and state")
    go_on(y, (0.5, 2.0), "go on from its last time and state")
    go_on(y, (1.0, 0.0), "other direction")
    go_on(y.float(), (1.0, 2.0), "float32")
    go_on(y, (1.0, 2.0), "state=sol.state", state=first)


@pytest.mark.parametrize("name", ["step_ts", "jump_ts"])
def test_marks_are_checked(name: str) -> None:
    for marks in (0.5, [[0.1, 0.2]], [float("nan")], ["now"]):
        with pytest.raises((ValueError, TypeError), match=r"ts|step_ts|jump_ts"):
            iso.solve(circle, tensor(1.0, 0.0), (0.0, 1.0), **{name: marks})
