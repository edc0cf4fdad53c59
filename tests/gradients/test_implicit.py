"""Gradients of implicit methods: by the implicit function theorem, at the solutions of their equations."""

from typing import Any

import pytest
import torch
from torch import Tensor

import isocline as iso
from isocline.tableaus import IMPLICIT

F64 = torch.float64
EXACT = {"direct": iso.DirectAdjoint(), "checkpoint": iso.RecursiveCheckpointAdjoint(3)}


def robertson(t: Tensor, y: Tensor, k: Tensor) -> Tensor:
    a, b, c = y.unbind(-1)
    slow, fast = k[..., 0] * a - k[..., 1] * b * c, k[..., 2] * b**2
    return torch.stack([-slow, slow - fast, fast], dim=-1)


@pytest.mark.parametrize("gradient", EXACT.values(), ids=EXACT)
@pytest.mark.parametrize("batch_dims", [0, 1])
def test_rate_constants_of_robertson(gradient: iso.Gradient, batch_dims: int) -> None:
    """Against differences of the solution, at tighter tolerances."""
    y0 = torch.tensor([[1.0, 0.0, 0.0]], dtype=F64).expand(2 if batch_dims else 1, 3)
    y0 = y0 if batch_dims else y0[0]
    settings: Any = {"method": "kvaerno5", "batch_dims": batch_dims, "rtol": 1e-8, "atol": 1e-13}
    logs = torch.tensor([0.04, 1e4, 3e7], dtype=F64).log()

    def end(logs: Tensor) -> Tensor:
        return (
            iso.solve(robertson, y0, (0.0, 40.0), args=(logs.exp(),), gradient=gradient, **settings)
            .ys[-1]
            .sum(dim=tuple(range(batch_dims)))[0]
        )

    logs.requires_grad_()
    (found,) = torch.autograd.grad(end(logs), logs)
    with torch.no_grad():
        shifts = 1e-3 * torch.eye(3, dtype=F64)
        expected = torch.stack([(end(logs + s) - end(logs - s)) / 2e-3 for s in shifts])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0.0)


def split(p: Tensor) -> iso.Split:
    q = 2 * p  # computed outside: a checkpoint's backward pass needs a stand-in for it
    return iso.Split(lambda t, y: torch.sin(q * t) * y.flip(-1), lambda t, y: -torch.exp(p) * y * (1 + y**2))


@pytest.mark.parametrize("gradient", EXACT.values(), ids=EXACT)
@pytest.mark.parametrize("linear_solver", ["lu", "gmres"])
@pytest.mark.parametrize("batch_dims", [0, 1])
def test_fields_in_two_parts(gradient: iso.Gradient, linear_solver: str, batch_dims: int) -> None:
    y0 = torch.tensor([[0.7, -0.4], [0.2, 0.5]], dtype=F64, requires_grad=True)
    p = torch.tensor([1.0, 0.3], dtype=F64, requires_grad=True)
    t1 = torch.tensor(0.9, dtype=F64, requires_grad=True)
    method = iso.ESDIRK(IMPLICIT["kencarp4"], linear_solver=linear_solver)

    def end(y0: Tensor, p: Tensor, t1: Tensor) -> Tensor:
        times = torch.stack([torch.zeros((), dtype=F64), 0.37 * t1, t1])
        step = iso.FixedStep(0.1)
        settings: Any = {"method": method, "controller": step, "gradient": gradient, "batch_dims": batch_dims}
        return iso.solve(split(p), y0, times, **settings).ys

    inputs = (y0, p, t1)
    weight = torch.linspace(-1, 1, 12, dtype=F64).reshape(3, 2, 2)
    found = torch.autograd.grad((weight * end(*inputs)).sum(), inputs)
    for i, bar in enumerate(found):
        direction = torch.linspace(0.5, 1.5, bar.numel(), dtype=F64).reshape(bar.shape)
        with torch.no_grad():
            up, down = (
                (weight * end(*(x + sign * 1e-5 * direction if i == j else x for j, x in enumerate(inputs)))).sum()
                for sign in (1, -1)
            )
        torch.testing.assert_close((bar * direction).sum(), (up - down) / 2e-5, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("method", IMPLICIT)
def test_second_derivatives_are_refused(method: str) -> None:
    y0 = torch.ones(2, dtype=F64, requires_grad=True)
    y1 = iso.solve(lambda t, y: -(y**2), y0, (0.0, 1.0), method=method, controller=iso.FixedStep(0.5)).ys[-1]
    with pytest.raises(RuntimeError, match=r"first derivatives only, but create_graph=True"):
        torch.autograd.grad(y1.sum(), y0, create_graph=True)


def test_parameters_that_matter_only_later() -> None:
    """Nothing depends on k at the start; its gradient is not lost."""
    k = torch.tensor(0.7, dtype=F64, requires_grad=True)
    y0 = torch.ones(1, dtype=F64)
    sol = iso.solve(lambda t, y: -k * y if t > 0.5 else -y, y0, (0.0, 1.0), method="kvaerno3", rtol=1e-8, atol=1e-8)
    (bar,) = torch.autograd.grad(sol.ys[-1].sum(), k)
    assert bar.item() == pytest.approx(-0.5 * torch.tensor(-0.85).exp().item(), rel=1e-4)


def test_backsolve_needs_another_method() -> None:
    y0 = torch.ones(2, dtype=F64, requires_grad=True)
    with pytest.raises(ValueError, match=r"RecursiveCheckpointAdjoint.*BacksolveAdjoint\(method='tsit5'\)"):
        iso.solve(lambda t, y: -y, y0, (0.0, 1.0), method="kvaerno5", gradient=iso.BacksolveAdjoint())
    explicit = iso.BacksolveAdjoint(method="tsit5", rtol=1e-8, atol=1e-8)
    sol = iso.solve(lambda t, y: -y, y0, (0.0, 1.0), method="kvaerno5", gradient=explicit)
    (bar,) = torch.autograd.grad(sol.ys[-1].sum(), y0)
    assert bar.tolist() == pytest.approx([torch.tensor(-1.0).exp().item()] * 2, rel=1e-5)
