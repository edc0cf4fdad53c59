"""Rates of events to set beside a learned one: constant, periodic, and self-exciting."""

from math import pi

import torch
from torch import Tensor, nn

import isocline as iso
from isocline.models import PoissonProcess


class Constant(nn.Module):
    """A homogeneous Poisson process."""

    def __init__(self, rate: float) -> None:
        """It starts at `rate`."""
        super().__init__()
        self.log_rate = nn.Parameter(torch.tensor(rate, dtype=torch.float64).log())

    def log_likelihood(self, events: iso.Series, until: "Tensor | float") -> Tensor:
        """Of each sequence, (B,)."""
        return events.lengths * self.log_rate - self.log_rate.exp() * until


class Periodic(nn.Module):
    """A Poisson process whose logarithmic rate is a trigonometric polynomial of the time."""

    def __init__(self, rate: float, period: float, waves: int) -> None:
        """It starts at a constant `rate`."""
        super().__init__()
        self.waves = nn.Parameter(torch.zeros(2 * waves + 1, dtype=torch.float64))
        with torch.no_grad():
            self.waves[0] = torch.tensor(rate).log()
        turns = 2 * pi / period * torch.arange(1, waves + 1, dtype=torch.float64)
        self.register_buffer("turns", turns)
        self.turns: Tensor
        # The state is the time itself, so the integral of the rate is all there is to solve for.
        self.process = PoissonProcess(
            lambda t, z: torch.ones_like(z), self.rate, controlled=True, method="vern9", rtol=1e-8, atol=1e-8
        )

    def rate(self, t: Tensor) -> Tensor:
        """At times (..., 1): (..., 1)."""
        angles = t * self.turns
        basis = torch.cat([torch.ones_like(t), angles.sin(), angles.cos()], dim=-1)
        return (basis @ self.waves).exp().unsqueeze(-1)

    def log_likelihood(self, events: iso.Series, until: "Tensor | float") -> Tensor:
        """Of each sequence, (B,)."""
        ends, place = torch.as_tensor(until, dtype=torch.float64).reshape(1, -1).unique(return_inverse=True)
        zero = torch.zeros(len(ends), 1, dtype=torch.float64)
        _, integral = self.process(zero, ends.unsqueeze(0))  # one for all sequences that end at the same time
        rates = self.rate(events.ts.unsqueeze(2)).squeeze(2)
        total: Tensor = torch.where(events.rows, rates, 1.0).log().sum(0) - integral[0, :, 0][place.flatten()]
        return total


class Hawkes(nn.Module):
    r"""A Hawkes process, :math:`\lambda(t) = \mu + \alpha \beta \sum_{t_i < t} e^{-\beta (t - t_i)}`, from time 0.

    References:
        A. G. Hawkes 1971, Biometrika 58, doi:10.1093/biomet/58.1.83; T. Ozaki 1979, Annals of the Institute of
        Statistical Mathematics 31, doi:10.1007/BF02480272 (the likelihood).
    """

    def __init__(self, base: float, branching: float, decay: float) -> None:
        """It starts at these mu, alpha, beta."""
        super().__init__()
        self.logs = nn.Parameter(torch.tensor([base, branching, decay], dtype=torch.float64).log())

    def log_likelihood(self, events: iso.Series, until: "Tensor | float") -> Tensor:
        """Of each sequence, (B,)."""
        base, branching, decay = self.logs.exp()
        ts = events.ts
        # The sum over earlier events, exp(-decay (t - t_i)), by its logarithm: no term overflows.
        sums = torch.where(events.rows, decay * ts, -torch.inf).logcumsumexp(0)
        excited = torch.cat([torch.zeros_like(ts[:1]), (sums[:-1] - decay * ts[1:]).exp()])
        rates = torch.where(events.rows, base + branching * decay * excited, 1.0)
        caused = torch.where(events.rows, -torch.expm1(-decay * (until - ts)), 0.0).sum(0)
        total: Tensor = rates.log().sum(0) - base * until - branching * caused
        return total

    def settings(self) -> tuple[float, float, float]:
        """Mu, alpha, beta."""
        base, branching, decay = self.logs.exp().tolist()
        return base, branching, decay

    @torch.no_grad()
    def rates(self, events: iso.Series, ts: Tensor) -> Tensor:
        """At ts (S,), given the events before: (S, B)."""
        base, branching, decay = self.logs.exp()
        since = ts.reshape(-1, 1, 1) - events.ts  # (S, T, B)
        excited = torch.where(events.rows & (since > 0), (-decay * since).exp(), 0.0).sum(1)
        rates: Tensor = base + branching * decay * excited
        return rates
