"""Data sets and target densities in the plane."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Generator, Tensor

from isocline.data import POINTS, POTENTIALS, log_normaliser

every_set = pytest.mark.parametrize("name", POINTS)


def draw(name: str, n: int = 4000, seed: int = 0) -> Tensor:
    return POINTS[name](n, Generator().manual_seed(seed))


@every_set
def test_sets_are_seeded_and_of_one_size(name: str) -> None:
    x = draw(name)
    assert (x.shape, x.dtype) == ((4000, 2), torch.float32)
    assert torch.equal(x, draw(name))
    assert not torch.equal(x, draw(name, seed=1))
    assert x.abs().max() < 5.5
    assert x.mean(0).abs().max() < 0.5
    assert (x.std(0) > 1.0).all()


def test_circles() -> None:
    radius = draw("two circles", 100_000).norm(dim=1)
    inner = radius[radius < 2.25]
    assert len(inner) / 1e5 == pytest.approx(0.5, abs=0.01)
    # The mean distance of points around a circle is larger than its radius by noise^2 / (2 radius).
    assert inner.mean().item() == pytest.approx(1.5 + 0.24**2 / 3, abs=0.01)
    assert radius[radius > 2.25].std().item() == pytest.approx(0.24, abs=0.01)


def test_moons() -> None:
    x = (draw("two moons", 100_000) - torch.tensor([-1.0, -0.2])) / 2
    upper = ((x.norm(dim=1) - 1).abs() < 0.3) & (x[:, 1] > -0.2)
    lower = (((x - torch.tensor([1.0, 0.5])).norm(dim=1) - 1).abs() < 0.3) & (x[:, 1] < 0.7)
    assert (upper | lower).float().mean() > 0.99
    assert abs(upper.float().mean() - lower.float().mean()) < 0.01


def test_gaussians_have_the_entropy_of_their_mixture() -> None:
    x = draw("8 Gaussians", 50_000)
    angle = torch.arange(8) * math.pi / 4
    centres = 8**0.5 * torch.stack([angle.cos(), angle.sin()], dim=1)
    squares = torch.cdist(x, centres).square()
    assert squares.min(1).values.mean().item() == pytest.approx(2 * 0.125, rel=0.03)
    assert torch.bincount(squares.argmin(1)).min() > 0.95 * 50_000 / 8


def test_the_checkerboard() -> None:
    x = draw("checkerboard", 50_000)
    cells = ((x + 4) / 2).floor().long()
    assert cells.min() == 0
    assert cells.max() == 3
    assert (cells.sum(1) % 2 == 0).all()
    assert torch.bincount(4 * cells[:, 0] + cells[:, 1], minlength=16)[0] == pytest.approx(50_000 / 8, rel=0.05)


def test_pinwheel_and_spirals_look_the_same_when_turned() -> None:
    for name, turns in (("pinwheel", 5), ("2 spirals", 2)):
        x = draw(name, 100_000)
        angle = torch.tensor(2 * math.pi / turns)
        turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
        edges = [torch.linspace(-4, 4, 17)] * 2
        one, other = (torch.histogramdd(points, edges).hist / len(x) for points in (x, x @ turn.mT))
        assert (one - other).abs().sum() < 0.06
        assert (one - one.flip(0)).abs().sum() > 0.3


def test_potentials_at_points_worked_out_by_hand() -> None:
    at = torch.tensor([[2.0, 0.0], [0.0, 0.0], [1.0, 1.0], [1.0, -2.0]], dtype=torch.float64)
    expected = {
        "U1": [-math.log(1 + math.exp(-((4 / 0.6) ** 2) / 2)), 12.5 - math.log(2) + (2 / 0.6) ** 2 / 2],
        "U2": [0.0, 0.0, 0.0, 28.125],  # w1 = 0, 0, 1, 1
        "U3": [None, None, 0.0, 0.0],  # at z1 = 1 the second branch is 3 below
        "U4": [None, None, None, -math.log(math.exp(-28.125) + math.exp(-((1.5 / 0.35) ** 2) / 2))],
    }
    for name, values in expected.items():
        for value, found in zip(values, POTENTIALS[name](at), strict=False):
            assert value is None or found.item() == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("name", POTENTIALS)
def test_potentials_have_a_normaliser_that_does_not_depend_on_the_grid(name: str) -> None:
    values = [log_normaliser(POTENTIALS[name], *grid) for grid in ((8.0, 801), (8.0, 1601), (12.0, 1601))]
    for one, other in pairwise(values):
        assert one == pytest.approx(other, abs=1e-4)


def test_the_normaliser_of_a_normal_density() -> None:
    assert log_normaliser(lambda z: z.square().sum(-1) / 2) == pytest.approx(math.log(2 * math.pi), abs=1e-9)
    # U2 is a normal density across the wave, 8 long, with ends that are halves of one.
    area = math.sqrt(2 * math.pi) * 0.4 * (8 + math.sqrt(2 * math.pi) * 0.4)
    assert log_normaliser(POTENTIALS["U2"]) == pytest.approx(math.log(area), abs=1e-6)
