"""Gradients through the interpolant, ``sol(t)``."""

import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

import isocline as iso

from .problems import LAYOUTS, Inputs, bind, covering, draw, join, leaves_of, split, worst

CHECKPOINTS = {"checkpoint": None, "checkpoint-1": 1, "checkpoint-2": 2, "checkpoint-5": 5}
QUERIES = torch.tensor([0.2, 0.45, 0.5, 0.93, 1.0], dtype=torch.float64)


def dense_gradients(layout: str, **settings: Any) -> Inputs:
    """Gradients of a loss on saved states and on states looked up between them."""
    case = LAYOUTS[layout]
    p = leaves_of(case)
    y0 = split(p["y0"]) if case.nested else p["y0"]
    sol = iso.solve(
        bind(p, case.nested),
        y0,
        p["ts"],
        args=({"k": [p["arg"]]},),
        batch_dims=case.batch_dims,
        dense=True,
        **settings,
    )
    share = QUERIES.reshape(-1, *[1] * (case.ts.ndim - 1)).requires_grad_()
    times = torch.lerp(case.ts[0], case.ts[-1], share)
    looked_up, saved = sol(times), sol.ys
    if case.nested:
        looked_up, saved = join(looked_up), join(saved)
    loss = (draw(5, 3, 2, seed=30) * looked_up).sum() + (case.weights() * saved).sum()
    inputs = {**p, "query": share}
    return dict(zip(inputs, torch.autograd.grad(loss, list(inputs.values())), strict=True))


@pytest.mark.parametrize(
    ("method", "layout", "budget"),
    covering(product(["heun", "rk4", "bosh3", "dopri5", "tsit5", "dop853", "rodas5p"], LAYOUTS), CHECKPOINTS),
)
def test_checkpointing_is_direct_to_rounding(method: str, layout: str, budget: str) -> None:
    adaptive = method != "rk4"
    controller = iso.PID(rtol=1e-3, atol=1e-3) if adaptive else iso.FixedStep(0.13)
    settings = {"method": method, "controller": controller}
    direct = dense_gradients(layout, gradient=iso.DirectAdjoint(), **settings)
    checkpointed = dense_gradients(layout, gradient=iso.RecursiveCheckpointAdjoint(CHECKPOINTS[budget]), **settings)
    assert all(grad.abs().max() > 1e-3 for grad in direct.values())
    error, where = worst(checkpointed, direct)
    assert error < 1e-10, where


EXACT = pytest.mark.parametrize("gradient", [iso.DirectAdjoint(), iso.RecursiveCheckpointAdjoint(3)])


@EXACT
def test_closed_form(gradient: iso.Gradient) -> None:
    # y' = k cos(t) y: y(t) = y0 exp(k (sin t - sin t0))
    values = {"k": 0.8, "y0": 1.5, "t0": 0.2, "t1": 2.0, "t": 1.3}
    k, y0, t0, t1, t = inputs = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in values.values()]
    sol = iso.solve(
        lambda t, y: k * torch.cos(t) * y,
        y0,
        (t0, t1),
        dense=True,
        rtol=1e-10,
        atol=1e-10,
        gradient=gradient,
    )
    by_k, by_y0, by_t0, by_t1, by_t = torch.autograd.grad(sol(t), inputs)
    lag = math.sin(1.3) - math.sin(0.2)
    y = 1.5 * math.exp(0.8 * lag)
    expected = [lag * y, y / 1.5, -0.8 * math.cos(0.2) * y, 0.0, 0.8 * math.cos(1.3) * y]
    actual = torch.stack([by_k, by_y0, by_t0, by_t1, by_t])
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-6)


@EXACT
def test_looking_up_a_saved_time_is_the_saved_state(gradient: iso.Gradient) -> None:
    def by_y0(looked_up: bool) -> Tensor:
        y0 = draw(3, seed=1).requires_grad_()
        sol = iso.solve(lambda t, y: torch.sin(y) + t, y0, (0.0, 0.37, 1.0), dense=True, gradient=gradient)
        ys = sol(sol.ts) if looked_up else sol.ys
        return torch.autograd.grad((draw(3, 3, seed=2) * ys).sum(), y0)[0]

    torch.testing.assert_close(by_y0(True), by_y0(False), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("make", [iso.BacksolveAdjoint, iso.InterpolatingAdjoint, iso.GaussAdjoint])
def test_continuous_adjoints_have_no_dense_output_to_differentiate(make: Any) -> None:
    y0 = torch.ones(1, requires_grad=True)
    settings = {"dense": True, "gradient": make()}
    with pytest.raises(ValueError, match=rf"{make.__name__}.*RecursiveCheckpointAdjoint.*no_grad"):
        iso.solve(lambda t, y: -y, y0, (0.0, 1.0), **settings)
    with torch.no_grad():
        sol = iso.solve(lambda t, y: -y, y0, (0.0, 1.0), **settings)
    assert sol(0.5).item() == pytest.approx(math.exp(-0.5), rel=1e-3)
