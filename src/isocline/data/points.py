"""Two-dimensional data sets, made on the spot: each is ``name(n, generator) -> (n, 2)``, float32, a few units wide."""

from collections.abc import Callable
from math import pi, sqrt

import torch
from torch import Generator, Tensor

Points = Callable[[int, Generator | None], Tensor]


def two_circles(n: int, generator: Generator | None = None) -> Tensor:
    """Circles of radius 3 and 1.5, as often one as the other, with normal noise of 0.24 in both coordinates."""
    radius = 3.0 - 1.5 * _choice(n, 2, generator)
    angle = 2 * pi * torch.rand(n, generator=generator)
    return _polar(radius, angle) + 0.24 * torch.randn(n, 2, generator=generator)


def two_moons(n: int, generator: Generator | None = None) -> Tensor:
    """Two half circles that reach into each other, with normal noise of 0.2."""
    lower = _choice(n, 2, generator).bool().unsqueeze(1)
    arc = _polar(torch.ones(n), pi * torch.rand(n, generator=generator))
    moons = torch.where(lower, torch.tensor([1.0, 0.5]) - arc, arc)
    return 2 * moons + torch.tensor([-1.0, -0.2]) + 0.2 * torch.randn(n, 2, generator=generator)


def eight_gaussians(n: int, generator: Generator | None = None) -> Tensor:
    """Normal distributions of width 0.35 around eight points, evenly on a circle of radius 2.83."""
    angle = 2 * pi / 8 * _choice(n, 8, generator)
    return _polar(torch.full((n,), sqrt(8)), angle) + sqrt(0.125) * torch.randn(n, 2, generator=generator)


def checkerboard(n: int, generator: Generator | None = None) -> Tensor:
    """Evenly in the eight black squares, of side 2, of a four by four board around the origin."""
    column = _choice(n, 4, generator)
    row = 2 * _choice(n, 2, generator) + column % 2
    return 2 * (torch.stack([column, row], dim=1) + torch.rand(n, 2, generator=generator)) - 4


def pinwheel(n: int, generator: Generator | None = None) -> Tensor:
    """Five blades that bend: normal ones, stretched along their radius, and turned the more the farther out."""
    radius = 1 + 0.3 * torch.randn(n, generator=generator)
    across = 0.1 * torch.randn(n, generator=generator)
    turn = 2 * pi / 5 * _choice(n, 5, generator) + 0.25 * radius.exp()
    cos, sin = turn.cos(), turn.sin()
    return 2 * torch.stack([cos * radius - sin * across, sin * radius + cos * across], dim=1)


def two_spirals(n: int, generator: Generator | None = None) -> Tensor:
    """Two arms of one and a half turns, opposite to each other, with normal noise of 0.1."""
    angle = 3 * pi * torch.rand(n, generator=generator).sqrt()
    side = 1 - 2 * _choice(n, 2, generator)
    return _polar(side * angle / 3, -angle) + 0.1 * torch.randn(n, 2, generator=generator)


POINTS: dict[str, Points] = {
    "two circles": two_circles,
    "two moons": two_moons,
    "8 Gaussians": eight_gaussians,
    "checkerboard": checkerboard,
    "pinwheel": pinwheel,
    "2 spirals": two_spirals,
}
"""All of them, by the names they have in papers."""


def _choice(n: int, options: int, generator: Generator | None) -> Tensor:
    return torch.randint(options, (n,), generator=generator).float()


def _polar(radius: Tensor, angle: Tensor) -> Tensor:
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
