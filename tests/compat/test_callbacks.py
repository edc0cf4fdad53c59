"""Callbacks: when they are called, and with what."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from isocline.compat.torchdiffeq import odeint, odeint_adjoint
from isocline.compat.torchdiffeq.methods import SOLVERS

FIXED = [name for name, method in SOLVERS.items() if method.fixed]
ADAPTIVE = ["dopri8", "dopri5", "tsit5", "bosh3"]


class Told(nn.Module):
    """Notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.k = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
        self.log: list[tuple[str, float, Any, float]] = []
        for name in ("callback_step", "callback_accept_step", "callback_reject_step"):
            for suffix in ("", "_adjoint"):
                setattr(self, name + suffix, self.note(name + suffix))

    def note(self, name: str) -> Any:
        return lambda t0, y0, dt: self.log.append((name, float(t0), y0, float(dt)))

    def forward(self, t: Tensor, y: Any) -> Any:
        self.log.append(("f", float(t.detach()), None, 0.0))
        f = lambda y: self.k * (20 * t).cos() * y  # noqa: E731
        return f(y) if isinstance(y, Tensor) else tuple(map(f, y))

    def told(self, name: str) -> list[tuple[str, float, Any, float]]:
        return [entry for entry in self.log if entry[0] == name]


def y0() -> Tensor:
    return torch.ones(2, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("method", ADAPTIVE)
@pytest.mark.parametrize("t", [(0.0, 1.0), (1.0, 0.3, 0.0)])
def test_adaptive(method: str, t: tuple[float, ...]) -> None:
    told = Told()
    ys = odeint_adjoint(told, y0(), torch.tensor(t, dtype=torch.float64), method=method, rtol=1e-6, atol=1e-6)
    steps, accepted, rejected = (told.told(f"callback_{x}") for x in ("step", "accept_step", "reject_step"))
    assert len(steps) == len(accepted) + len(rejected) and rejected
    assert sum(entry[3] for entry in accepted) == pytest.approx(1.0)
    assert all(isinstance(entry[2], Tensor) and entry[2].shape == (2,) for entry in steps)
    assert steps[0][1] == t[0]
    # Each is announced before f is evaluated for it.
    first = next(i for i, entry in enumerate(told.log) if entry[0] == "callback_step")
    assert [entry[0] for entry in told.log[:first]] == ["f", "f"]
    told.log.clear()
    ys.sum().backward()
    steps, accepted, rejected = (told.told(f"callback_{x}_adjoint") for x in ("step", "accept_step", "reject_step"))
    assert len(steps) == len(accepted) + len(rejected)
    assert sum(entry[3] for entry in accepted) == pytest.approx(1.0)
    assert [part.shape for part in steps[0][2]] == [(), (2,), (2,), ()]  # t, y, adj_y, k
    assert steps[0][1] == t[-1]


@pytest.mark.parametrize("method", FIXED)
@pytest.mark.filterwarnings("ignore:Solver '.*' does not support callbacks")
def test_fixed(method: str) -> None:
    told = Told()
    ys = odeint_adjoint(told, y0(), torch.tensor([0.0, 1.0]), method=method, options={"step_size": 0.1})
    assert len(told.told("callback_step")) == 10
    assert not told.told("callback_accept_step")
    assert [entry[3] for entry in told.told("callback_step")] == pytest.approx([0.1] * 10)
    ys.sum().backward()
    # Implicit methods take their own steps again instead of solving backwards.
    expected = 10 if SOLVERS[method].choose({}).integrates else 0
    assert len(told.told("callback_step_adjoint")) == expected


def test_tuples_are_shown_as_such() -> None:
    told = Told()
    odeint(told, (y0(), y0()[0]), torch.tensor([0.0, 0.1]), rtol=1e-3, atol=1e-3)
    assert [part.shape for part in told.told("callback_step")[0][2]] == [(2,), ()]


def test_steps_on_the_times() -> None:
    told = Told()
    t = torch.tensor([0.0, 0.1, 0.4, 1.0], dtype=torch.float64)
    del told.callback_accept_step, told.callback_reject_step
    odeint(told, y0(), t, method="euler")
    assert [entry[1] for entry in told.told("callback_step")] == t[:-1].tolist()
    assert [entry[3] for entry in told.told("callback_step")] == pytest.approx(t.diff().tolist())
