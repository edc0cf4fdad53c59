"""Beside torchdiffeq itself: as many evaluations with dopri5, and the same results where it is right."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from isocline.compat.torchdiffeq import odeint, odeint_adjoint

peer = pytest.importorskip("torchdiffeq")

F64 = torch.float64


class Counted:
    def __init__(self, f: Callable[[Tensor, Any], Any]) -> None:
        self.f, self.calls = f, 0

    def __call__(self, t: Tensor, y: Any) -> Any:
        self.calls += 1
        return self.f(t, y)


def lorenz(t: Tensor, y: Tensor) -> Tensor:
    x, v, z = y.unbind(-1)
    return torch.stack([10 * (v - x), x * (28 - z) - v, x * v - 8 / 3 * z], dim=-1)


def van_der_pol(t: Tensor, y: Tensor) -> Tensor:
    return torch.stack([y[1], 5 * (1 - y[0] ** 2) * y[1] - y[0]])


def kepler(t: Tensor, y: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    q, p = y
    return p, -q / q.norm() ** 3


torch.manual_seed(1)
NETWORK = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2)).requires_grad_(False)


PROBLEMS: dict[str, tuple[Any, Any, float]] = {
    "lorenz": (lorenz, torch.tensor([[1.0, 2.0, 20.0], [0.5, -1.0, 15.0]], dtype=F64), 3.0),
    "van der pol": (van_der_pol, torch.tensor([2.0, 0.0], dtype=F64), 12.0),
    "kepler, a tuple": (kepler, (torch.tensor([0.4, 0.0], dtype=F64), torch.tensor([0.0, 2.0], dtype=F64)), 10.0),
    "spiral": (lambda t, y: y**3 @ torch.tensor([[-0.1, 2.0], [-2.0, -0.1]]), torch.tensor([[2.0, 0.0]]), 10.0),
    "network": (lambda t, y: 3 * NETWORK(y), torch.randn(16, 2), 2.0),
    "stiff": (lambda t, y: -200 * (y - t.cos()), torch.tensor([0.0], dtype=F64), 2.0),
    "backwards": (lambda t, y: y * (3 * t).cos(), torch.ones(4, dtype=F64), -5.0),
}


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("count", [2, 50])
@pytest.mark.parametrize("tolerance", [1e-3, 1e-5, 1e-7])
def test_evaluations_of_dopri5(name: str, count: int, tolerance: float) -> None:
    """Within 5 %, or one step."""
    f, y0, end = PROBLEMS[name]
    first = y0[0] if isinstance(y0, tuple) else y0
    t = torch.linspace(0.0, end, count, dtype=first.dtype)
    calls = []
    for solve in (odeint, peer.odeint):
        counted = Counted(f)
        solve(counted, y0, t, rtol=tolerance, atol=tolerance, method="dopri5")
        calls.append(counted.calls)
    assert abs(calls[0] - calls[1]) <= max(6, 0.05 * calls[1])


@pytest.mark.parametrize("name", ["lorenz", "kepler, a tuple", "network"])
def test_default_tolerances(name: str) -> None:
    f, y0, _ = PROBLEMS[name]
    t = torch.linspace(0.0, 1.0, 11)
    ours, theirs = (solve(f, y0, t) for solve in (odeint, peer.odeint))
    pairs = zip(ours, theirs, strict=True) if isinstance(y0, tuple) else [(ours, theirs)]
    for a, b in pairs:
        assert a.shape == b.shape and a.dtype == b.dtype
        assert (a - b).abs().max() < 2e-5


@pytest.mark.parametrize("options", [{}, {"first_step": 0.1}, {"safety": 0.5}, {"dfactor": 0.5, "ifactor": 2.0}])
@pytest.mark.parametrize("more", [{}, {"max_step": 0.05}, {"norm": lambda y: y.abs().max()}, {"min_step": 0.02}])
def test_options_have_the_same_effect(options: dict[str, Any], more: dict[str, Any]) -> None:
    calls = []
    for solve in (odeint, peer.odeint):
        counted = Counted(van_der_pol)
        y0 = torch.tensor([2.0, 0.0], dtype=F64)
        solve(counted, y0, torch.tensor([0.0, 3.0]), rtol=1e-5, atol=1e-5, options={**options, **more})
        calls.append(counted.calls)
    assert abs(calls[0] - calls[1]) <= max(6, 0.05 * calls[1])


def test_the_adjoint_costs_less_and_errs_no_more() -> None:
    """Backwards through 50 times."""

    class Field(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.A = nn.Parameter(torch.tensor([[-0.1, 2.0], [-2.0, -0.1]], dtype=F64))
            self.calls = 0

        def forward(self, t: Tensor, y: Tensor) -> Tensor:
            self.calls += 1
            return y**3 @ self.A

    t, found = torch.linspace(0.0, 5.0, 50, dtype=F64), []
    for solve, tolerance in ((odeint, 1e-11), (odeint_adjoint, 1e-6), (peer.odeint_adjoint, 1e-6)):
        field = Field()
        ys = solve(field, torch.tensor([[1.5, 0.0]], dtype=F64), t, rtol=tolerance, atol=tolerance)
        forward, field.calls = field.calls, 0
        ys.square().mean().backward()
        found.append((forward, field.calls, field.A.grad))
    (_, _, exact), (forward, backward, ours), (their_forward, their_backward, theirs) = found
    assert forward == their_forward
    assert backward < 0.8 * their_backward
    assert (ours - exact).abs().max() < 2e-4 * exact.abs().max()
    assert (theirs - exact).abs().max() < 2e-4 * exact.abs().max()
