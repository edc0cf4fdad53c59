"""What modules do besides computing: hooks, parametrisations, buffers, random numbers, parameters that are frozen."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.testing import assert_close

import isocline as iso
from isocline.gradients import GRADIENTS
from problems import fitting

from .problems import draw

FOUND = {name: gradient for name, gradient in GRADIENTS.items() if name != "direct"}
every_method = pytest.mark.parametrize("gradient", FOUND.values(), ids=FOUND)
every_gradient = pytest.mark.parametrize("gradient", GRADIENTS.values(), ids=GRADIENTS)


class Net(nn.Module):
    """A field; ``between`` is any further layer."""

    def __init__(self, between: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = (nn.Linear(2, 2, dtype=torch.float64) for _ in range(2))
        self.between = between or nn.Identity()

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        out: Tensor = self.last(self.between(torch.tanh(self.first(y))))
        return out


def solve(net: Callable[..., Any], gradient: iso.Gradient, **settings: Any) -> Tensor:
    """Return a loss of the states of five samples."""
    settings = {"rtol": 1e-8, "atol": 1e-8, "method": fitting(gradient), **settings}
    ys = iso.solve(net, draw(5, 2, seed=1), (0.0, 0.4, 1.0), gradient=gradient, **settings).ys
    return (draw(*ys.shape, seed=2) * ys).sum()


def agree(make: Callable[[], tuple[Callable[..., Any], dict[str, Tensor]]], gradient: iso.Gradient) -> None:
    """The gradients of what ``make`` returns beside the field are DirectAdjoint's."""
    found = []
    for method in (gradient, iso.DirectAdjoint()):
        f, inputs = make()
        found.append(torch.autograd.grad(solve(f, method), list(inputs.values())))
        assert all(grad.abs().max() > 1e-3 for grad in found[-1]), "no gradient worth comparing"
    assert_close(*found, rtol=1e-5, atol=1e-7)


def before(net: Net, inputs: dict[str, Tensor]) -> Any:
    """Compute the weight once, before the solve: a tensor with a history, that f closes over."""
    assert net.first.weight is net.first.weight
    return net, inputs


@every_method
@pytest.mark.parametrize("cached", [False, True])
def test_weight_norm(gradient: iso.Gradient, cached: bool) -> None:
    def make() -> Any:
        net = Net()
        parametrizations.weight_norm(net.first)
        return net, dict(net.named_parameters())

    if not cached:
        agree(make, gradient)
        return
    with parametrize.cached():
        agree(lambda: before(*make()), gradient)


@every_method
def test_spectral_norm_in_evaluation(gradient: iso.Gradient) -> None:
    def make() -> Any:
        net = Net()
        parametrizations.spectral_norm(net.first)
        return net.eval(), dict(net.named_parameters())

    agree(make, gradient)


@every_method
def test_buffers_with_and_without_gradients(gradient: iso.Gradient) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", draw(2, seed=3))
            self.register_buffer("shift", draw(2, seed=4).requires_grad_())

        def forward(self, x: Tensor) -> Tensor:
            return self.scale * x + self.shift

    def make() -> Any:
        net = Net(Scaled())
        return net, {**dict(net.named_parameters()), "shift": net.between.shift}

    agree(make, gradient)


@every_method
def test_one_parameter_in_two_layers(gradient: iso.Gradient) -> None:
    def make() -> Any:
        net = Net()
        net.last.weight = net.first.weight
        net.last.bias.requires_grad_(False)
        return (lambda t, y: net(t, y)), {name: p for name, p in net.named_parameters() if p.requires_grad}

    agree(make, gradient)


@every_method
def test_batch_normalisation(gradient: iso.Gradient) -> None:
    """Results in training do not depend on the running statistics, which every evaluation changes."""

    def make() -> Any:
        net = Net(nn.BatchNorm1d(2, dtype=torch.float64))
        return net, dict(net.named_parameters())

    agree(make, gradient)


@every_method
def test_forward_hooks(gradient: iso.Gradient) -> None:
    def make() -> Any:
        net, scale = Net(), draw(2, seed=3).requires_grad_()
        doubled = scale.exp()
        net.first.register_forward_pre_hook(lambda module, args: (args[0] * scale,))
        net.last.register_forward_hook(lambda module, args, result: result * doubled)
        return net, {**dict(net.named_parameters()), "scale": scale}

    agree(make, gradient)


@every_method
def test_backward_hooks_of_modules(gradient: iso.Gradient) -> None:
    """They are part of the function that is differentiated, wherever it is evaluated."""
    calls = []

    def make() -> Any:
        net = Net()

        def halve(module: nn.Module, grads: Any, outputs: Any) -> Any:
            calls.append(grads)
            return (0.5 * grads[0],)

        net.last.register_full_backward_hook(halve)
        return net, dict(net.named_parameters())

    agree(make, gradient)
    assert calls


@every_gradient
def test_hooks_of_parameters_run_once(gradient: iso.Gradient) -> None:
    net, before, after = Net(), [], []
    net.first.weight.register_hook(lambda grad: before.append(grad.clone()))
    net.first.weight.register_post_accumulate_grad_hook(lambda p: after.append(p.grad.clone()))
    solve(net, gradient).backward()
    assert len(before) == len(after) == 1
    assert_close(before[0], after[0])


@every_gradient
def test_a_parameter_frozen_after_the_solve_gets_no_gradient(gradient: iso.Gradient) -> None:
    net = Net()
    loss = solve(net, gradient)
    expected = torch.autograd.grad(solve(net, gradient), net.last.weight)[0]
    net.first.weight.requires_grad_(False)
    loss.backward()
    assert net.first.weight.grad is None
    assert_close(net.last.weight.grad, expected)


@every_gradient
def test_all_parameters_frozen_after_the_solve(gradient: iso.Gradient) -> None:
    net = Net()
    loss = solve(net, gradient)
    net.requires_grad_(False)
    loss.backward()
    assert all(p.grad is None for p in net.parameters())


@every_gradient
def test_a_parameter_freed_after_the_solve_gets_no_gradient_or_an_error(gradient: iso.Gradient) -> None:
    net = Net()
    net.first.weight.requires_grad_(False)
    loss = solve(net, gradient)
    net.first.weight.requires_grad_()
    if gradient == iso.DirectAdjoint():
        loss.backward()
    else:
        with pytest.raises(RuntimeError, match=r"required none then"):
            loss.backward()
    assert net.first.weight.grad is None


def steps(gradient: iso.Gradient, **settings: Any) -> dict[str, Any]:
    """Fixed steps: the error of a field that draws random numbers cannot be controlled."""
    return {
        "method": fitting(gradient, "rk4"),
        "controller": iso.FixedStep(0.25),
        "rtol": None,
        "atol": None,
        **settings,
    }


@every_gradient
@pytest.mark.parametrize("listed", [False, True])
def test_dropout(gradient: iso.Gradient, listed: bool) -> None:
    """A backward pass that evaluates f again would drop others: right by autograd, else an error that says so."""
    net = Net(nn.Dropout(0.5))
    params = list(net.parameters()) if listed else None

    def loss() -> Tensor:
        torch.manual_seed(3)
        return solve(net, gradient, params=params, **steps(gradient))

    if gradient != iso.DirectAdjoint():
        with pytest.raises(RuntimeError, match=r"draws random numbers.*gradient=DirectAdjoint\(\).*\.eval\(\)"):
            loss()
        net.eval()
        assert loss().isfinite()
        return
    loss().backward()
    weight, direction = net.first.weight, draw(2, 2, seed=8)
    values = []
    for distance in (1e-5, -1e-5):
        with torch.no_grad():
            weight += distance * direction
            values.append(loss())
            weight -= distance * direction
    slope = (values[0] - values[1]) / 2e-5
    assert_close((weight.grad * direction).sum(), slope, rtol=1e-6, atol=1e-8)


@every_method
def test_numbers_that_others_draw_are_no_error(gradient: iso.Gradient) -> None:
    """Only f counts, not what draws beside it: another thread, say, or a norm."""

    def norm(x: Tensor) -> Tensor:
        torch.rand(1)
        return x.abs().amax(dim=1)

    settings: Any = {"controller": iso.PID(norm=norm), "rtol": None, "atol": None}
    assert solve(Net(), gradient, **settings).requires_grad
