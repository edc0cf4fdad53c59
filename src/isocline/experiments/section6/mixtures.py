"""Batches of systems that may be solved jointly or each by itself: alike, and unlike in several ways."""

from collections.abc import Callable
from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from isocline.experiments.section6.fields import SpiralNet


@dataclass(frozen=True)
class Batch:
    """K systems.

    Attributes:
        f: The field f(t, y, *args), for y of shape (K, n), joint or per sample.
        y0: Initial states, (K, n).
        args: Each (K,), a number a system.
        t1: The end of all; they start at 0.
    """

    f: Callable[..., Tensor]
    y0: Tensor
    args: tuple[Tensor, ...]
    t1: float


def net(size: int) -> Batch:
    """One tanh net, from random starts."""
    start = torch.randn(size, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return Batch(SpiralNet(), start, (), 10.0)


def similar(size: int) -> Batch:
    """Oscillators with frequencies from 0.9 to 1.1."""
    return _oscillators(torch.linspace(1.1, 0.9, size, dtype=torch.float64))


def one_fast(size: int) -> Batch:
    """Oscillators of frequency 1, but for the first: 30."""
    frequencies = torch.ones(size, dtype=torch.float64)
    frequencies[0] = 30.0
    return _oscillators(frequencies)


def kepler(size: int) -> Batch:
    """One Kepler orbit of eccentricity 0.9 over a period, from starts evenly spread in time.

    Every one has to pass the centre, quickly, at a time of its own.
    """
    e = 0.9
    mean = torch.arange(size, dtype=torch.float64) * (2 * pi / size) + pi
    anomaly = mean.clone()
    for _ in range(50):  # Newton's iterations for Kepler's equation; they begin where it is convex
        anomaly = anomaly - (anomaly - e * anomaly.sin() - mean) / (1 - e * anomaly.cos())
    radius, minor = 1 - e * anomaly.cos(), (1 - e**2) ** 0.5
    places = anomaly.cos() - e, minor * anomaly.sin()
    speeds = -anomaly.sin() / radius, minor * anomaly.cos() / radius

    def f(t: Tensor, y: Tensor) -> Tensor:
        q, p = y.split(2, dim=-1)
        return torch.cat([p, -q * (q * q).sum(-1, keepdim=True) ** -1.5], dim=-1)

    return Batch(f, torch.stack([*places, *speeds], dim=-1), (), 2 * pi)


def van_der_pol(size: int) -> Batch:
    """Van der Pol's equation with mu from 30 down to 0.1, evenly in the logarithm."""
    mu = torch.logspace(1.4771, -1.0, size, dtype=torch.float64)

    def f(t: Tensor, y: Tensor, mu: Tensor) -> Tensor:
        x, v = y.unbind(-1)
        return torch.stack([v, mu * (1 - x**2) * v - x], dim=-1)

    return Batch(f, torch.tensor([2.0, 0.0], dtype=torch.float64).repeat(size, 1), (mu,), 20.0)


def _oscillators(frequencies: Tensor) -> Batch:
    def f(t: Tensor, y: Tensor, frequency: Tensor) -> Tensor:
        x, v = y.unbind(-1)
        return torch.stack([frequency * v, -frequency * x], dim=-1)

    start = torch.tensor([1.0, 0.0], dtype=torch.float64).repeat(len(frequencies), 1)
    return Batch(f, start, (frequencies,), 10.0)


MIXTURES: dict[str, Callable[[int], Batch]] = {
    "tanh net, random starts": net,
    "oscillators, frequencies 0.9 to 1.1": similar,
    "Kepler orbits, out of phase": kepler,
    "van der Pol, mu 0.1 to 30": van_der_pol,
    "one fast oscillator among slow": one_fast,
}
"""The first two are alike."""

ALIKE = tuple(MIXTURES)[:2]
