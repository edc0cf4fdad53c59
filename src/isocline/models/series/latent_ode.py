"""The latent ODE: a variational autoencoder whose latent state follows an ODE."""

from collections.abc import Callable
from math import log
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from isocline.checks import check_whole
from isocline.models.series.batch import Series
from isocline.models.series.dynamics import SeriesODE
from isocline.models.series.noise import GaussianNoise
from isocline.models.series.process import PoissonProcess, with_end
from isocline.models.series.recurrence import Recurrence, encode


class LatentODE(nn.Module):
    r"""A generative model of irregular series, trained as a variational autoencoder.

    .. math::
        z_0 \sim N(0, I), \quad dz/dt = f(t, z), \quad x(t_i) \sim N(g(z(t_i)), \sigma^2)

    A recurrent network reads the observations of a series backwards, and gives :math:`q(z_0)`, a normal distribution
    with a diagonal covariance. Given an ``intensity``, the times of observations are part of the model as well:
    channel c is observed at the rate :math:`\lambda_c(z(t))`, a Poisson process, in the same solve.

    Args:
        encoder: a recurrence, such as ``GapRNN``, ``ODERNN`` or ``GRUD``.
        field: f, called with z of shape (B, K, d): B series, K samples of each.
        decoder: g, from (..., d) to (..., C).
        latent: d.
        noise: sigma, a number, or a ``GaussianNoise`` to learn it.
        intensity: from (..., d) to (..., C), positive; None if times are given.
        t0: the time of z0: one for all series, not later than any observation, or None: for each its first time.
        batch_dims: 1 solves each series at its own times, 0 all at the union of their times, as in ``SeriesODE``.
        settings: everything else goes to ``solve``.

    References:
        Chen, Rubanova, Bettencourt & Duvenaud 2018, arXiv:1806.07366, section 5 and Appendix E; Rubanova, Chen &
        Duvenaud 2019, arXiv:1907.03907.

    Example:
        >>> import isocline as iso, torch
        >>> from torch import nn
        >>> field = iso.models.Autonomous(nn.Sequential(nn.Linear(4, 20), nn.ELU(), nn.Linear(20, 4)))
        >>> decoder = nn.Sequential(nn.Linear(4, 20), nn.ReLU(), nn.Linear(20, 2))
        >>> model = iso.LatentODE(iso.models.GapRNN(2, 25), field, decoder, latent=4, noise=0.3)
        >>> series = iso.Series.of([[0.0, 0.7, 1.1], [0.2, 0.5]], [torch.randn(3, 2), torch.randn(2, 2)])
        >>> optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        >>> for step in range(2):
        ...     optimizer.zero_grad()
        ...     (-model.elbo(series, kl_weight=min(1.0, step / 100)).mean()).backward()
        ...     optimizer.step()
        >>> model.predict(series, torch.linspace(0, 2, 5), samples=3).shape  # times, series, samples, channels
        torch.Size([5, 2, 3, 2])
    """

    def __init__(
        self,
        encoder: Recurrence,
        field: Callable[..., Tensor],
        decoder: nn.Module,
        *,
        latent: int,
        noise: "float | GaussianNoise" = 0.1,
        intensity: nn.Module | None = None,
        t0: float | None = 0.0,
        batch_dims: int = 1,
        **settings: Any,
    ) -> None:
        """Put the parts together."""
        super().__init__()
        check_whole("latent", latent, 1)
        if intensity is not None and t0 is None:
            raise ValueError("a rate of observations needs a time at which observation begins: give t0, such as t0=0.0")
        self.encoder = encoder
        self.code = nn.Linear(encoder.size, 2 * latent)
        self.decoder = decoder
        self.noise = noise if isinstance(noise, GaussianNoise) else GaussianNoise(1, noise)
        self.t0 = t0
        self.path: SeriesODE | PoissonProcess
        if intensity is None or t0 is None:
            self.path = SeriesODE(field, t0=t0, batch_dims=batch_dims, **settings)
        else:
            self.path = PoissonProcess(field, intensity, t0=t0, batch_dims=batch_dims, **settings)

    @property
    def dynamics(self) -> SeriesODE:
        """What solves, and has counted what the last solve took: ``dynamics.stats``."""
        return self.path.dynamics if isinstance(self.path, PoissonProcess) else self.path

    def posterior(self, series: Series) -> Normal:
        """Return q(z0) given all observations: normal, of shape (B, d)."""
        mean, log_variance = self.code(encode(self.encoder, series, self.t0)).chunk(2, dim=1)
        return Normal(mean, (0.5 * log_variance).exp(), validate_args=False)

    def elbo(
        self,
        series: Series,
        *,
        samples: int = 1,
        kl_weight: float = 1.0,
        target: Series | None = None,
        until: "Tensor | float | None" = None,
    ) -> Tensor:
        r"""Return the evidence lower bound of each series, (B,).

        .. math:: E_q[\log p(x | z_0)] - w \, KL(q(z_0) | p(z_0))

        The expectation is over samples of z0, the divergence exact.

        Args:
            series: what the encoder sees.
            samples: K.
            kl_weight: w; from 0 to 1 in the course of training (annealing), ``min(1.0, step / 1000)``, say.
            target: the observations that are to be explained, of the same series; None: those that the encoder sees.
                Later ones train for extrapolation.
            until: with an ``intensity``, when observation ended; None: for each series at its last observation.
        """
        q = self.posterior(series)
        likelihood = self.log_likelihood(self._draw(q, samples), series if target is None else target, until).mean(1)
        divergence = 0.5 * (q.mean.square() + q.variance - 1 - q.variance.log()).sum(1)
        return likelihood - kl_weight * divergence

    def importance_bound(
        self, series: Series, *, samples: int, target: Series | None = None, until: "Tensor | float | None" = None
    ) -> Tensor:
        r"""Return the importance-weighted bound of each series, (B,), which rises to :math:`\log p(x)` with K.

        .. math:: \log \frac{1}{K} \sum_k p(x | z_k) p(z_k) / q(z_k)

        Args:
            series: as in ``elbo``.
            samples: K.
            target: as in ``elbo``.
            until: as in ``elbo``.

        References:
            Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519.
        """
        q = self.posterior(series)
        z0 = self._draw(q, samples)
        prior = Normal(torch.zeros_like(q.mean), torch.ones_like(q.mean), validate_args=False)
        ratio = sum(sign * p.log_prob(z0.transpose(0, 1)).sum(2).T for sign, p in ((1, prior), (-1, q)))
        weights: Tensor = self.log_likelihood(z0, series if target is None else target, until) + ratio
        return weights.logsumexp(1) - log(samples)

    def log_likelihood(self, z0: Tensor, target: Series, until: "Tensor | float | None" = None) -> Tensor:
        """Return log p(target | z0), (B, K) for z0 (B, K, d), by one solve."""
        if not isinstance(self.path, PoissonProcess):
            if until is not None:
                raise ValueError("until is the end of a Poisson process; this model has no intensity, so leave it out")
            return self.noise.log_likelihood(self.decode(z0, target.ts), target)
        z, integral = self.path(z0, with_end(target, target.ts[-1] if until is None else until))
        observed = self.noise.log_likelihood(self.decoder(z[:-1]), target)
        return observed + self.path.of_path(z[:-1], integral[-1], target)

    def decode(self, z0: Tensor, ts: Tensor) -> Tensor:
        """Return means of observations (T, B, K, C) at ts (T, B), for z0 (B, K, d)."""
        z = self.path(z0, ts)
        means: Tensor = self.decoder(z[0] if isinstance(self.path, PoissonProcess) else z)
        return means

    @torch.no_grad()
    def predict(self, series: Series, ts: Tensor, *, samples: int = 1) -> Tensor:
        """Return means of observations given all of ``series``, for samples of z0: (S, B, K, C).

        The noise of an observation, ``noise.std``, is not in them. To predict from the past only, give no more:
        ``series.until(t)``.

        Args:
            series: what is known.
            ts: times between observations, or later: (S,), or (S, B).
            samples: K.
        """
        ts = ts.to(series.ts)
        ts = ts if ts.ndim == 2 else ts.unsqueeze(1).expand(-1, len(series))
        z0 = self._draw(self.posterior(series), samples)
        if self.t0 is not None:
            return self.decode(z0, ts)
        return self.decode(z0, torch.cat([series.ts[:1], ts]))[1:]  # solves begin where the series do

    def _draw(self, q: Normal, samples: int) -> Tensor:
        check_whole("samples", samples, 1)
        draws: Tensor = q.rsample((samples,))
        return draws.transpose(0, 1)
