"""Every way in which a tensor can get into a field."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import isocline as iso
from isocline.gradients import GRADIENTS
from problems import fitting

FOUND = {name: gradient for name, gradient in GRADIENTS.items() if name != "direct"}
"""The methods that have to find tensors themselves; they must equal DirectAdjoint, which leaves it to autograd."""


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2, dtype=torch.float64)
        with torch.no_grad():
            self.linear.weight.copy_(torch.tensor([[0.3, -0.8], [0.6, 0.1]]))
            self.linear.bias.copy_(torch.tensor([0.2, -0.4]))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.tanh(self.linear(y)) * (1 + t)

    def other(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.sin(self.linear(y)) - t


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def run(f: Callable[..., Any], gradient: iso.Gradient | None, **settings: Any) -> Tensor:
    settings = {"rtol": 1e-8, "atol": 1e-8, "method": fitting(gradient or iso.DirectAdjoint()), **settings}
    y0 = settings.pop("y0", tensor(0.5, -0.3))
    ys = iso.solve(f, y0, (0.0, 0.4, 1.0), gradient=gradient, **settings).ys
    return (ys * tensor(1.0, -0.7)).sum()


def agree(
    make: Callable[[], tuple[Callable[..., Any], dict[str, Tensor]]], gradient: iso.Gradient, **settings: Any
) -> None:
    """The gradients with respect to what ``make`` returns are DirectAdjoint's."""
    found = []
    for method in (gradient, iso.DirectAdjoint()):
        f, inputs = make()
        grads = torch.autograd.grad(run(f, method, **settings), list(inputs.values()))
        found.append(dict(zip(inputs, grads, strict=True)))
    actual, expected = found
    for key in expected:
        assert expected[key].abs().max() > 1e-3, f"{key} has no gradient worth comparing"
        torch.testing.assert_close(actual[key], expected[key], rtol=1e-5, atol=1e-7, msg=key)


every_method = pytest.mark.parametrize("gradient", FOUND.values(), ids=FOUND)


@every_method
def test_module(gradient: iso.Gradient) -> None:
    def make() -> Any:
        net = Net()
        return net, dict(net.named_parameters())

    agree(make, gradient)


@every_method
def test_module_in_a_lambda(gradient: iso.Gradient) -> None:
    def make() -> Any:
        net = Net()
        return (lambda t, y: net(t, y)), dict(net.named_parameters())

    agree(make, gradient)


@every_method
def test_bound_method_of_a_module(gradient: iso.Gradient) -> None:
    def make() -> Any:
        net = Net()
        return net.other, dict(net.named_parameters())

    agree(make, gradient)


@every_method
def test_partial(gradient: iso.Gradient) -> None:
    def make() -> Any:
        net, a = Net(), tensor(0.4, 0.9).requires_grad_()
        return partial(lambda a, t, y: a * net(t, y), a), {"a": a, **dict(net.named_parameters())}

    agree(make, gradient)


@every_method
def test_leaf_in_the_closure(gradient: iso.Gradient) -> None:
    def make() -> Any:
        a = tensor(0.4, 0.9).requires_grad_()
        return (lambda t, y: -a * y + t), {"a": a}

    agree(make, gradient)


@every_method
def test_computed_tensor_and_its_source_are_not_counted_twice(gradient: iso.Gradient) -> None:
    def make() -> Any:
        theta = tensor(0.4, -0.9).requires_grad_()
        scale = theta.exp()
        return (lambda t, y: torch.sin(scale * y) - theta * y * t), {"theta": theta}

    agree(make, gradient)


@every_method
def test_computed_tensor_itself(gradient: iso.Gradient) -> None:
    def make() -> Any:
        scale = tensor(0.4, -0.9).requires_grad_().exp()
        return (lambda t, y: torch.sin(scale * y) - t), {"scale": scale}

    agree(make, gradient)


@every_method
def test_computed_tensor_keeps_its_gradient_when_asked(gradient: iso.Gradient) -> None:
    theta = tensor(0.4, -0.9).requires_grad_()
    scale = theta.exp()
    scale.retain_grad()
    run(lambda t, y: torch.sin(scale * y) - t, gradient).backward()
    assert scale.grad is not None
    assert scale.grad.abs().min() > 1e-3
    torch.testing.assert_close(theta.grad, scale.grad * scale.detach())


@every_method
def test_two_outputs_of_one_operation(gradient: iso.Gradient) -> None:
    def make() -> Any:
        theta = tensor(0.4, -0.9, 1.3, 0.2).requires_grad_()
        a, b = theta.sin().split(2)
        return (lambda t, y: a * y - b * t), {"theta": theta}

    agree(make, gradient)


@every_method
def test_computed_tensors_used_through_indexing_and_keywords(gradient: iso.Gradient) -> None:
    def make() -> Any:
        theta = tensor(0.4, -0.9).requires_grad_()
        a, b = theta.exp(), theta.cos()
        return (lambda t, y: torch.add(a[0] * y, torch.stack([b[1], b[0]]), alpha=0.5)), {"theta": theta}

    agree(make, gradient)


@every_method
def test_same_tensor_in_arguments_and_closure(gradient: iso.Gradient) -> None:
    for computed in (False, True):
        found = []
        for method in (gradient, iso.DirectAdjoint()):
            theta = tensor(0.4, -0.9).requires_grad_()
            a = theta.exp() if computed else theta
            loss = run(lambda t, y, b, a=a: a * torch.cos(y) + b * y * t, method, args=(a,))
            found.append(torch.autograd.grad(loss, theta)[0])
        torch.testing.assert_close(*found, rtol=1e-5, atol=1e-7)


@every_method
def test_nested_arguments(gradient: iso.Gradient) -> None:
    found = []
    for method in (gradient, iso.DirectAdjoint()):
        a, b, c = (tensor(x, -x).requires_grad_() for x in (0.3, 0.5, 0.8))
        args = ({"a": a, "more": [b, 2.0]}, (c.exp(), "name", None))

        def f(t: Tensor, y: Tensor, first: Any, second: Any) -> Tensor:
            assert second[1:] == ("name", None)
            return first["a"] * y + first["more"][0] * t * first["more"][1] - second[0] * y**2

        found.append(torch.autograd.grad(run(f, method, args=args), (a, b, c)))
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-7)


@every_method
def test_shared_parameters(gradient: iso.Gradient) -> None:
    def make() -> Any:
        first, second = Net(), Net()
        second.linear.weight = first.linear.weight
        net = nn.ModuleList([first, second])
        return (lambda t, y: net[1](t, net[0](t, y))), dict(net.named_parameters())

    agree(make, gradient)


@every_method
def test_frozen_parameters_get_no_gradient(gradient: iso.Gradient) -> None:
    found = []
    for method in (gradient, iso.DirectAdjoint()):
        net = Net()
        net.linear.weight.requires_grad_(False)
        run(net, method).backward()
        assert net.linear.weight.grad is None
        found.append(net.linear.bias.grad)
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-7)


@every_method
def test_a_hook_on_a_leaf_runs_once_on_the_whole_gradient(gradient: iso.Gradient) -> None:
    def slope(method: iso.Gradient, hooked: bool) -> tuple[Tensor, list[Tensor]]:
        a, seen = tensor(0.4, 0.9).requires_grad_(), []

        def double(grad: Tensor) -> Tensor:
            seen.append(grad.clone())
            return 2 * grad

        if hooked:
            a.register_hook(double)
        run(lambda t, y: -a * y + t, method).backward()
        assert a.grad is not None
        return a.grad, seen

    plain, _ = slope(gradient, hooked=False)
    hooked, seen = slope(gradient, hooked=True)
    assert len(seen) == 1
    torch.testing.assert_close(seen[0], plain)
    torch.testing.assert_close(hooked, 2 * plain)


@every_method
def test_accumulates_into_grad_like_any_other_operation(gradient: iso.Gradient) -> None:
    net = Net()
    run(net, gradient).backward()
    once = net.linear.weight.grad.clone()
    run(net, gradient).backward()
    torch.testing.assert_close(net.linear.weight.grad, 2 * once)


@every_method
def test_a_hook_on_a_computed_tensor_runs_once(gradient: iso.Gradient) -> None:
    found, calls = [], []
    for method in (gradient, iso.DirectAdjoint()):
        theta = tensor(0.4, -0.9).requires_grad_()
        scale = theta.exp()
        scale.register_hook(lambda grad: calls.append(grad) or 3 * grad)
        found.append(torch.autograd.grad(run(lambda t, y, scale=scale: -scale * y, method), theta)[0])
    assert len(calls) == 2
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-7)


@every_method
@pytest.mark.parametrize("computed", [False, True])
def test_initial_state_in_the_closure_too(gradient: iso.Gradient, computed: bool) -> None:
    found = []
    for method in (gradient, iso.DirectAdjoint()):
        x = tensor(0.4, -0.9).requires_grad_()
        y0 = x.sin() if computed else x
        loss = run(lambda t, y, y0=y0: torch.cos(y) - y0 * y, method, y0=y0)
        found.append(torch.autograd.grad(loss, x)[0])
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-7)


@every_method
def test_computed_tensors_assigned_and_stacked_in_the_field(gradient: iso.Gradient) -> None:
    def make() -> Any:
        theta = tensor(0.4, -0.9).requires_grad_()
        a, b, c = theta[0], theta[1].cos(), theta.exp()

        def f(t: Tensor, y: Tensor) -> Tensor:
            out = torch.zeros_like(y)
            out[0] = a
            out[1:] = b
            return out * y + torch.stack([b, a]) * t + c * y

        return f, {"theta": theta}

    agree(make, gradient)


@every_method
def test_functional_call_with_computed_weights(gradient: iso.Gradient) -> None:
    def make() -> Any:
        net, size = Net(), tensor(0.7).requires_grad_()
        weights = {name: p.detach() * size for name, p in net.named_parameters()}
        return (lambda t, y: torch.func.functional_call(net, weights, (t, y))), {"size": size}

    agree(make, gradient)


@every_method
def test_vmap_in_the_field(gradient: iso.Gradient) -> None:
    def make() -> Any:
        theta = tensor(0.4).requires_grad_()
        scale = theta.exp()
        return (lambda t, y: torch.func.vmap(lambda x: torch.sin(scale * x))(y.unsqueeze(1)).squeeze(1)), {
            "theta": theta
        }

    agree(make, gradient)


@every_method
def test_field_that_is_itself_a_gradient(gradient: iso.Gradient) -> None:
    """As in Hamiltonian networks and in the trace of continuous normalising flows."""

    def make() -> Any:
        theta = tensor(0.4, -0.9).requires_grad_()
        scale = theta.exp()

        def f(t: Tensor, y: Tensor) -> Tensor:
            with torch.enable_grad():
                y = y.requires_grad_()
                energy = (scale * y**4).sum() + torch.sin(theta * y).sum()
                return -torch.autograd.grad(energy, y, create_graph=True)[0]

        return f, {"theta": theta}

    agree(make, gradient)


@every_method
def test_solve_in_the_field(gradient: iso.Gradient) -> None:
    def make() -> Any:
        net = Net()

        def f(t: Tensor, y: Tensor) -> Tensor:
            return iso.solve(net, y, (0.0, 1.0), method="rk4", controller=iso.FixedStep(0.5)).ys[-1] - y

        return f, dict(net.named_parameters())

    agree(make, gradient, rtol=1e-7, atol=1e-7)


@every_method
def test_listing_a_tensor_twice_does_not_count_it_twice(gradient: iso.Gradient) -> None:
    theta = tensor(0.4, -0.9).requires_grad_()
    scale = theta.exp()

    def f(t: Tensor, y: Tensor, b: Tensor) -> Tensor:
        return torch.sin(scale * y) - theta * t + b * y

    found = []
    for params in ([theta, scale], [theta, scale, theta, scale]):
        loss = run(f, gradient, args=(theta,), params=params)
        found.append(torch.autograd.grad(loss, theta, retain_graph=True)[0])
    direct = torch.autograd.grad(run(f, iso.DirectAdjoint(), args=(theta,)), theta)[0]
    torch.testing.assert_close(found[0], direct, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(found[1], direct, rtol=1e-5, atol=1e-7)


@every_method
def test_what_is_not_listed_gets_no_gradient(gradient: iso.Gradient) -> None:
    a, b = tensor(0.4, 0.9).requires_grad_(), tensor(0.1, 0.2).requires_grad_()
    run(lambda t, y: a * y + b, gradient, params=[a]).backward()
    assert a.grad is not None
    assert b.grad is None


def late(y0_needs_grad: bool) -> tuple[Tensor, Callable[..., Tensor], Tensor]:
    a = torch.full((2, 3), 0.5, dtype=torch.float64, requires_grad=True)
    y0 = tensor(0.5, -0.3).requires_grad_(y0_needs_grad)
    return y0, (lambda t, y: -y + a.sum() * (2 * t - 1) ** 3 if t > 0.5 else -y), a


@every_method
@pytest.mark.parametrize("y0_needs_grad", [True, False])
def test_a_tensor_first_used_later_is_an_error(gradient: iso.Gradient, y0_needs_grad: bool) -> None:
    y0, f, a = late(y0_needs_grad)
    b = tensor(1.0, 1.0).requires_grad_()  # so that there is something to differentiate in the first evaluation
    with pytest.raises(RuntimeError, match=r"\(2, 3\).*params=\[\.\.\.\]"):
        run(lambda t, y: b * f(t, y), gradient, y0=y0, rtol=1e-3, atol=1e-3).backward()
    assert a.grad is None


@every_method
def test_a_tensor_first_used_later_is_differentiated_when_listed(gradient: iso.Gradient) -> None:
    found = []
    for method in (gradient, iso.DirectAdjoint()):
        y0, f, a = late(True)
        found.append(torch.autograd.grad(run(f, method, y0=y0, params=[a]), (a, y0)))
    assert found[1][0].abs().max() > 0.01
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-7)


class Late(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(tensor(0.4, 0.9))
        self.b = nn.Parameter(tensor(-0.2, 0.3))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.a * y + self.b * (t - 0.5) ** 4 if t > 0.5 else self.a * y


@every_method
def test_parameters_of_a_module_may_be_used_later(gradient: iso.Gradient) -> None:
    def make() -> Any:
        net = Late()
        return net, dict(net.named_parameters())

    agree(make, gradient)


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * grad


@every_method
def test_custom_function_of_a_leaf(gradient: iso.Gradient) -> None:
    def make() -> Any:
        a = tensor(0.4, 0.9).requires_grad_()
        return (lambda t, y: -Square.apply(a) * y), {"a": a}

    agree(make, gradient)


@every_method
def test_custom_function_of_a_computed_tensor_is_an_error_that_helps(gradient: iso.Gradient) -> None:
    a = tensor(0.4, 0.9).requires_grad_()
    scale = a.exp()
    with pytest.raises(RuntimeError, match=r"ExpBackward.*args=\(tensor,\).*DirectAdjoint"):
        run(lambda t, y: -Square.apply(scale) * y, gradient).backward()


@every_method
def test_custom_function_of_an_argument(gradient: iso.Gradient) -> None:
    found = []
    for method in (gradient, iso.DirectAdjoint()):
        a = tensor(0.4, 0.9).requires_grad_()
        loss = run(lambda t, y, scale: -Square.apply(scale) * y, method, args=(a.exp(),), rtol=1e-10, atol=1e-10)
        found.append(torch.autograd.grad(loss, a))
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-7)


EVERY = pytest.mark.parametrize("gradient", GRADIENTS.values(), ids=GRADIENTS)


@EVERY
def test_field_without_the_state(gradient: iso.Gradient) -> None:
    y0, a = tensor(0.5, -0.3).requires_grad_(), tensor(0.4, 0.9).requires_grad_()
    sol = iso.solve(
        lambda t, y: a * t, y0, (0.0, 2.0), gradient=gradient, method=fitting(gradient)
    )  # y = y0 + a t^2 / 2
    by_y0, by_a = torch.autograd.grad(sol.ys[-1].sum(), (y0, a))
    torch.testing.assert_close(by_y0, tensor(1.0, 1.0))
    torch.testing.assert_close(by_a, tensor(2.0, 2.0))


@EVERY
def test_field_without_parameters(gradient: iso.Gradient) -> None:
    y0 = tensor(0.5, -0.3).requires_grad_()
    sol = iso.solve(lambda t, y: -y, y0, (0.0, 1.0), rtol=1e-9, atol=1e-9, gradient=gradient, method=fitting(gradient))
    (by_y0,) = torch.autograd.grad(sol.ys[-1].sum(), y0)
    torch.testing.assert_close(by_y0, torch.exp(tensor(-1.0, -1.0)))


@EVERY
def test_field_without_anything(gradient: iso.Gradient) -> None:
    y0 = tensor(0.5, -0.3).requires_grad_()
    t1 = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    sol = iso.solve(lambda t, y: torch.full_like(y, 3.0), y0, (0.0, t1), gradient=gradient, method=fitting(gradient))
    by_y0, by_t1 = torch.autograd.grad(sol.ys[-1].sum(), (y0, t1))
    torch.testing.assert_close(by_y0, tensor(1.0, 1.0))
    torch.testing.assert_close(by_t1.item(), 6.0)


@EVERY
def test_nothing_requires_grad(gradient: iso.Gradient) -> None:
    sol = iso.solve(lambda t, y: -y, tensor(1.0), (0.0, 0.5, 1.0), gradient=gradient, method=fitting(gradient))
    assert not sol.ys.requires_grad


@EVERY
def test_no_gradients_are_recorded_under_no_grad(gradient: iso.Gradient) -> None:
    net = Net()
    with torch.no_grad():
        sol = iso.solve(
            net, tensor(0.5, -0.3).requires_grad_(), (0.0, 1.0), gradient=gradient, method=fitting(gradient)
        )
    assert not sol.ys.requires_grad


@EVERY
def test_a_field_under_no_grad_is_a_constant(gradient: iso.Gradient) -> None:
    net, y0 = Net(), tensor(0.5, -0.3).requires_grad_()
    sol = iso.solve(torch.no_grad()(net.forward), y0, (0.0, 1.0), gradient=gradient, method=fitting(gradient))
    (by_y0, *by_net) = torch.autograd.grad(
        sol.ys[-1].sum(), (y0, *net.parameters()), allow_unused=True, materialize_grads=True
    )
    torch.testing.assert_close(by_y0, tensor(1.0, 1.0))
    assert all(not grad.any() for grad in by_net)


@EVERY
def test_computed_initial_state(gradient: iso.Gradient) -> None:
    x = tensor(0.5, -0.3).requires_grad_()
    sol = iso.solve(
        lambda t, y: -y, x**2, (0.0, 1.0), rtol=1e-9, atol=1e-9, gradient=gradient, method=fitting(gradient)
    )
    sol.ys[-1].sum().backward()
    torch.testing.assert_close(x.grad, 2 * x.detach() * torch.exp(tensor(-1.0)))


@EVERY
def test_times_alone(gradient: iso.Gradient) -> None:
    ts = tensor(0.0, 0.5, 1.0).requires_grad_()
    sol = iso.solve(lambda t, y: -y, tensor(2.0), ts, rtol=1e-9, atol=1e-9, gradient=gradient, method=fitting(gradient))
    sol.ys[1:].sum().backward()
    slopes = -2 * torch.exp(-ts.detach())
    expected = torch.cat([-slopes[1:].sum().reshape(1), slopes[1:]])
    torch.testing.assert_close(ts.grad, expected, rtol=1e-6, atol=1e-7)


@EVERY
def test_a_parameter_changed_before_backward_is_an_error(gradient: iso.Gradient) -> None:
    net = Net()
    loss = run(net, gradient)
    with torch.no_grad():
        net.linear.weight.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@EVERY
def test_a_closed_over_tensor_changed_before_backward_is_an_error(gradient: iso.Gradient) -> None:
    scale = tensor(0.4, 0.9).requires_grad_() * 2.0
    loss = run(lambda t, y: torch.sin(scale * y), gradient)
    scale.detach().mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@EVERY
def test_backward_twice_is_an_error_unless_the_graph_is_retained(gradient: iso.Gradient) -> None:
    net = Net()
    loss = run(net, gradient)
    first = torch.autograd.grad(loss, net.linear.weight, retain_graph=True)
    second = torch.autograd.grad(loss, net.linear.weight)
    torch.testing.assert_close(second, first)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss, net.linear.weight)


def test_finding_tensors_leaves_no_warning() -> None:
    a = tensor(0.4).requires_grad_()
    scale = a.exp()
    scale.retain_grad()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(lambda t, y: -scale * y, None).backward()
    assert a.grad is not None


@pytest.mark.parametrize("gradient", GRADIENTS.values(), ids=GRADIENTS.keys())
def test_a_computed_tensor_that_f_returns_as_it_is(gradient: iso.Gradient) -> None:
    a = torch.tensor([0.3, -0.2], dtype=torch.float64, requires_grad=True)
    slope = a.exp()
    sol = iso.solve(
        lambda t, y: slope, torch.zeros(2, dtype=torch.float64), (0.0, 2.0), gradient=gradient, method=fitting(gradient)
    )
    (found,) = torch.autograd.grad(sol.ys[-1].sum(), a)
    torch.testing.assert_close(found, 2 * a.detach().exp())
