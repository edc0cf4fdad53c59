"""Recurrent networks that predict a series step by step."""

import torch
from torch import Tensor, nn

from isocline.models.series.batch import Series
from isocline.models.series.noise import GaussianNoise
from isocline.models.series.recurrence import Recurrence, gaps_until, readings, step


class Forecaster(nn.Module):
    r"""An autoregressive model: :math:`x(t_i) \sim N(g(h(t_i)), \sigma^2)`, with h from the observations before.

    The baseline of latent ODEs: ``Forecaster(GapRNN(C, 25, nn.RNNCell), nn.Linear(25, C), noise)`` is the paper's. With
    an ``ODERNN`` it is the autoregressive ODE-RNN.

    Args:
        cell: a recurrence.
        decoder: g, from (..., cell.size) to (..., C).
        noise: sigma.

    References:
        Chen, Rubanova, Bettencourt & Duvenaud 2018, arXiv:1806.07366, section 5.1.

    Example:
        >>> import isocline as iso, torch
        >>> model = iso.models.Forecaster(iso.models.GapRNN(1, 8), torch.nn.Linear(8, 1), iso.models.GaussianNoise(1))
        >>> series = iso.Series.of([[0.0, 1.0, 1.5], [0.5]], [[0.1, 0.2, 0.3], [0.4]])
        >>> (-model.log_likelihood(series).mean()).backward()
        >>> model.predict(series, torch.tensor([2.0, 3.0])).shape
        torch.Size([2, 2, 1])
    """

    def __init__(self, cell: Recurrence, decoder: nn.Module, noise: GaussianNoise) -> None:
        """Put the parts together."""
        super().__init__()
        self.cell = cell
        self.decoder = decoder
        self.noise = noise

    def forward(self, series: Series) -> Tensor:
        """Return the mean of each observation given those before it, (T, B, C)."""
        gaps = torch.cat([series.ts.diff(dim=0), torch.zeros_like(series.ts[:1])])
        h, means = self.cell.start(series.values[0]), []
        for reading in readings(series, gaps):
            means.append(self.decoder(h))
            h = step(self.cell, h, reading)
        return torch.stack(means)

    def log_likelihood(self, series: Series) -> Tensor:
        """Return the log-likelihood of each series, (B,)."""
        return self.noise.log_likelihood(self(series), series)

    @torch.no_grad()
    def predict(self, series: Series, ts: Tensor) -> Tensor:
        """Return means at later times: each is taken for an observation when the next is predicted.

        Args:
            series: what is known.
            ts: (S,), not before the last observation of any series.

        Returns:
            (S, B, C)

        Raises:
            ValueError: a time before the last observation, or times that decrease.
        """
        ts = ts.to(series.ts)
        if bool((ts[0] < series.ts[-1]).any()) or bool((ts.diff() < 0).any()):
            raise ValueError(
                "ts must not decrease, nor begin before the last observation; an autoregressive model predicts what "
                "comes next: give it series.until(ts[0])"
            )
        h = self.cell.start(series.values[0])
        for reading in readings(series, gaps_until(series, ts[0])):
            h = step(self.cell, h, reading)
        means = []
        for gap in [*ts.diff(), ts.new_zeros(())]:
            means.append(mean := self.decoder(h))
            wait = gap.to(mean.dtype).expand(len(series), 1)
            h = self.cell.evolve(self.cell.observe(h, mean, torch.ones_like(mean), wait), wait)
        return torch.stack(means)
