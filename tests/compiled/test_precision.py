"""Compiled solves of fields in 16 bits; complex states are left to eager ones."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import isocline as iso
from isocline.gradients import GRADIENTS
from problems import fitting

pytestmark = pytest.mark.usefixtures("graphs_only")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        out: Tensor = self.layers(y)
        return out


def results(gradient: iso.Gradient, kind: str, compiled: bool) -> list[Tensor]:
    """Return the saved states, and the gradients of y0 and of the parameters."""
    net, y0 = Net(), torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    if kind == "state":
        net, y0 = net.bfloat16(), y0.bfloat16()
    inputs = y0.requires_grad_(), *net.parameters()
    settings: Any = {"method": fitting(gradient, "rk4"), "controller": iso.FixedStep(0.25), "compile": compiled}
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=kind == "autocast"):
        ys = iso.solve(net, y0, (0.0, 0.3, 1.0), gradient=gradient, **settings).ys
    return [ys.detach(), *torch.autograd.grad(ys.float().square().mean(), inputs)]


@pytest.mark.parametrize(("kind", "name"), [("autocast", "direct"), ("autocast", "backsolve"), ("state", "checkpoint")])
def test_fields_of_16_bits(kind: str, name: str) -> None:
    gradient = GRADIENTS[name]
    found, eager, exact = (results(gradient, *case) for case in ((kind, True), (kind, False), ("float32", False)))
    for a, b, c in zip(found, eager, exact, strict=True):
        assert a.dtype == b.dtype
        largest = c.abs().max().item()
        assert_close(a.float(), b.float(), rtol=0, atol=0.02 * largest)
        assert (a.float() - c).abs().max() > 1e-4 * largest, "16 bits should show"


def test_complex_states_run_eagerly() -> None:
    y0, f = torch.tensor([1.0, 2.0j]), (lambda t, y: 1j * y)
    with pytest.warns(RuntimeWarning, match="runs eagerly.*complex numbers"):
        sol = iso.solve(f, y0, (0.0, 1.0), compile=True)
    assert_close(sol.ys, iso.solve(f, y0, (0.0, 1.0)).ys)


def test_random_fields_run_eagerly() -> None:
    net = Net()
    net.layers.append(nn.Dropout(0.5))
    with pytest.warns(RuntimeWarning, match="runs eagerly.*random numbers"):
        iso.solve(net, torch.ones(8, 4), (0.0, 1.0), method="rk4", controller=iso.FixedStep(0.5), compile=True)
