"""Lanes that fail must not spoil the gradients of those that arrive."""

from typing import Any

import pytest
import torch
from torch import Tensor

import isocline as iso
from isocline.gradients import GRADIENTS
from problems import fitting

METHODS = {**GRADIENTS, "checkpoint-3": iso.RecursiveCheckpointAdjoint(3)}
every_gradient = pytest.mark.parametrize("gradient", METHODS.values(), ids=METHODS)

HEALTHY = [0, 2, 4]
START = torch.tensor([[0.3], [5.0], [-0.4], [2.0], [0.1]], dtype=torch.float64)


def grads(y0: Tensor, keep: list[int], gradient: iso.Gradient, **settings: Any) -> tuple[Tensor, ...]:
    """Of y' = p (1 + y^2), a tangent: the large initial states blow up before the end."""
    p = torch.tensor(0.9, dtype=torch.float64, requires_grad=True)
    y0 = y0.clone().requires_grad_()
    ts = torch.tensor([0.0, 0.2, 0.6, 1.0], dtype=torch.float64, requires_grad=True)
    settings = {"batch_dims": 1, "throw": False, "rtol": 1e-5, "atol": 1e-5, "method": fitting(gradient), **settings}
    sol = iso.solve(lambda t, y: p * (1 + y**2), y0, ts, gradient=gradient, **settings)
    assert sol.success[keep].all()
    assert sol.success.sum() == len(keep)
    loss = sol.ys[:, keep].square().sum()
    by_y0, by_p, by_ts = torch.autograd.grad(loss, (y0, p, ts))
    return by_y0[keep], by_p, by_ts, by_y0


@every_gradient
def test_blow_up(gradient: iso.Gradient) -> None:
    *found, by_y0 = grads(START, HEALTHY, gradient)
    *expected, _ = grads(START[HEALTHY], [0, 1, 2], gradient)
    assert by_y0[[1, 3]].eq(0).all()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@every_gradient
def test_blow_up_with_fixed_steps(gradient: iso.Gradient) -> None:
    # In the last step of a reversible form of rk4 f's derivative overflows: every gradient is nan then.
    method = "rk4" if gradient.suits(iso.METHODS["rk4"]) else iso.Reversible("euler")
    settings = {"method": method, "controller": iso.FixedStep(0.02), "rtol": None, "atol": None}
    start = START * torch.tensor([[1.0], [1e3], [1.0], [1e3], [1.0]])
    *found, by_y0 = grads(start, HEALTHY, gradient, **settings)
    *expected, _ = grads(start[HEALTHY], [0, 1, 2], gradient, **settings)
    assert by_y0[[1, 3]].eq(0).all()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@every_gradient
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_lane_that_starts_out_broken(gradient: iso.Gradient, bad: float) -> None:
    start = torch.tensor([[0.3], [bad], [-0.4]], dtype=torch.float64)
    *found, by_y0 = grads(start, [0, 2], gradient)
    *expected, _ = grads(start[[0, 2]], [0, 1], gradient)
    assert by_y0[1].eq(0).all()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@every_gradient
def test_a_mean_that_skips_nan(gradient: iso.Gradient) -> None:
    p = torch.tensor(0.9, dtype=torch.float64, requires_grad=True)
    sol = iso.solve(
        lambda t, y: p * (1 + y**2),
        START,
        (0.0, 0.5, 1.0),
        batch_dims=1,
        throw=False,
        max_steps=40,
        gradient=gradient,
        method=fitting(gradient),
    )
    assert sol.success.tolist() == [True, False, True, False, True]
    torch.autograd.backward(sol.ys[-1].nanmean())
    assert p.grad is not None
    assert p.grad.isfinite()
    assert p.grad > 0


@every_gradient
@pytest.mark.parametrize("batch_dims", [0, 1])
def test_overflow_in_rejected_attempts(gradient: iso.Gradient, batch_dims: int) -> None:
    """A first step far too large makes exp overflow; the attempt is rejected, and must leave no nan behind."""

    def by(dt0: float) -> tuple[Tensor, ...]:
        p = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
        y0 = torch.tensor([[1.0], [0.5]], dtype=torch.float64, requires_grad=True)
        overflows = []

        def f(t: Tensor, y: Tensor) -> Tensor:
            dy = -p * torch.sinh(8 * y)
            overflows.append(not dy.isfinite().all())
            return dy

        controller = iso.PID(rtol=1e-6, atol=1e-6, dt0=dt0)
        # So much is lost on the way to the end that a coupling near 1 would leave the two trajectories apart.
        method = "tsit5" if gradient.suits(iso.METHODS["tsit5"]) else iso.Reversible("tsit5", coupling=0.5)
        settings = {"controller": controller, "batch_dims": batch_dims, "method": method}
        sol = iso.solve(f, y0, (0.0, 0.1), gradient=gradient, **settings)
        assert any(overflows) == (dt0 == 0.1)
        return torch.autograd.grad(sol.ys[-1].sum(), (p, y0))

    torch.testing.assert_close(by(0.1), by(1e-6), rtol=1e-3, atol=1e-6)


@every_gradient
@pytest.mark.parametrize("method", ["euler", "rk4", "tsit5"])
def test_a_lane_that_leaves_the_domain_of_the_field(gradient: iso.Gradient, method: str) -> None:
    """With y' = -p sqrt(y) the smaller states get below zero, where f is nan for the rest of the solve."""

    def by(start: Tensor, success: list[bool]) -> tuple[Tensor, Tensor]:
        p = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
        y0 = start.clone().requires_grad_()
        sol = iso.solve(
            lambda t, y: -p * y.sqrt(),
            y0,
            (0.0, 1.0),
            method=fitting(gradient, method),
            controller=iso.FixedStep(0.07),
            batch_dims=1,
            throw=False,
            gradient=gradient,
        )
        assert sol.success.tolist() == success
        by_p, by_y0 = torch.autograd.grad(sol.ys[-1][sol.success].sum(), (p, y0))
        return by_p, by_y0[sol.success]

    start = torch.tensor([[1.0], [0.02], [-0.3], [2.0]], dtype=torch.float64)
    found = by(start, [True, False, False, True])
    torch.testing.assert_close(found, by(start[[0, 3]], [True, True]), rtol=1e-9, atol=1e-9)


@every_gradient
def test_a_sum_over_states_that_were_not_reached(gradient: iso.Gradient) -> None:
    """The loss is nan, but its slope along the healthy lanes is not."""
    p = torch.tensor(0.9, dtype=torch.float64, requires_grad=True)
    y0 = START.clone().requires_grad_()
    settings = {"batch_dims": 1, "throw": False, "max_steps": 40, "method": fitting(gradient)}
    sol = iso.solve(lambda t, y: p * (1 + y**2), y0, (0.0, 1.0), gradient=gradient, **settings)
    by_p, by_y0 = torch.autograd.grad(sol.ys[-1].sum(), (p, y0))
    angle = START[HEALTHY].atan() + 0.9
    torch.testing.assert_close(by_y0[HEALTHY], angle.cos() ** -2 / (1 + START[HEALTHY] ** 2), rtol=1e-3, atol=0.0)
    torch.testing.assert_close(by_p, (angle.cos() ** -2).sum(), rtol=1e-3, atol=0.0)


@every_gradient
def test_states_reached_before_a_lane_failed(gradient: iso.Gradient) -> None:
    y0 = START[3:].clone().requires_grad_()  # y0 = 2 blows up at t = 0.46
    settings = {
        "batch_dims": 1,
        "throw": False,
        "rtol": 1e-8,
        "atol": 1e-8,
        "max_steps": 60,
        "method": fitting(gradient),
    }
    sol = iso.solve(lambda t, y: 1 + y**2, y0, (0.0, 0.2, 1.0), gradient=gradient, **settings)
    assert sol.success.tolist() == [False, True]
    (by_y0,) = torch.autograd.grad(sol.ys[1].sum(), y0)
    expected = (START[3:].atan() + 0.2).cos() ** -2 / (1 + START[3:] ** 2)
    torch.testing.assert_close(by_y0, expected, rtol=1e-5, atol=0.0)


@every_gradient
def test_the_initial_state_of_a_lane_that_fails_at_once(gradient: iso.Gradient) -> None:
    """It was saved, so the loss may use it: once."""
    y0 = torch.tensor([[2.0], [-0.5]], dtype=torch.float64, requires_grad=True)
    settings = {"batch_dims": 1, "throw": False, "method": fitting(gradient)}
    sol = iso.solve(lambda t, y: y.log(), y0, (0.0, 0.3, 0.4), gradient=gradient, **settings)
    assert sol.success.tolist() == [True, False]
    (found,) = torch.autograd.grad((3.0 * sol.ys[0]).sum(), y0)
    assert found.tolist() == [[3.0], [3.0]]
