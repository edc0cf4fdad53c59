"""Event mode, ``odeint_event`` and ``odeint_dense``."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from isocline.compat.torchdiffeq import odeint, odeint_adjoint, odeint_dense, odeint_event
from isocline.compat.torchdiffeq.methods import SOLVERS

F64 = torch.float64
METHODS = [name for name in SOLVERS if name != "scipy_solver"]


def forced(t: Tensor, y: Tensor) -> Tensor:
    return t.cos() * torch.ones_like(y)


def span(first: float = 0.0, second: float = 1.0) -> Tensor:
    return torch.tensor([first, second], dtype=F64)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_every_method(method: str, direction: float) -> None:
    """y = sin(t) reaches 1/2 at pi / 6, in steps that go on beyond t[1]."""
    options = {"step_size": 0.005} if SOLVERS[method].fixed else {}
    t, ys = odeint(
        forced,
        torch.zeros(2, 1, dtype=F64),
        span(0.0, direction * 1e-3),
        event_fn=lambda t, y: y.mean() - 0.5 * direction,
        method=method,
        options=options,
    )
    loose = method in ("euler", "implicit_euler")
    assert t.shape == () and ys.shape == (2, 2, 1)
    assert abs(t.item() - direction * torch.pi / 6) < (5e-3 if loose else 1e-4)
    assert (ys[1] - 0.5 * direction).abs().max() < 1e-9 and not ys[0].any()


def test_the_first_component_that_changes_its_sign() -> None:
    event = lambda t, y: torch.stack([y[0] - 2, 0.7 - t, -1 - t])  # noqa: E731
    t, _ = odeint(lambda t, y: torch.ones_like(y), torch.zeros(1, dtype=F64), span(), event_fn=event)
    assert t.item() == pytest.approx(0.7)


def test_an_event_at_the_start() -> None:
    y0 = torch.ones(3)
    t, ys = odeint(lambda t, y: y, y0, torch.tensor([2.0, 3.0]), event_fn=lambda t, y: y.sum() - 3)
    assert t.item() == 2.0 and torch.equal(ys, torch.stack([y0, y0]))


def test_wrong_calls() -> None:
    y0 = torch.zeros(1, dtype=F64)
    with pytest.raises(ValueError, match="We require len"):
        odeint(forced, y0, torch.linspace(0, 1, 3), event_fn=lambda t, y: y[0] - 1)
    with pytest.raises(AssertionError, match="requires `step_size`"):
        odeint(forced, y0, span(), event_fn=lambda t, y: y[0] - 0.5, method="rk4")


def test_events_that_do_not_happen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isocline.compat.torchdiffeq.event.MOST", 50)
    y0 = torch.zeros(1, dtype=F64)
    with pytest.raises(RuntimeError, match="Reached maximum number of iterations 50"):
        odeint(forced, y0, span(), event_fn=lambda t, y: y[0] - 5, method="euler", options={"step_size": 0.01})
    with pytest.raises(RuntimeError, match="no event until"):
        odeint(lambda t, y: 0 * y, y0 + 1, span(), event_fn=lambda t, y: y[0] + 1)
    with pytest.raises(AssertionError, match="max_num_steps exceeded"):
        odeint(forced, y0, span(), event_fn=lambda t, y: y[0] - 5, options={"max_num_steps": 20})


class Fall(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.tensor(9.8, dtype=F64))
        self.floor = nn.Parameter(torch.tensor(0.5, dtype=F64))

    def forward(self, t: Tensor, y: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return y[1], -self.g

    def height(self, t: Tensor, y: tuple[Tensor, Tensor]) -> Tensor:
        return (y[0] - self.floor).reshape(1)


@pytest.mark.parametrize("interface", [odeint, odeint_adjoint])
def test_gradients(interface: Callable[..., Any]) -> None:
    """Of time and state at the event; the event function's own parameters have theirs, too."""
    fall = Fall()
    h = torch.tensor(3.0, dtype=F64, requires_grad=True)
    v = torch.tensor(1.0, dtype=F64, requires_grad=True)
    t0 = torch.tensor(0.2, dtype=F64, requires_grad=True)
    t, (height, speed) = odeint_event(fall, (h, v), t0, event_fn=fall.height, odeint_interface=interface, atol=1e-8)
    took = (v + (v**2 + 2 * fall.g * (h - fall.floor)).sqrt()) / fall.g
    inputs = [h, v, t0, fall.g, fall.floor]
    for got, expected in ((t, t0 + took), (speed[-1], v - fall.g * took), (height[-1], fall.floor * 1.0)):
        assert (got - expected).abs() < 1e-7
        a, b = (torch.autograd.grad(x, inputs, retain_graph=True, allow_unused=True) for x in (got, expected))
        for x, y in zip(a, b, strict=True):
            assert (0.0 if x is None else x) == pytest.approx(0.0 if y is None else y.item(), abs=1e-6)


def test_backwards_in_time() -> None:
    t0 = torch.tensor(0.0, dtype=F64, requires_grad=True)
    t, ys = odeint_event(forced, torch.zeros(1, dtype=F64), t0, event_fn=lambda t, y: y + 0.5, reverse_time=True)
    assert t.item() == pytest.approx(-torch.pi / 6) and ys.shape == (2, 1)
    (slope,) = torch.autograd.grad(t, t0)  # sin(t) - sin(t0) = -1/2
    assert slope.item() == pytest.approx(1 / torch.cos(torch.tensor(torch.pi / 6)).item())


class TestDense:
    def test_any_method_and_any_times(self) -> None:
        y0, times = torch.ones(2, dtype=F64), torch.linspace(0.0, 2.0, 17, dtype=F64)
        for method in ("dopri5", "dopri8", "tsit5", "rk4"):
            options = {"step_size": 0.05} if method == "rk4" else {}
            path = odeint_dense(lambda t, y: -t * y, y0, 0.0, 2.0, method=method, options=options)
            assert (path(times)[:, 0] - (-(times**2) / 2).exp()).abs().max() < 1e-6
            assert path(times[3]).shape == (2,)

    def test_tuples_backwards_in_time(self) -> None:
        path = odeint_dense(lambda t, y: (y[1], -y[0]), (torch.ones(()), torch.zeros(3, 1)[0]), torch.tensor(1.0), 0)
        a, b = path(torch.tensor([0.25, 0.5]))
        assert a.shape == (2,) and b.shape == (2, 1)

    def test_gradients(self) -> None:
        k, t = (torch.tensor(x, dtype=F64, requires_grad=True) for x in (0.7, 0.6))
        path = odeint_dense(lambda t, y: -k * y, torch.ones(1, dtype=F64), 0.0, 1.0)
        by_k, by_t = torch.autograd.grad(path(t).sum(), [k, t])
        value = (-k * t).exp().item()
        assert by_k.item() == pytest.approx(-t.item() * value, abs=1e-6)
        assert by_t.item() == pytest.approx(-k.item() * value, abs=1e-6)
