"""The same answers on a GPU, and no more waiting for it than once a step."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import isocline as iso
from isocline.gradients import GRADIENTS
from problems import fitting

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

AROUND = 6
"""Reads that a solve may make besides those of its steps."""

LAYOUTS = {"joint": 0, "per sample": 1}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 3)).double()

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.layers(y) - 2 * y * (1 + torch.sin(5 * t))


def gradients(device: str, **options: Any) -> list[Tensor]:
    f = Net().to(device)
    y0 = torch.linspace(-2, 2, 12, dtype=torch.float64, device=device).reshape(4, 3).requires_grad_()
    ts = torch.linspace(0, 1, 5, dtype=torch.float64, device=device)
    sol = iso.solve(f, y0, ts, rtol=1e-8, atol=1e-8, **options)
    sol.ys.square().sum().backward()
    return [sol.ys.detach().cpu(), *(x.grad.cpu() for x in (y0, *f.parameters()))]


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("batch_dims", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("gradient", GRADIENTS.values(), ids=GRADIENTS)
def test_as_on_the_cpu(gradient: iso.Gradient, batch_dims: int, compiled: bool) -> None:
    options = {"gradient": gradient, "batch_dims": batch_dims, "method": fitting(gradient)}
    expected = gradients("cpu", **options)
    for found, right in zip(gradients("cuda", compile=compiled, **options), expected, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-6, atol=1e-7)


@contextmanager
def waits() -> Iterator[list[str]]:
    """Collect what makes the host wait for the device, as torch reports it."""
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        found: list[str] = []
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")
            found += [str(warning.message) for warning in caught if "synchroniz" in str(warning.message)]


@pytest.mark.parametrize("batch_dims", LAYOUTS.values(), ids=LAYOUTS)
def test_a_step_waits_once(batch_dims: int) -> None:
    f = Net().cuda()
    y0 = torch.linspace(-2, 2, 12, dtype=torch.float64, device="cuda").reshape(4, 3)
    with torch.no_grad():
        iso.solve(f, y0, (0.0, 1.0), batch_dims=batch_dims)
        with waits() as found:
            sol = iso.solve(f, y0, torch.linspace(0, 1, 20), batch_dims=batch_dims)
    assert 0 < len(found) <= int(sol.stats.steps.max()) + AROUND


def test_steps_can_be_captured_in_a_graph() -> None:
    """An attempt on tensors neither waits nor branches, so a CUDA graph can hold it."""
    from isocline.controllers import PID, compilable
    from isocline.loop import advance, start
    from isocline.solvers import METHODS

    device = torch.device("cuda")
    controller, _ = compilable(PID(), device)
    solver = METHODS["tsit5"]
    t0, t1 = torch.zeros(4, dtype=torch.float64, device=device), torch.ones(4, dtype=torch.float64, device=device)
    y0 = torch.linspace(1, 2, 8, device=device).reshape(4, 2)

    def f(t: Tensor, y: Tensor) -> Tensor:
        return -y

    with torch.no_grad():
        state = start(f, solver, controller, t0, y0, t1)
        expected, _ = advance(f, solver, controller, t1, state)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured, _ = advance(f, solver, controller, t1, state)
        graph.replay()
    torch.testing.assert_close(captured.y, expected.y)
    torch.testing.assert_close(captured.t, expected.t)
