"""Target densities in the plane that are known up to a factor: p(z) is proportional to exp(-U(z))."""

from collections.abc import Callable
from math import pi

import torch
from torch import Tensor

Potential = Callable[[Tensor], Tensor]
"""U: (..., 2) -> (...)."""

WALL = 4.0
"""Targets are wanted for |z1| up to this."""


def ring(z: Tensor) -> Tensor:
    """U1: a ring of radius 2 that is dense in two places."""
    z1 = z[..., 0]
    sides = torch.logaddexp(_bell((z1 - 2) / 0.6), _bell((z1 + 2) / 0.6))
    return -_bell((torch.linalg.vector_norm(z, dim=-1) - 2) / 0.4) - sides


def wave(z: Tensor) -> Tensor:
    """U2: a sine wave."""
    return -_bell((z[..., 1] - _w1(z)) / 0.4) + _wall(z)


def gap(z: Tensor) -> Tensor:
    """U3: a wave that parts, and comes together again."""
    offset = z[..., 1] - _w1(z)
    below = 3 * torch.exp(_bell((z[..., 0] - 1) / 0.6))
    return -torch.logaddexp(_bell(offset / 0.35), _bell((offset + below) / 0.35)) + _wall(z)


def fork(z: Tensor) -> Tensor:
    """U4: a wave that parts for good."""
    offset = z[..., 1] - _w1(z)
    below = 3 * torch.sigmoid((z[..., 0] - 1) / 0.3)
    return -torch.logaddexp(_bell(offset / 0.4), _bell((offset + below) / 0.35)) + _wall(z)


POTENTIALS: dict[str, Potential] = {"U1": ring, "U2": wave, "U3": gap, "U4": fork}
"""Table 1 of Rezende & Mohamed 2015, arXiv:1505.05770.

As printed, U2 to U4 do not grow with z1, so that exp(-U) has no integral, and a flow could go on spreading for ever.
Here they do beyond |z1| = 4, the end of the paper's pictures: by half the square of (|z1| - 4) / 0.4.
"""


def log_normaliser(potential: Potential, reach: float = 8.0, count: int = 1601) -> float:
    """Return the logarithm of the integral of exp(-U), by the trapezoidal rule on a square grid.

    Args:
        potential: U.
        reach: half of the square's side, beyond which exp(-U) is nothing.
        count: points along it.
    """
    line = torch.linspace(-reach, reach, count, dtype=torch.float64)
    energies = potential(torch.cartesian_prod(line, line))
    return float(torch.logsumexp(-energies, dim=0) + 2 * (line[1] - line[0]).log())


def _bell(x: Tensor) -> Tensor:
    return -x.square() / 2


def _w1(z: Tensor) -> Tensor:
    return torch.sin(2 * pi * z[..., 0] / 4)


def _wall(z: Tensor) -> Tensor:
    return ((z[..., 0].abs() - WALL).clamp(min=0) / 0.4).square() / 2
