"""Programs given to ``torch.compile`` with solves in them: what they compute stays, and the solve is left as it is."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

import isocline as iso
from isocline.compat import torchdiffeq
from isocline.models.flows import FFJORDField

# Of torch's compiler about itself, and about functions that it traces through.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torch", "ignore::DeprecationWarning:torch")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.tanh(self.linear(y)) + torch.cos(t)


class Model(nn.Module):
    """Without a loop over its layers: torch compiles no function with a break inside of one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, 3), nn.Linear(3, 1)
        self.ode = iso.NeuralODE(Net(), rtol=1e-3, atol=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.ode(self.first(x).relu()).relu())


def test_a_layer_between_others() -> None:
    """What is before and behind the solve is compiled, and nothing of the solve."""
    model, x = Model(), torch.randn(5, 2)
    compiled: list[str] = []

    def backend(graph: GraphModule, _: Sequence[Any]) -> Callable[..., Any]:
        compiled.append(graph.code)
        return graph.forward

    found = []
    for program in (model, torch.compile(model, backend=backend)):
        y = program(x)
        found.append([y.detach(), *torch.autograd.grad(y.square().sum(), list(model.parameters()))])
    for ours, expected in zip(*found, strict=True):
        assert torch.equal(ours, expected)
    assert sum("relu" in code for code in compiled) == 2
    assert not any("tanh" in code for code in compiled)


def lanes(net: nn.Module, y: Tensor) -> Tensor:
    return iso.solve(net, y, (0.0, torch.linspace(0.5, 1.5, 4)), batch_dims=1).ys[-1]


def adjoint(net: nn.Module, y: Tensor) -> Tensor:
    return iso.solve(net, y, torch.linspace(0, 1, 4), gradient=iso.BacksolveAdjoint()).ys


def dense(net: nn.Module, y: Tensor) -> Tensor:
    return iso.solve(net, y, (0.0, 1.0), dense=True)(torch.tensor([0.3, 0.7]))


def event(net: nn.Module, y: Tensor) -> Tensor:
    return iso.solve(net, y, (0.0, 5.0), event=lambda t, y: t - 1 - 0.1 * y.sin().mean()).event_t


def shim(net: nn.Module, y: Tensor) -> Tensor:
    return torchdiffeq.odeint_adjoint(net, y, torch.linspace(0, 1, 3))


def density(net: nn.Module, y: Tensor) -> Tensor:
    torch.manual_seed(0)
    return iso.CNF(FFJORDField(3, (8,)), 3, rtol=1e-2, atol=1e-2).log_prob(y) + 0 * net(y.new_zeros(()), y).sum()


@pytest.mark.parametrize("program", [lanes, adjoint, dense, event, shim, density])
def test_what_is_computed_stays(program: Callable[[nn.Module, Tensor], Tensor]) -> None:
    net, y = Net(), torch.randn(4, 3)
    found = []
    for call in (program, torch.compile(program, backend="eager")):
        result = call(net, y)
        found.append([result.detach(), *torch.autograd.grad(result.sum(), list(net.parameters()))])
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected)
