"""Controls in compiled solves."""

import pytest
import torch

import isocline as iso

from .problems import draw

pytestmark = [
    pytest.mark.usefixtures("graphs_only"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]


def test_a_control_that_f_closes_over() -> None:
    ts = torch.linspace(0, 2, 9, dtype=torch.float64)
    found = []
    for compiled in (False, True):
        us = draw(9, 2, seed=1).requires_grad_()
        u = iso.CubicHermite(ts, us)
        y0 = torch.zeros(2, dtype=torch.float64)
        sol = iso.solve(
            lambda t, y, u=u: u(t) + u.derivative(t) - y,
            y0,
            (0.0, 2.0),
            method="rk4",
            controller=iso.FixedStep(0.1),  # at kinks rounding decides about adaptive steps
            compile=compiled,
        )
        found.append((sol.ys[-1], *torch.autograd.grad(sol.ys[-1].sum(), us)))
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-9)


def test_a_control_for_each_sample() -> None:
    ts = torch.rand(5, 3, dtype=torch.float64).cumsum(0)
    u = iso.LinearInterpolation(ts, draw(5, 3, 2, seed=1), batch_dims=1)
    eager, compiled = (
        iso.solve(
            lambda t, y, u: u(t) - y,
            torch.zeros(3, 2, dtype=torch.float64),
            (ts[0], ts[-1]),
            args=(iso.PerLane(u),),
            method="rk4",
            controller=iso.FixedStep(0.1),
            batch_dims=1,
            compile=compiled,
        )
        for compiled in (False, True)
    )
    torch.testing.assert_close(compiled.ys, eager.ys, rtol=1e-9, atol=1e-9)
