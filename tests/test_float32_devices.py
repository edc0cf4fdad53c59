"""Devices without float64, such as mps: no tensor of that kind is ever made there.

None is at hand, so the CPU stands for one: every operation that gives float64 tensors raises.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import isocline as iso
from isocline import numbers
from isocline.gradients import GRADIENTS
from problems import ANY_STATE, fitting


class OnlyFloat32(TorchDispatchMode):
    """Refuses float64, but for the numbers without dimensions that torch makes of Python's on the host."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(x, Tensor) and x.dtype in (torch.float64, torch.complex128):
                asked = (kwargs or {}).get("dtype") is not None or "lift" in str(func)
                assert not (x.ndim or asked), f"{func} made a tensor of float64, shape {tuple(x.shape)}"
        return result


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(numbers, "WITHOUT_FLOAT64", {"cpu"})
    with OnlyFloat32():
        yield


LAYOUTS = {"joint": 0, "per sample": 1}
every_layout = pytest.mark.parametrize("batch_dims", LAYOUTS.values(), ids=LAYOUTS)
every_gradient = pytest.mark.parametrize("gradient", GRADIENTS.values(), ids=GRADIENTS)


def test_the_simulation_notices() -> None:
    with pytest.raises(AssertionError, match="float64"):
        torch.zeros(2).double()
    with pytest.raises(AssertionError, match="float64"):
        torch.tensor(1.0, dtype=torch.float64)
    with pytest.raises(AssertionError, match="float64"):
        torch.zeros((), dtype=torch.float64)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        out: Tensor = self.layers(y) * torch.cos(t) - y
        return out


def times(batch_dims: int) -> Tensor:
    ts = torch.tensor([0.0, 0.3, 0.9, 1.4])
    return ts.unsqueeze(1) * torch.tensor([1.0, 0.5, 2.0]) if batch_dims else ts


@every_layout
@every_gradient
def test_gradients(gradient: iso.Gradient, batch_dims: int) -> None:
    net, y0 = Net(), torch.randn(3, 2).requires_grad_()
    ts = times(batch_dims).requires_grad_()
    sol = iso.solve(net, y0, ts, batch_dims=batch_dims, gradient=gradient, method=fitting(gradient))
    assert sol.ts.dtype == torch.float32
    assert sol.success.all()
    found = torch.autograd.grad(sol.ys.square().sum(), (y0, ts, *net.parameters()))
    assert all(x.dtype == torch.float32 and x.isfinite().all() for x in found)


@every_layout
def test_dense_output(batch_dims: int) -> None:
    y0 = torch.ones(3, 2)
    sol = iso.solve(lambda t, y: -y, y0, (0.0, 1.0), batch_dims=batch_dims, dense=True)
    at = torch.linspace(0, 1, 5)
    torch.testing.assert_close(sol(at)[:, 0, 0], (-at).exp(), rtol=1e-4, atol=1e-4)
    assert sol(0.5).dtype == torch.float32


@every_layout
@every_gradient
def test_events(gradient: iso.Gradient, batch_dims: int) -> None:
    y0 = torch.tensor([[1.0, 0.0], [2.0, 0.5], [0.5, 0.0]]).requires_grad_()
    floor = iso.Event(lambda t, y: y[:, 0] if batch_dims else y[:, 0].amin(), direction=-1)
    f = lambda t, y: torch.stack([y[:, 1], torch.full_like(y[:, 1], -9.81)], dim=1)  # noqa: E731
    options: Any = {"gradient": gradient, "method": fitting(gradient), "batch_dims": batch_dims}
    sol = iso.solve(f, y0, (0.0, 10.0), event=floor, jump_ts=[0.1], **options)
    assert sol.event_t.dtype == torch.float32
    assert torch.autograd.grad(sol.event_t.sum(), y0)[0].isfinite().all()


@every_layout
@pytest.mark.parametrize("method", ANY_STATE)
def test_methods(method: str, batch_dims: int) -> None:
    solver = iso.METHODS[method]
    controller = iso.FixedStep(0.1) if solver.error_order is None else iso.PID(rtol=1e-3, atol=1e-3)
    y0 = torch.randn(3, 2).requires_grad_()
    ts = times(batch_dims)
    sol = iso.solve(lambda t, y: -y * torch.cos(t), y0, ts, method=solver, controller=controller, batch_dims=batch_dims)
    assert torch.autograd.grad(sol.ys.sum(), y0)[0].isfinite().all()


def test_tolerances_steps_and_controls() -> None:
    u = iso.LinearInterpolation([0.0, 0.5, 1.0], torch.tensor([0.0, 1.0, 0.0]))
    options: Any = {"rtol": torch.tensor([1e-3, 1e-4]), "atol": 1e-5, "step_ts": [0.25]}
    sol = iso.solve(lambda t, y: u(t) - y, torch.ones(2), (0.0, 1.0), **options)
    assert sol.success
    again = iso.solve(lambda t, y: u(t) - y, sol.ys[-1], (1.0, 0.5), rtol=1e-3)
    assert again.success
