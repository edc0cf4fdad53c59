"""Gradients by undoing the steps."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import isocline as iso
from isocline.compiled import evaluates_at_start
from isocline.solvers.base import Invertible

F64 = torch.float64
SOLVERS: dict[str, Invertible] = {
    "reversible_heun": iso.METHODS["reversible_heun"],  # type: ignore[dict-item]
    "Reversible(rk4)": iso.Reversible("rk4"),
    "Reversible(tsit5)": iso.Reversible("tsit5"),
}
solvers = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
checkpoints = pytest.mark.parametrize("checkpoints", [1, 4])


def turning(t: Tensor, y: Tensor, k: Tensor) -> Tensor:
    return torch.stack([y[..., 1], -k * y[..., 0].sin()], dim=-1) * (1 + 0.3 * torch.sin(t))


def by(gradient: iso.Gradient, f: Callable[..., Tensor] = turning, **settings: Any) -> tuple[Tensor, ...]:
    """Gradients of a loss on all that a solve gives: saved states, and events where there are any."""
    y0 = torch.tensor([[1.0, 0.2], [0.7, -0.4], [-0.3, 0.9]], dtype=F64).requires_grad_()
    ts = torch.tensor([0.0, 0.3, 1.1, 2.0], dtype=F64).requires_grad_()
    k = torch.tensor(1.7, dtype=F64).requires_grad_()
    sol = iso.solve(f, y0, ts, args=(k,), gradient=gradient, **settings)
    total = (sol.ys.nan_to_num() * torch.cos(torch.arange(24, dtype=F64).reshape(4, 3, 2))).sum()
    if sol.event_t is not None:
        total = total + sol.event_t.nan_to_num().sum() + sol.event_y.nan_to_num().square().sum()
    return torch.autograd.grad(total, (y0, ts, k))


@solvers
@checkpoints
@pytest.mark.parametrize("jump_ts", [None, [0.8]], ids=["plain", "break"])
@pytest.mark.parametrize("batch_dims", [0, 1])
def test_breaks(solver: Invertible, batch_dims: int, jump_ts: Any, checkpoints: int) -> None:
    settings: dict[str, Any] = {"method": solver, "jump_ts": jump_ts, "batch_dims": batch_dims}
    settings["controller"] = iso.FixedStep(0.07)
    found = by(iso.ReversibleAdjoint(checkpoints), **settings)
    assert_close(found, by(iso.DirectAdjoint(), **settings), rtol=1e-11, atol=1e-11)


@solvers
def test_events(solver: Invertible) -> None:
    push = iso.Event(lambda t, y, k: y[..., 0] - 0.5, jump=lambda t, y, k: -0.5 * y)
    settings: dict[str, Any] = {"method": solver, "event": [push, lambda t, y, *_: y[..., 1] + 0.6], "batch_dims": 1}
    settings["controller"] = iso.FixedStep(0.05)
    found = by(iso.ReversibleAdjoint(), **settings)
    assert_close(found, by(iso.DirectAdjoint(), **settings), rtol=1e-10, atol=1e-10)


@solvers
@checkpoints
@pytest.mark.parametrize("save", [0, 5])
def test_what_it_costs(solver: Invertible, checkpoints: int, save: int) -> None:
    """Each step is undone, and taken again."""
    k = torch.tensor(1.7, dtype=F64, requires_grad=True)
    ts = torch.linspace(0, 3, 2 + save, dtype=F64)
    y0 = torch.ones(2, dtype=F64)
    settings: dict[str, Any] = {"method": solver, "controller": iso.FixedStep(0.3)}
    sol = iso.solve(turning, y0, ts, args=(k,), gradient=iso.ReversibleAdjoint(checkpoints), **settings)
    sol.ys.sum().backward()
    backward = sol.stats.backward
    assert backward.evaluations == 2 * 10 * solver.evaluations + evaluates_at_start(solver, y0.unsqueeze(0))
    assert (backward.steps, backward.rejected) == (20, 0)


def damped(t: Tensor, y: Tensor, k: Tensor) -> Tensor:
    return -20 * k * (y - torch.cos(t))


def test_where_undoing_is_unstable_checkpoints_help() -> None:
    settings: dict[str, Any] = {"method": iso.Reversible("rk4"), "controller": iso.FixedStep(0.02)}
    direct = by(iso.DirectAdjoint(), damped, **settings)
    assert_close(by(iso.ReversibleAdjoint(16), damped, **settings), direct, rtol=1e-9, atol=1e-9)
    with pytest.raises(RuntimeError, match=r"undoing the steps back to step 0 of 100 lost.*Reversible.*Checkpoint"):
        by(iso.ReversibleAdjoint(1), damped, **settings)


@pytest.mark.parametrize("batch_dims", [0, 1])
def test_a_field_that_gives_something_else_each_time_is_found_out(batch_dims: int) -> None:
    generator = torch.Generator().manual_seed(0)

    def noisy(t: Tensor, y: Tensor, k: Tensor) -> Tensor:
        return k * y * torch.rand((), generator=generator, dtype=F64)

    settings: dict[str, Any] = {"method": iso.Reversible("euler"), "controller": iso.FixedStep(0.2)}
    with pytest.raises(RuntimeError, match="digits in 3 of 3 lanes" if batch_dims else "digits in 1 of 1 lanes"):
        by(iso.ReversibleAdjoint(), noisy, batch_dims=batch_dims, **settings)


def test_a_splitting_method_of_a_field_that_does_not_split_is_found_out() -> None:
    y0 = torch.ones(1, dtype=F64, requires_grad=True), torch.zeros(1, dtype=F64)
    settings: dict[str, Any] = {"method": "leapfrog", "controller": iso.FixedStep(0.1)}
    sol = iso.solve(lambda t, y: (y[1], -y[0] - y[1]), y0, (0.0, 1.0), gradient=iso.ReversibleAdjoint(), **settings)
    with pytest.raises(RuntimeError, match="lost more than half"):
        sol.ys[0].sum().backward()


def test_lanes_that_are_not_lost_are_no_reason_to_refuse() -> None:
    """A lane that stands still at zero has nothing to lose, and one that never began nothing to keep."""
    y0 = torch.tensor([[0.0], [float("nan")], [1.0]], dtype=F64, requires_grad=True)
    settings: dict[str, Any] = {"method": "reversible_heun", "batch_dims": 1, "throw": False}
    settings["controller"] = iso.FixedStep(0.02)
    sol = iso.solve(lambda t, y: -y, y0, (0.0, 1.0), gradient=iso.ReversibleAdjoint(2), **settings)
    (found,) = torch.autograd.grad(sol.ys[-1, [0, 2]].sum(), y0)
    assert_close(found[[0, 2]], torch.full((2, 1), -1.0, dtype=F64).exp(), rtol=1e-3, atol=0.0)


def test_other_methods_are_refused_at_once() -> None:
    y0 = torch.ones(2, requires_grad=True)
    settings: dict[str, Any] = {"method": "tsit5", "gradient": iso.ReversibleAdjoint()}
    with pytest.raises(
        ValueError, match=r"'tsit5'; write method=isocline.Reversible\('tsit5'\) or .*'reversible_heun'"
    ):
        iso.solve(lambda t, y: -y, y0, (0.0, 1.0), **settings)
    with torch.no_grad():  # nothing is differentiated
        assert iso.solve(lambda t, y: -y, y0, (0.0, 1.0), **settings).success
    with pytest.raises(ValueError, match="checkpoints must be a whole number >= 1"):
        iso.ReversibleAdjoint(0)


STEPS = 10_000
LONG: dict[str, tuple[Any, iso.Gradient]] = {
    "reversible_heun": ("reversible_heun", iso.ReversibleAdjoint()),
    "Reversible(rk4)": (iso.Reversible("rk4"), iso.ReversibleAdjoint()),
    "checkpoint": ("euler", iso.RecursiveCheckpointAdjoint()),
    "checkpoint of 100": ("euler", iso.RecursiveCheckpointAdjoint(100)),
}


@pytest.mark.long
@pytest.mark.parametrize("name", LONG)
def test_ten_thousand_steps(name: str) -> None:
    """Some turns around a centre: nothing contracts, so there is a gradient of more than rounding errors to compare."""
    method, gradient = LONG[name]

    def gradients(gradient: iso.Gradient) -> tuple[Tensor, ...]:
        y0, k = torch.tensor([0.4, 2.1], dtype=F64).requires_grad_(), torch.tensor(1.2, dtype=F64).requires_grad_()
        settings: dict[str, Any] = {"method": method, "controller": iso.FixedStep(20 / STEPS), "gradient": gradient}
        sol = iso.solve(lambda t, y: (k * y.flip(0)).sin(), y0, (0.0, 20.0), **settings)
        assert sol.stats.steps == STEPS
        return torch.autograd.grad(sol.ys[-1].sum(), (y0, k))

    for found, direct in zip(gradients(gradient), gradients(iso.DirectAdjoint()), strict=True):
        assert direct.abs().max() > 1
        assert (found - direct).abs().max() < 1e-6 * direct.abs().max()
