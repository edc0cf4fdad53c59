"""Gradients that can be written down."""

import math

import pytest
import torch
from torch import Tensor

import isocline as iso
from isocline.gradients import GRADIENTS
from problems import fitting

DTYPES = {torch.float32: (1e-6, 2e-4), torch.float64: (1e-9, 1e-7)}

every_gradient = pytest.mark.parametrize("gradient", GRADIENTS.values(), ids=GRADIENTS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def leaf(value: float | list[float], dtype: torch.dtype) -> Tensor:
    return torch.tensor(value, dtype=dtype, requires_grad=True)


def close(actual: Tensor | None, expected: float | list[float], dtype: torch.dtype) -> None:
    assert actual is not None
    expected_tensor = torch.tensor(expected, dtype=actual.dtype)
    torch.testing.assert_close(actual, expected_tensor, rtol=DTYPES[dtype][1], atol=DTYPES[dtype][1])


@every_dtype
@every_gradient
def test_decay(gradient: iso.Gradient, dtype: torch.dtype) -> None:
    k, y0 = leaf(0.7, dtype), leaf([1.5], dtype)
    tol = DTYPES[dtype][0]
    sol = iso.solve(
        lambda t, y: -k * y, y0, (0.0, 2.0), rtol=tol, atol=tol, gradient=gradient, method=fitting(gradient)
    )
    sol.ys[-1].sum().backward()
    close(y0.grad, [math.exp(-1.4)], dtype)
    close(k.grad, -2 * 1.5 * math.exp(-1.4), dtype)


@every_dtype
@every_gradient
def test_every_time_of_a_field_that_depends_on_time(gradient: iso.Gradient, dtype: torch.dtype) -> None:
    # y' = cos(t) y: y(t) = y0 exp(sin t - sin t0)
    y0 = leaf([2.0], dtype)
    ts = leaf([0.3, 0.8, 1.4, 2.5], torch.float64)
    weights = [1.0, -2.0, 0.5, 3.0]
    tol = DTYPES[dtype][0]
    sol = iso.solve(
        lambda t, y: torch.cos(t) * y, y0, ts, rtol=tol, atol=tol, gradient=gradient, method=fitting(gradient)
    )
    (torch.tensor(weights, dtype=dtype) * sol.ys[:, 0]).sum().backward()
    times = ts.tolist()
    y = [2.0 * math.exp(math.sin(t) - math.sin(0.3)) for t in times]
    by_time = [w * math.cos(t) * x for w, t, x in zip(weights, times, y, strict=True)]
    by_time[0] = -math.cos(0.3) * sum(w * x for w, x in zip(weights[1:], y[1:], strict=True))
    close(ts.grad, by_time, dtype)
    close(y0.grad, [sum(w * x for w, x in zip(weights, y, strict=True)) / 2.0], dtype)


@every_dtype
@every_gradient
def test_logistic_growth_backwards_in_time(gradient: iso.Gradient, dtype: torch.dtype) -> None:
    # y' = r y (1 - y): y(t) = 1 / (1 + c exp(-r (t - t0))) with c = 1/y0 - 1
    r, y0, t1 = leaf(1.3, dtype), leaf([0.8], dtype), leaf(-1.0, torch.float64)
    tol = DTYPES[dtype][0]
    sol = iso.solve(
        lambda t, y: r * y * (1 - y), y0, (0.5, t1), rtol=tol, atol=tol, gradient=gradient, method=fitting(gradient)
    )
    sol.ys[-1].sum().backward()
    c, growth = 1 / 0.8 - 1, math.exp(1.3 * 1.5)
    y = 1 / (1 + c * growth)
    close(y0.grad, [y**2 * growth / 0.8**2], dtype)
    close(r.grad, -(y**2) * c * growth * 1.5, dtype)
    close(t1.grad, 1.3 * y * (1 - y), dtype)


@every_gradient
def test_rotation_of_each_sample_to_its_own_end(gradient: iso.Gradient) -> None:
    # y' = w J y turns by w t; the loss looks along x.
    w = leaf([0.5, 1.0, -2.0], torch.float64)
    end = leaf([1.0, 3.0, -0.7], torch.float64)
    start = torch.tensor([[1.0, 0.0]], dtype=torch.float64).repeat(3, 1)

    def f(t: Tensor, y: Tensor) -> Tensor:
        return w.unsqueeze(1) * torch.stack([-y[:, 1], y[:, 0]], dim=1)

    sol = iso.solve(
        f, start, (0.0, end), batch_dims=1, rtol=1e-9, atol=1e-9, gradient=gradient, method=fitting(gradient)
    )
    sol.ys[-1, :, 0].sum().backward()
    angles = [0.5, 3.0, 1.4]
    close(w.grad, [-math.sin(a) * t for a, t in zip(angles, end.tolist(), strict=True)], torch.float64)
    close(end.grad, [-math.sin(a) * v for a, v in zip(angles, w.tolist(), strict=True)], torch.float64)


@every_gradient
def test_a_loss_on_the_first_state_alone(gradient: iso.Gradient) -> None:
    y0, k, ts = leaf([1.5], torch.float64), leaf(0.7, torch.float64), leaf([0.0, 1.0, 2.0], torch.float64)
    sol = iso.solve(lambda t, y: -k * y, y0, ts, gradient=gradient, method=fitting(gradient))
    by_y0, by_k, by_ts = torch.autograd.grad(sol.ys[0].sum(), (y0, k, ts), materialize_grads=True)
    assert by_y0.tolist() == [1.0]
    assert by_k.item() == 0.0
    close(by_ts, [0.0, 0.0, 0.0], torch.float64)
