"""AugmentedNeuralODE: what one more dimension is good for."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import isocline as iso


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, 16), nn.Tanh(), nn.Linear(16, width))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.net(y)


def error_on_the_mirror_image(make: Callable[[], nn.Module]) -> float:
    """Train on x -> -x with a linear read-out that may not flip the sign by itself: the first coordinate."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = make()
    x = torch.linspace(-1, 1, 9).unsqueeze(1)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.03)
    for _ in range(120):
        optimizer.zero_grad()
        loss = (layer(x)[:, :1] + x).square().mean()
        loss.backward()
        optimizer.step()
    return loss.item()


SETTINGS = {"method": "rk4", "controller": iso.FixedStep(0.125)}


def test_learns_the_mirror_image() -> None:
    assert error_on_the_mirror_image(lambda: iso.AugmentedNeuralODE(Mlp(2), channels=1, **SETTINGS)) < 0.01


def test_a_plain_neural_ode_cannot() -> None:
    # Trajectories keep their order, so the best is to send all to the middle: the mean of x^2.
    best = torch.linspace(-1, 1, 9).square().mean().item()
    assert error_on_the_mirror_image(lambda: iso.NeuralODE(Mlp(1), **SETTINGS)) > 0.9 * best


@pytest.mark.parametrize(
    ("dim", "shape", "extended"),
    [(1, (3, 2), (3, 5)), (1, (3, 2, 4, 4), (3, 5, 4, 4)), (-1, (3, 4, 2), (3, 4, 5)), (0, (2,), (5,))],
)
def test_adds_zeros_in_the_chosen_dimension(dim: int, shape: tuple[int, ...], extended: tuple[int, ...]) -> None:
    layer = iso.AugmentedNeuralODE(lambda t, y: torch.zeros_like(y), channels=3, dim=dim)
    y0 = torch.randn(shape)
    out = layer(y0)
    assert out.shape == extended
    kept, added = out.split([shape[dim], 3], dim=dim)
    assert torch.equal(kept, y0)
    assert not added.any()


def test_keeps_the_dtype() -> None:
    layer = iso.AugmentedNeuralODE(lambda t, y: -y, channels=1)
    assert layer(torch.ones(2, 1, dtype=torch.float64)).dtype == torch.float64


def test_passes_arguments_and_settings_on() -> None:
    layer = iso.AugmentedNeuralODE(lambda t, y, k: k * y, channels=1, method="euler", controller=iso.FixedStep(0.5))
    with torch.no_grad():
        out = layer(torch.ones(1, 1), 1.0)
    assert out.tolist() == [[2.25, 0.0]]
    assert layer.ode.stats.evaluations == 2


def test_needs_a_channel() -> None:
    with pytest.raises(ValueError, match="channels"):
        iso.AugmentedNeuralODE(lambda t, y: -y, channels=0)
