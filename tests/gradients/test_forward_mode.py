"""``ForwardMode``: tangents that go along. What all gradient methods owe is in test_contract.py."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import hessian, jacfwd, jvp

import isocline as iso
from problems import ANY_STATE

from .problems import LAYOUTS, Inputs, draw, gradients, leaves_of, states, worst

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
"""Of torch's own: when forward mode is first used."""

FORWARD = iso.ForwardMode()
TS = torch.tensor([0.0, 0.31, 0.7, 1.2], dtype=torch.float64)


def decay(t: Tensor, y: Tensor, k: Tensor) -> Tensor:
    return -k * y


def inputs() -> tuple[Tensor, Tensor]:
    return torch.tensor([1.0, 0.4], dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)


def solve(y0: Tensor, k: Tensor, **settings: Any) -> Tensor:
    return iso.solve(decay, y0, TS, args=(k,), gradient=FORWARD, **{"rtol": 1e-9, "atol": 1e-9, **settings}).ys


def exact(y0: Tensor, k: Tensor) -> Tensor:
    return y0 * torch.exp(-k * TS).unsqueeze(1)


PLACES = [(m, "joint") for m in ANY_STATE] + [(m, "nested") for m in ("tsit5", "auto", "bdf")]


@pytest.mark.parametrize(("method", "layout"), PLACES)
def test_tangents_are_those_of_reverse_mode(method: str, layout: str) -> None:
    """``<w, J v> = <J^T w, v>`` for every kind of input at once."""
    case, settings = LAYOUTS[layout], {"method": method, "controller": iso.FixedStep(0.4)}
    p = leaves_of(case)
    loss = (case.weights() * states(case, p, **settings)).sum()
    bars = torch.autograd.grad(loss, list(p.values()))
    point = tuple(x.detach() for x in p.values())
    directions = tuple(draw(*x.shape, seed=30 + i) for i, x in enumerate(point))
    expected = sum((bar * v).sum() for bar, v in zip(bars, directions, strict=True))

    def weighed(*values: Tensor) -> Tensor:
        given: Inputs = dict(zip(p, values, strict=True))
        return (case.weights() * states(case, given, gradient=FORWARD, **settings)).sum()

    value, found = jvp(weighed, point, directions)
    torch.testing.assert_close(value, loss.detach(), rtol=1e-9, atol=0)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    with forward_ad.dual_level():
        dual = weighed(*map(forward_ad.make_dual, point, directions))
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, expected, rtol=1e-9, atol=1e-10)


def test_no_graph_is_kept() -> None:
    y0, k = inputs()
    net = nn.Linear(2, 2).double()
    with forward_ad.dual_level():
        ys = iso.solve(lambda t, y: net(y) - k * y, forward_ad.make_dual(y0, y0), TS, gradient=FORWARD).ys
        assert not ys.requires_grad
        assert forward_ad.unpack_dual(ys).tangent is not None
        assert iso.solve(lambda t, y: net(y), y0, TS).ys.requires_grad


@pytest.mark.parametrize("steps", [10, 100])
def test_memory_does_not_grow_with_the_steps(steps: int) -> None:
    """What autograd keeps are the inputs and the saved states, and the Jacobian of these."""
    y0, k = inputs()
    kept: list[int] = []
    settings = {"method": "rk4", "controller": iso.FixedStep(1.2 / steps), "rtol": None, "atol": None}
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        ys = solve(y0, k.requires_grad_(), **settings)
    assert sum(kept) < 40
    call = ys.grad_fn.call if hasattr(ys.grad_fn, "call") else ys.grad_fn.next_functions[0][0].call
    assert sum(part.numel() for part in call.rule.jacobians) == ys.numel()


def test_jacobian_of_many_outputs() -> None:
    y0, k = inputs()
    found, expected = jacfwd(solve, argnums=(0, 1))(y0, k), jacfwd(exact, argnums=(0, 1))(y0, k)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("method", ["tsit5", "rodas5p", "kvaerno5"])
def test_forward_over_forward(method: str) -> None:
    y0, k = inputs()
    found = jacfwd(jacfwd(lambda k: solve(y0, k, method=method)))(k)
    torch.testing.assert_close(found, hessian(lambda k: exact(y0, k))(k), rtol=1e-5, atol=1e-7)


def test_backward_evaluates_nothing() -> None:
    y0, k = inputs()
    k.requires_grad_()
    sol = iso.solve(decay, y0, TS, args=(k,), gradient=FORWARD)
    evaluations = sol.stats.evaluations
    plain = iso.solve(decay, y0, TS, args=(k,)).stats.evaluations
    assert evaluations == plain + 1  # to see which tensors f uses
    sol.ys.sum().backward()
    assert sol.stats.evaluations == evaluations
    assert sol.stats.backward.evaluations == 0


@pytest.mark.parametrize("batch_dims", [0, 1])
def test_dense_output(batch_dims: int) -> None:
    y0, k, t = draw(3, 2, seed=1), torch.tensor(0.7, dtype=torch.float64), torch.tensor([0.1, 0.45, 1.1])
    found = []
    for gradient in (FORWARD, iso.DirectAdjoint()):
        leaves = y0.clone().requires_grad_(), k.clone().requires_grad_()
        sol = iso.solve(decay, leaves[0], TS, args=(leaves[1],), batch_dims=batch_dims, dense=True, gradient=gradient)
        found.append(torch.autograd.grad(sol(t).sin().sum() + sol.ys.sum(), leaves))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_events() -> None:
    """A ball dropped from h hits the ground at sqrt(2 h / g), and g sqrt(2 h / g) fast."""
    h, g = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (3.0, 9.81))
    y0 = torch.stack([h, torch.zeros_like(h)])
    event = iso.Event(lambda t, y, g: y[..., 0])
    sol = iso.solve(
        lambda t, y, g: torch.stack([y[..., 1], -g]), y0, (0.0, 5.0), args=(g,), event=event, gradient=FORWARD
    )
    time, speed = (2 * h / g).sqrt(), -(2 * h * g).sqrt()
    for ours, theirs in ((sol.event_t, time), (sol.event_y[1], speed)):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=0)
        found, expected = (torch.autograd.grad(x, (h, g), retain_graph=True) for x in (ours, theirs))
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=0)


def test_what_has_no_tangent_is_refused() -> None:
    class Twice(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x: Tensor) -> Tensor:
            return 2 * x

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            pass

        @staticmethod
        def backward(ctx: Any, bar: Tensor) -> Tensor:
            return 2 * bar

    y0, k = inputs()
    k.requires_grad_()
    with pytest.raises(RuntimeError, match="implement the jvp function"):
        iso.solve(lambda t, y: -Twice.apply(k) * y, y0, TS, gradient=FORWARD)


def test_reverse_mode_transforms_are_refused() -> None:
    y0, k = inputs()
    for transform in (torch.func.grad, torch.func.jacrev):
        with pytest.raises(RuntimeError, match=r"use jvp or jacfwd, or gradient=isocline\.DirectAdjoint"):
            transform(lambda k: solve(y0, k).sum())(k)


def test_a_tensor_first_used_later_is_refused() -> None:
    y0, k = inputs()
    late = k.clone().requires_grad_()
    with pytest.raises(RuntimeError, match=r"not used in the first evaluation.*params=.*DirectAdjoint"):
        iso.solve(lambda t, y: -k * y if t < 0.5 else -late * y, y0.requires_grad_(), TS, gradient=FORWARD)
    sol = iso.solve(
        lambda t, y: -k * y if t < 0.5 else -late * y,
        y0,
        TS,
        gradient=FORWARD,
        params=[late],
        controller=iso.FixedStep(0.1),
    )
    (bar,) = torch.autograd.grad(sol.ys[-1].sum(), late)
    assert bar < -0.1


def test_what_f_does_under_no_grad_is_constant() -> None:
    y0, k = inputs()
    found = []
    for gradient in (FORWARD, iso.DirectAdjoint()):
        leaf = k.clone().requires_grad_()

        def f(t: Tensor, y: Tensor, k: Tensor = leaf) -> Tensor:
            with torch.no_grad():
                scale = (k * y).sum().tanh()
            return -k * y * scale

        found += torch.autograd.grad(iso.solve(f, y0, TS, gradient=gradient).ys.sum(), leaf)
    torch.testing.assert_close(*found, rtol=1e-10, atol=0)


EVERY = [(m, "joint") for m in ANY_STATE] + [(m, "own-times") for m in ("tsit5", "vern7", "auto", "kencarp4", "bdf")]


@pytest.mark.parametrize(("method", "layout"), [*EVERY, ("tsit5", "nested"), ("rk4", "backward")])
def test_backward_is_that_of_direct(method: str, layout: str) -> None:
    case, settings = LAYOUTS[layout], {"method": method, "controller": iso.FixedStep(0.4)}
    error, where = worst(gradients(case, gradient=FORWARD, **settings), gradients(case, **settings))
    assert error < 1e-9, where


def test_rejected_steps_and_lanes_that_leave() -> None:
    case, settings = LAYOUTS["own-times"], {"controller": iso.PID(rtol=1e-4, atol=1e-4, dt0=1.0)}
    error, where = worst(gradients(case, gradient=FORWARD, **settings), gradients(case, **settings))
    assert error < 1e-10, where
