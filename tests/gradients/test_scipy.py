"""Gradients of SciPy's black boxes: the paper's adjoint, by the same method or by one of ours."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import isocline as iso

from .problems import LAYOUTS, exact, gradients, leaves_of, states, worst

F64 = torch.float64
TIGHT: Any = {"rtol": 1e-9, "atol": 1e-9}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("method", ["DOP853", "LSODA", "VODE-Adams", "VODE-BDF"])
def test_every_input_in_every_layout(method: str, layout: str) -> None:
    error, where = worst(gradients(LAYOUTS[layout], method=iso.SciPy(method), **TIGHT), exact(layout))
    assert error < 1e-6, where


@pytest.mark.parametrize(("method", "tolerance"), [("RK23", 1e-5), ("RK45", 1e-6), ("Radau", 1e-6), ("BDF", 1e-5)])
def test_every_method(method: str, tolerance: float) -> None:
    looser: Any = {"rtol": 1e-7, "atol": 1e-7}
    error, where = worst(gradients(LAYOUTS["joint"], method=iso.SciPy(method), **looser), exact("joint"))
    assert error < 10 * tolerance, where


@pytest.mark.parametrize("layout", ["joint", "own-times"])
def test_one_of_ours_forwards_or_backwards(layout: str) -> None:
    case = LAYOUTS[layout]
    ours = gradients(case, method="tsit5", gradient=iso.BacksolveAdjoint(), **TIGHT)
    mixed = (
        gradients(case, method=iso.SciPy("DOP853"), gradient=iso.BacksolveAdjoint(method="tsit5"), **TIGHT),
        gradients(case, method="tsit5", gradient=iso.BacksolveAdjoint(method=iso.SciPy("DOP853")), **TIGHT),
    )
    for found in mixed:
        error, where = worst(found, ours)
        assert error < 1e-6, where


def test_closed_form_in_both_dtypes() -> None:
    for dtype, tolerance in ((torch.float32, 1e-3), (F64, 1e-6)):
        for method in ("RK45", "LSODA", "Radau", "VODE-Adams"):
            k = torch.tensor(0.7, dtype=dtype, requires_grad=True)
            y0 = torch.tensor([1.5], dtype=dtype, requires_grad=True)
            t1 = torch.tensor(2.0, dtype=F64, requires_grad=True)
            tol = 1e-5 if dtype == torch.float32 else 1e-8
            sol = iso.solve(lambda t, y, k=k: -k * y, y0, (0.0, t1), method=iso.SciPy(method), rtol=tol, atol=tol)
            sol.ys[-1].sum().backward()
            assert y0.grad is not None and k.grad is not None and t1.grad is not None
            assert y0.grad.item() == pytest.approx(math.exp(-1.4), rel=tolerance)
            assert k.grad.item() == pytest.approx(-3 * math.exp(-1.4), rel=tolerance)
            assert t1.grad.item() == pytest.approx(-0.7 * 1.5 * math.exp(-1.4), rel=tolerance)


def test_stiff() -> None:
    """Van der Pol's equation by LSODA against central differences.

    Backwards, what contracts forwards by e^-30 a unit of time grows: the states saved on the way hold it.
    """
    ts = torch.linspace(0, 1, 21, dtype=F64)

    def total(mu: Tensor) -> Tensor:
        def f(t: Tensor, y: Tensor) -> Tensor:
            x, v = y.unbind(-1)
            return torch.stack([v, mu * (1 - x**2) * v - x], dim=-1)

        y0 = torch.tensor([2.0, 0.0], dtype=F64)
        return (iso.solve(f, y0, ts, method=iso.SciPy("LSODA"), rtol=1e-10, atol=1e-10).ys * ts.unsqueeze(1)).sum()

    mu = torch.tensor(10.0, dtype=F64, requires_grad=True)
    (found,) = torch.autograd.grad(total(mu), mu)
    with torch.no_grad():
        expected = (total(mu + 1e-3) - total(mu - 1e-3)) / 2e-3
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_fields_that_know_their_rows() -> None:
    """Closed over or marked: the gradient of each row is its own."""
    y0 = torch.ones(3, 2, dtype=F64)
    found = []
    for marked in (True, False):
        rates = torch.tensor([[0.5], [1.0], [2.0]], dtype=F64, requires_grad=True)
        args: Any = (iso.PerLane(rates),) if marked else (None,)

        def f(t: Tensor, y: Tensor, k: Tensor | None, rates: Tensor = rates) -> Tensor:
            return -(rates if k is None else k) * y

        sol = iso.solve(f, y0, (0.0, 0.5, 1.0), args=args, method=iso.SciPy("RK45"), batch_dims=1, **TIGHT)
        (bar,) = torch.autograd.grad(sol.ys[-1].sum(), rates)
        found.append(bar)
        assert sol.stats.backward is not None
        assert sol.stats.backward.evaluations > 0
    expected = -2 * torch.exp(-rates.detach())
    assert (found[0] - expected).abs().max() < 1e-7
    assert (found[1] - found[0]).abs().max() < 1e-7


def test_tolerances_of_each_component() -> None:
    atol = torch.tensor([1e-9, 1e-7], dtype=F64)
    found = gradients(LAYOUTS["samples"], method=iso.SciPy("DOP853"), rtol=1e-9, atol=atol)
    error, where = worst(found, exact("samples"))
    assert error < 1e-6, where


def test_save_times_without_gradient_cost_nothing() -> None:
    def backward(count: int) -> int:
        y0 = torch.ones(2, dtype=F64, requires_grad=True)
        ts = torch.linspace(0, 1, count, dtype=F64)
        sol = iso.solve(lambda t, y: torch.sin(y + t), y0, ts, method=iso.SciPy("DOP853"))
        sol.ys[-1].sum().backward()
        assert sol.stats.backward is not None
        return sol.stats.backward.evaluations

    assert backward(11) == backward(2)


def test_lanes_that_failed() -> None:
    """The others have their gradients; what was not reached has none."""
    y0 = torch.tensor([[1.0], [-1.0]], dtype=F64, requires_grad=True)
    ts = torch.tensor([0.0, 0.5, 2.0], dtype=F64)
    sol = iso.solve(
        lambda t, y: y**2, y0, ts, method=iso.SciPy("RK45"), batch_dims=1, throw=False, rtol=1e-8, atol=1e-8
    )
    (bar,) = torch.autograd.grad(sol.ys.nan_to_num().sum(), y0)
    # y(t) = y0 / (1 - y0 t)
    expected = [1 + 1 / 0.5**2, 1 + 1 / 1.5**2 + 1 / 3**2]
    assert bar.flatten().tolist() == pytest.approx(expected, rel=1e-5)


def test_too_few_steps_backwards() -> None:
    y0 = torch.ones(2, dtype=F64, requires_grad=True)
    gradient = iso.BacksolveAdjoint(max_steps=2)
    sol = iso.solve(lambda t, y: torch.sin(9 * y + t), y0, (0.0, 5.0), method=iso.SciPy("RK45"), gradient=gradient)
    with pytest.raises(iso.SolveError, match=r"backward pass of BacksolveAdjoint, lane 0: .*MAX_STEPS"):
        sol.ys[-1].sum().backward()


def test_first_derivatives_only() -> None:
    p = leaves_of(LAYOUTS["joint"])
    loss = states(LAYOUTS["joint"], p, method=iso.SciPy("RK45")).sum()
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(loss, p["y0"], create_graph=True)
