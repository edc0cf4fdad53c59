"""Fields that run in 16 bits: under autocast beside a float32 state, or because the state itself has 16 bits."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import isocline as iso
from isocline.gradients import GRADIENTS
from problems import fitting

HALVES = [torch.bfloat16, torch.float16]
every_gradient = pytest.mark.parametrize("gradient", GRADIENTS.values(), ids=GRADIENTS)
every_half = pytest.mark.parametrize("half", HALVES, ids=str)


class Net(nn.Module):
    """Its last operation is a matrix product, so that under autocast the result has 16 bits."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4))
        self.seen: set[torch.dtype] = set()

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        dy: Tensor = self.layers(y)
        self.seen.add(dy.dtype)
        return dy


def start() -> Tensor:
    return torch.randn(8, 4, generator=torch.Generator().manual_seed(1))


def gradients(gradient: iso.Gradient, half: torch.dtype | None, **settings: Any) -> tuple[Tensor, list[Tensor], Net]:
    """Solve and differentiate, the solve alone under autocast as torch recommends."""
    torch.manual_seed(0)
    net, y0 = Net(), start().requires_grad_()
    settings = {"method": fitting(gradient), "rtol": 1e-2, "atol": 1e-2, **settings}
    with torch.autocast("cpu", dtype=half, enabled=half is not None):
        ys = iso.solve(net, y0, (0.0, 0.3, 1.0), gradient=gradient, **settings).ys
    return ys, list(torch.autograd.grad(ys.square().mean(), (y0, *net.parameters()))), net


@every_half
@pytest.mark.parametrize("batch_dims", [0, 1])
@every_gradient
def test_a_field_of_16_bits(gradient: iso.Gradient, batch_dims: int, half: torch.dtype) -> None:
    ys, found, net = gradients(gradient, half, batch_dims=batch_dims)
    exact, right, _ = gradients(gradient, None, batch_dims=batch_dims)
    assert ys.dtype == torch.float32
    assert net.seen == {half}, "backwards as forwards"
    assert_close(ys, exact, rtol=0.05, atol=0.02)
    for a, b in zip(found, right, strict=True):
        assert a.dtype == torch.float32
        assert_close(a, b, rtol=0.1, atol=0.1 * b.abs().max().item())


def fixed(gradient: iso.Gradient, **settings: Any) -> list[Tensor]:
    options: Any = {"method": "rk4", "controller": iso.FixedStep(0.1), "rtol": None, "atol": None}
    return gradients(gradient, torch.bfloat16, **{**options, **settings})[1]


@pytest.mark.parametrize("checkpoints", [None, 2])
def test_the_replay_is_in_the_same_precision(checkpoints: int | None) -> None:
    # Parameters' gradients are added up in another order, and torch rounds some of them to bfloat16.
    expected, *_ = fixed(iso.DirectAdjoint())
    found, *_ = fixed(iso.RecursiveCheckpointAdjoint(checkpoints))
    assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_states_are_interpolated_and_equations_solved_in_full_precision() -> None:
    """Torch would do the solver's own matrix products in 16 bits, too."""
    for method in ("tsit5", "kvaerno3", "rodas5p", "bdf", "radau"):
        options: Any = {"method": method, "rtol": 1e-5, "atol": 1e-5, "dense": True}
        exact = iso.solve(lambda t, y: -y, start(), (0.0, 0.37, 1.0), **options)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = iso.solve(lambda t, y: -y, start(), (0.0, 0.37, 1.0), **options)
            between = found(0.61)
        assert found.stats.evaluations == exact.stats.evaluations
        assert_close(found.ys, exact.ys, rtol=0, atol=0)
        assert_close(between, exact(0.61), rtol=0, atol=0)


def test_weights_converted_without_gradients_are_not_kept() -> None:
    seen = set()

    def f(t: Tensor, y: Tensor) -> Tensor:
        seen.add((torch.is_grad_enabled(), torch.is_autocast_cache_enabled()))
        return -y

    with torch.autocast("cpu", dtype=torch.bfloat16):
        iso.solve(f, start(), (0.0, 1.0), method="rodas5p", rtol=1e-2)
    assert seen == {(False, False), (True, True)}


def test_events_see_what_f_sees() -> None:
    seen: set[torch.dtype] = set()

    def height(t: Tensor, y: Tensor) -> Tensor:
        product = y @ torch.ones(4)
        seen.add(product.dtype)
        return product.float().sum() - 1

    with torch.autocast("cpu", dtype=torch.bfloat16):
        sol = iso.solve(lambda t, y: -y, start().abs(), (0.0, 5.0), event=height)
    assert sol.event_t.isfinite()
    assert seen == {torch.bfloat16}


def test_without_autocast_another_precision_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"torch.bfloat16 tensor .* for a torch.float32 state; convert"):
        iso.solve(lambda t, y: -y.bfloat16(), start(), (0.0, 1.0))
    with (
        torch.autocast("cpu", dtype=torch.bfloat16),
        pytest.raises(TypeError, match=r"torch.float64 tensor .* for a torch.float32 state"),
    ):
        iso.solve(lambda t, y: -y.double(), start(), (0.0, 1.0))


@every_half
@pytest.mark.parametrize("batch_dims", [0, 1])
@every_gradient
def test_a_state_of_16_bits(gradient: iso.Gradient, batch_dims: int, half: torch.dtype) -> None:
    torch.manual_seed(0)
    net, seen = Net(), set()

    def f(t: Tensor, y: Tensor) -> Tensor:
        seen.add((t.dtype, y.dtype))
        return net(t, y)

    found = []
    for dtype in (half, torch.float32):
        net.to(dtype)
        y0 = start().to(dtype).requires_grad_()
        options: Any = {"method": fitting(gradient), "rtol": 2e-2, "atol": 2e-2, "batch_dims": batch_dims}
        ys = iso.solve(f, y0, (0.0, 0.3, 1.0), gradient=gradient, **options).ys
        found.append((ys, torch.autograd.grad(ys.float().square().mean(), y0)[0]))
        assert seen == {(dtype, dtype)}
        seen.clear()
    for a, b in zip(*found, strict=True):
        assert a.dtype == half
        assert_close(a.float(), b, rtol=0.1, atol=0.1 * b.abs().max().item())


def test_small_steps_are_not_lost_in_16_bits() -> None:
    """Each step is below the resolution of the state, which is therefore kept in 32 bits."""
    y0 = torch.ones(1, dtype=torch.float16)
    options: Any = {"method": "euler", "controller": iso.FixedStep(1 / 4096)}
    y1 = iso.solve(lambda t, y: torch.ones_like(y), y0, (0.0, 1.0), **options).ys[-1]
    assert y1.dtype == torch.float16
    assert_close(y1.item(), 2.0)


def test_default_tolerances_are_too_tight_for_16_bits() -> None:
    with pytest.raises(ValueError, match=r"below what torch.float16 resolves.*loosen rtol"):
        iso.solve(lambda t, y: -y, torch.ones(2, dtype=torch.float16), (0.0, 1.0))


@pytest.mark.parametrize("method", ["kvaerno3", "rodas5p"])
def test_implicit_methods_in_16_bits(method: str) -> None:
    """Torch solves no linear systems in them."""
    y0 = torch.ones(2, dtype=torch.bfloat16)
    y1 = iso.solve(lambda t, y: -3 * y, y0, (0.0, 1.0), method=method, rtol=1e-2, atol=1e-2).ys[-1]
    assert_close(y1.float(), torch.full((2,), -3.0).exp(), rtol=0.1, atol=0.01)
