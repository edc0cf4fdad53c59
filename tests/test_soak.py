"""Many short solves of every kind leave neither objects nor memory behind."""

from collections.abc import Callable
from contextlib import suppress

import pytest
import torch
from torch import nn

import isocline as iso
from leaks import left_by, needs_linux
from problems import ANY_STATE

pytestmark = [pytest.mark.long, needs_linux]

FIELD = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 64))
Y0 = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))


def any_method(method: str) -> None:
    fixed = iso.METHODS[method].error_order is None
    settings = {"controller": iso.FixedStep(0.5)} if fixed else {"rtol": 1e-2, "atol": 1e-2}
    iso.solve(lambda t, y: -y, torch.ones(2, 4), torch.linspace(0, 1, 4), method=method, batch_dims=1, **settings)


def trained() -> None:
    layer = iso.NeuralODE(lambda t, y: FIELD(y), rtol=1e-2, atol=1e-2)
    optimiser = torch.optim.Adam(FIELD.parameters(), 1e-6)
    optimiser.zero_grad()
    layer(Y0).square().mean().backward()
    optimiser.step()


def looked_up() -> None:
    sol = iso.solve(lambda t, y: FIELD(y), Y0, (0.0, 1.0), rtol=1e-2, atol=1e-2, dense=True)
    sol(torch.linspace(0, 1, 9))
    iso.solve(lambda t, y: FIELD(y), sol.ys[-1], (1.0, 1.5), state=sol.state, rtol=1e-2, atol=1e-2)


def bounced() -> None:
    start = torch.tensor([1.0, 0.0], requires_grad=True)
    floor = iso.Event(lambda t, y: y[0], direction=-1, jump=lambda t, y: torch.stack([0 * y[0], -y[1]]), terminal=3)
    fall = iso.solve(lambda t, y: torch.stack([y[1], 0 * y[0] - 9.81]), start, (0.0, 5.0), event=floor, rtol=1e-3)
    fall.event_t.backward()


def failed() -> None:
    iso.solve(lambda t, y: y * y, torch.ones(64, 64), (0.0, 2.0), max_steps=20, throw=False)
    with suppress(iso.SolveError):
        iso.solve(lambda t, y: y * y, torch.ones(64, 64), (0.0, 2.0), max_steps=20)


def refused() -> None:
    with pytest.raises(ValueError, match="ts"):
        iso.solve(lambda t, y: -y, Y0, (0.0, 1.0, 0.5))


def counted() -> None:
    with iso.track() as work:
        iso.solve(lambda t, y: -y, Y0, (0.0, 1.0), rtol=1e-2)
    assert work.solves == 1


KINDS = (trained, looked_up, bounced, failed, refused, counted)


def flat(call: Callable[[], object], calls: int, cycles: bool = True) -> None:
    call()
    objects, size = left_by(call, calls, cycles)
    assert objects < 10
    assert size < 4 * 2**20


@pytest.mark.parametrize("kind", KINDS, ids=[kind.__name__ for kind in KINDS])
def test_every_kind(kind: Callable[[], None]) -> None:
    """One state more for each call would be megabytes in most, one object more five hundred in all."""
    flat(kind, 500)


def test_every_method() -> None:
    """Where Jacobians are made torch's own trees leave cycles, of no tensors."""
    flat(lambda: [any_method(method) for method in ANY_STATE], 60, cycles=False)
