"""Second derivatives: through DirectAdjoint; the others say that they have none."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian, hvp, jacobian, vhp

import isocline as iso
from isocline.gradients import GRADIENTS
from problems import ANY_STATE, ITERATING, fitting

FIRST_ORDER = {
    "checkpoint": iso.RecursiveCheckpointAdjoint(),
    "checkpoint-2": iso.RecursiveCheckpointAdjoint(2),
    "reversible": iso.ReversibleAdjoint(),
    "backsolve": iso.BacksolveAdjoint(),
    "interpolating": iso.InterpolatingAdjoint(),
    "gauss": iso.GaussAdjoint(),
    "forward": iso.ForwardMode(),
}


def final(y0: Tensor, r: Tensor, t1: Tensor, **settings: object) -> Tensor:
    """Logistic growth, whose solution is y0 / (y0 + (1 - y0) exp(-r t))."""
    return iso.solve(lambda t, y: r * y * (1 - y), y0, (0.0, t1), **settings).ys[-1]


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    return tuple(torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in ([0.2, 0.6], 1.4, 0.9))


def test_hessian() -> None:
    def by_solver(y0: Tensor, r: Tensor) -> Tensor:
        ys = final(y0, r, torch.tensor(0.9), gradient=iso.DirectAdjoint(), rtol=1e-9, atol=1e-9)
        return (ys**2).sum()

    def closed_form(y0: Tensor, r: Tensor) -> Tensor:
        return ((y0 / (y0 + (1 - y0) * torch.exp(-r * 0.9))) ** 2).sum()

    y0, r, _ = inputs()
    actual = torch.autograd.functional.hessian(by_solver, (y0, r))
    expected = torch.autograd.functional.hessian(closed_form, (y0, r))
    for row, expected_row in zip(actual, expected, strict=True):
        for block, expected_block in zip(row, expected_row, strict=True):
            assert expected_block.abs().max() > 0.01
            torch.testing.assert_close(block, expected_block, rtol=1e-6, atol=1e-6)


def test_second_derivative_by_the_end_time() -> None:
    y0, r, t1 = inputs()
    y = final(y0, r, t1, gradient=iso.DirectAdjoint(), rtol=1e-9, atol=1e-9).sum()
    (slope,) = torch.autograd.grad(y, t1, create_graph=True)
    (bend,) = torch.autograd.grad(slope, t1)
    grown = 1 / (1 + (1 / y0 - 1) * torch.exp(-r * t1))
    expected = (r**2 * grown * (1 - grown) * (1 - 2 * grown)).sum()
    # The last step alone moves with the end: that is a derivative of the method's error, at one order less.
    torch.testing.assert_close(bend, expected, rtol=1e-4, atol=0.0)


@pytest.mark.parametrize("method", [name for name in ANY_STATE if name not in ITERATING])
def test_second_derivatives_of_the_discrete_solution(method: str) -> None:
    y0, r, t1 = inputs()
    settings = {"method": method, "controller": iso.FixedStep(0.4), "gradient": iso.DirectAdjoint()}

    def states(y0: Tensor, r: Tensor, inner: Tensor) -> Tensor:
        ts = torch.cat([torch.tensor([0.0, 0.17], dtype=torch.float64), inner.reshape(1)])
        return iso.solve(lambda t, y: torch.sin(r * y + t), y0, ts, **settings).ys

    assert torch.autograd.gradcheck(states, (y0, r, t1))
    assert torch.autograd.gradgradcheck(states, (y0, r, t1))


def fixed(gradient: iso.Gradient) -> dict[str, Any]:
    return {"gradient": gradient, "method": fitting(gradient), "controller": iso.FixedStep(0.1)}


def by_a_layer(gradient: iso.Gradient, r: Tensor) -> Tensor:
    class Logistic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.r = r

        def forward(self, t: Tensor, y: Tensor) -> Tensor:
            return self.r * y * (1 - y)

    layer = iso.NeuralODE(Logistic(), **fixed(gradient))
    return layer(torch.tensor([[0.2], [0.6]], dtype=r.dtype)).square().sum()


def by_penalties(gradient: iso.Gradient, r: Tensor) -> Tensor:
    field = iso.Regularised(lambda t, y: r * y * (1 - y), kinetic=True, jacobian=True, derivative=2)
    _, penalties = iso.NeuralODE(field, **fixed(gradient))(torch.tensor([[0.2], [0.6]], dtype=r.dtype))
    return sum(x.sum() for x in penalties.values())


def by_lanes(gradient: iso.Gradient, r: Tensor) -> Tensor:
    y0, ends = torch.linspace(0.1, 0.9, 9, dtype=r.dtype), torch.linspace(0.1, 2.0, 9, dtype=r.dtype)
    sol = iso.solve(lambda t, y: r * y * (1 - y), y0, (0.0, ends), batch_dims=1, **fixed(gradient))
    return sol.ys[-1].square().sum()


def by_dense_output(gradient: iso.Gradient, r: Tensor) -> Tensor:
    y0 = torch.tensor([0.2, 0.6], dtype=r.dtype)
    sol = iso.solve(lambda t, y: r * y * (1 - y), y0, (0.0, 1.0), dense=True, **fixed(gradient))
    return sol(0.44).square().sum()


def by_an_event(gradient: iso.Gradient, r: Tensor) -> Tensor:
    y0, halfway = torch.tensor(0.2, dtype=r.dtype), lambda t, y: y - 0.5
    return iso.solve(lambda t, y: r * y * (1 - y), y0, (0.0, 9.0), event=halfway, **fixed(gradient)).event_t


PLACES = (by_a_layer, by_penalties, by_lanes, by_dense_output, by_an_event)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("gradient", FIRST_ORDER.values(), ids=FIRST_ORDER)
def test_the_others_refuse(gradient: iso.Gradient, place: Callable[..., Tensor]) -> None:
    """And say what to use. (The continuous adjoints of dense output, which has no gradient with them, at once.)"""
    r = torch.tensor(1.4, dtype=torch.float64, requires_grad=True)
    refused = r"first derivatives only.*DirectAdjoint|no gradient through.*RecursiveCheckpointAdjoint"
    with pytest.raises((RuntimeError, ValueError), match=refused):
        torch.autograd.grad(place(gradient, r), r, create_graph=True)


@pytest.mark.parametrize("place", PLACES)
def test_direct_has_them_but_of_events(place: Callable[..., Tensor]) -> None:
    def slope(r: Tensor, create_graph: bool = False) -> Tensor:
        torch.manual_seed(0)
        return torch.autograd.grad(place(iso.DirectAdjoint(), r), r, create_graph=create_graph)[0]

    r, eps = torch.tensor(1.4, dtype=torch.float64, requires_grad=True), 1e-6
    if place is by_an_event:
        with pytest.raises(RuntimeError, match=r"first derivatives only.*to a fixed time"):
            slope(r, create_graph=True)
        return
    (found,) = torch.autograd.grad(slope(r, create_graph=True), r)
    expected = (slope(r + eps) - slope(r - eps)) / (2 * eps)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=0.0)


def twice(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The Hessian from gradients of gradients."""
    (slope,) = torch.autograd.grad(f(x), x, create_graph=True)
    return torch.stack([torch.autograd.grad(part, x, retain_graph=True)[0] for part in slope])


def products(product: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., Tensor]:
    """The Hessian from its products with unit vectors."""
    return lambda f, x: torch.stack([product(f, x, v)[1] for v in torch.eye(2, dtype=x.dtype)])


WAYS = {
    "twice": twice,
    "hessian": hessian,
    "hvp": products(hvp),
    "vhp": products(vhp),
    "jacobian of jacobian": lambda f, x: jacobian(lambda x: jacobian(f, x, create_graph=True), x),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", GRADIENTS)
def test_second_derivatives_are_right_or_refused(name: str, way: str) -> None:
    """Never silently zero."""
    gradient = GRADIENTS[name]
    y0, r, t1 = inputs()
    settings = {"gradient": gradient, "method": fitting(gradient), "rtol": 1e-9, "atol": 1e-9}

    def loss(y0: Tensor) -> Tensor:
        return (final(y0, r, t1, **settings) ** 2).sum()

    if name in FIRST_ORDER:
        with pytest.raises(RuntimeError, match=r"first derivatives only.*DirectAdjoint"):
            WAYS[way](loss, y0)
        return
    found = WAYS[way](loss, y0)
    expected = hessian(lambda y0: ((y0 / (y0 + (1 - y0) * torch.exp(-r * t1))) ** 2).sum(), y0)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("gradient", GRADIENTS.values(), ids=GRADIENTS)
def test_torch_checks_first_derivatives(gradient: iso.Gradient) -> None:
    """Of several outputs, some of them without a gradient, and with a graph that is used again."""
    y0, r, t1 = inputs()
    settings = {"gradient": gradient, "method": fitting(gradient), "rtol": 1e-10, "atol": 1e-10}

    def states(y0: Tensor, r: Tensor, t1: Tensor) -> tuple[Tensor, ...]:
        return iso.solve(lambda t, y: torch.sin(r * y + t), y0, (0.0, 0.3, t1), **settings).ys[1:].unbind()

    assert torch.autograd.gradcheck(states, (y0, r, t1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", ["radau", "kvaerno3"])
def test_implicit_methods_refuse(method: str) -> None:
    y0, r, t1 = inputs()
    loss = final(y0, r, t1, method=method).sum()
    with pytest.raises(RuntimeError, match=r"create_graph=True.*rodas5p"):
        torch.autograd.grad(loss, y0, create_graph=True)
