"""The spirals of section 5.1 of Chen et al. 2018."""

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from isocline.models.series.batch import Series

TURNS = 3
GRID = 1000
"""Times from angle 0 to the last of the turns."""
SPAN = 100
"""Times that are observed, and times beyond them."""


@dataclass(frozen=True)
class Spirals:
    """Noisy spirals, N of them.

    Attributes:
        ts: The times of all spirals, (200,): 100 of which some are observed, and 100 later ones.
        truth: Where the spirals are then, without noise, (200, N, 2).
        noisy: The same with noise.
        clockwise: Which way they turn, (N,).
        observed: The observations: of each spiral some of the first 100 times.
    """

    ts: Tensor
    truth: Tensor
    noisy: Tensor
    clockwise: Tensor
    observed: Series

    @property
    def radius(self) -> Tensor:
        """How far the spirals are from their centres, (200, N); it grows."""
        centre = torch.where(self.clockwise, -5.0, 5.0)
        return torch.hypot(self.truth[..., 0] - centre, self.truth[..., 1])


def spirals(count: int = 1000, observations: int = 100, *, noise: float = 0.3, seed: int = 0) -> Spirals:
    """Two-dimensional spirals, half of them clockwise, with Gaussian noise, observed at random times.

    From the paper: 1000 spirals, each with another start, half clockwise; 100 evenly spaced times; Gaussian noise;
    30, 50 or all 100 of these times, drawn for each spiral without replacement; the error is taken at 100 times beyond.

    The paper leaves open which spirals, how long, and how much noise. Chosen as in the authors' later example
    (examples/latent_ode.py of torchdiffeq): r = 0.3 phi around (5, 0), phi from 0 to 6 pi in 1000 times, noise of
    standard deviation 0.3, times counted in radians from each start. Starts are drawn from the times 100 to 799, so
    that 200 follow: 100 times are 0.3 turns. Clockwise ones are the mirror image around (-5, 0). (There they are
    r = 15 / (6 pi + 1 - phi), which grows threefold over the last 100 times, at which nothing is ever observed.)

    Args:
        count: N, even.
        observations: At most 100 a spiral.
        noise: Its standard deviation.
        seed: Of all that is drawn; with one seed, fewer observations are of the same noisy spirals.

    Returns:
        Everything in float32, times in float64.

    Raises:
        ValueError: An odd count, or too many or no observations.
    """
    if count < 2 or count % 2:
        raise ValueError(f"count must be even, half for each direction, not {count}")
    if not 1 <= observations <= SPAN:
        raise ValueError(f"observations must be between 1 and {SPAN}, not {observations}")
    generator = torch.Generator().manual_seed(seed)
    start = torch.randint(SPAN, GRID - 2 * SPAN, (count,), generator=generator)
    clockwise = torch.randperm(count, generator=generator) < count // 2
    scatter = torch.randn(2 * SPAN, count, 2, generator=generator)
    kept = torch.rand(SPAN, count, generator=generator).argsort(0)[:observations].sort(0).values

    step = 2 * pi * TURNS / (GRID - 1)
    ts = step * torch.arange(2 * SPAN, dtype=torch.float64)
    phi = ts.unsqueeze(1) + step * start
    side = torch.where(clockwise, -1.0, 1.0)
    truth = torch.stack([side * (0.3 * phi * phi.cos() + 5), 0.3 * phi * phi.sin()], dim=2).float()
    noisy = truth + noise * scatter
    values = noisy.gather(0, kept.unsqueeze(2).expand(-1, -1, 2))
    return Spirals(ts, truth, noisy, clockwise, Series(ts[kept], values))
