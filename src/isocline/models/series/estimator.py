"""A latent ODE that is fitted to a table and predicts a table."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor, nn

from isocline.checks import check_whole
from isocline.models.series.batch import Series
from isocline.models.series.cells import GapRNN
from isocline.models.series.dynamics import latent_field
from isocline.models.series.latent_ode import LatentODE
from isocline.models.series.long import Duplicates
from isocline.models.series.noise import GaussianNoise


@dataclass
class SeriesRegressor:
    """Predicts irregular series, with bands, by a ``LatentODE`` of usual parts: ``fit`` and ``predict`` on long tables.

    A long table has one reading a row: which series, when, which channel, what value; a DataFrame or a dict of columns.
    Times and channels may have any units: they are scaled by what was fitted, times so that the longest series is about
    one unit long. The scale of the noise is learned.

    Args:
        latent: numbers of the latent state.
        hidden: units of the field's two layers, of the decoder's one, and of the encoder.
        epochs: passes over all series.
        batch_size: series a step.
        learning_rate: peak of the one-cycle schedule of Adam.
        samples: samples of the latent path for a prediction.
        rtol: tolerance of the solves; absolute as well.
        seed: of initial weights, order and samples: the same table gives the same predictions.
        series: name of the column that says which series.
        time: likewise.
        channel: likewise.
        value: likewise.
        duplicates: what to do if a channel has different values at one time: "error", or take their "mean".

    Attributes:
        model: the fitted ``LatentODE``, on scaled values; None before ``fit``.
        losses: mean negative bound of each epoch.

    Example:
        >>> import isocline as iso, torch
        >>> hours = torch.linspace(0, 24, 12).tolist()
        >>> table = {
        ...     "series": [name for name in "ab" for _ in hours],
        ...     "time": hours * 2,
        ...     "channel": ["pulse"] * 24,
        ...     "value": [70.0 + 10 * i + t for i in range(2) for t in hours],
        ... }
        >>> regressor = iso.models.SeriesRegressor(epochs=2, samples=10).fit(table)
        >>> forecast = regressor.predict(table, times=[24.0, 30.0])
        >>> list(forecast), len(forecast["mean"])
        (['series', 'time', 'channel', 'mean', 'lower', 'upper'], 4)
    """

    latent: int = 4
    hidden: int = 32
    epochs: int = 100
    batch_size: int = 50
    learning_rate: float = 1e-2
    samples: int = 200
    rtol: float = 1e-3
    seed: int = 0
    series: str = "series"
    time: str = "time"
    channel: str = "channel"
    value: str = "value"
    duplicates: Duplicates = "error"
    model: LatentODE | None = field(default=None, init=False, repr=False)
    losses: list[float] = field(default_factory=list, init=False, repr=False)
    _scale: "Scale | None" = field(default=None, init=False, repr=False)

    def fit(self, table: Any) -> Self:
        """Fit the model to all series of a table.

        Raises:
            TypeError, ValueError: a table that is none, as in ``Series.of_table``.
        """
        for name in ("epochs", "batch_size", "samples"):
            check_whole(name, getattr(self, name), 1)
        series = self._read(table)
        self._scale = Scale.of(series)
        scaled = self._scale.down(series)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.model = self._make(len(series.channels))
            self.losses = list(self._train(self.model, scaled))
        return self

    def predict(
        self, table: Any, times: Sequence[float], *, known_until: float | None = None, level: float = 0.95
    ) -> dict[str, list[Hashable]]:
        """Predict all channels of the series of a table, at these times.

        What is known of a series are its readings up to ``known_until``; later ones are not looked at. That is the
        earliest of ``times`` by default, so no prediction knows of anything later than itself. To fill gaps between
        readings, as if all were known at the end, say ``known_until=math.inf``.

        Args:
            table: what is known; its series need not be among those that were fitted.
            times: when to predict, in the table's units, not before the first time that was fitted.
            known_until: the time of the last reading that may be looked at.
            level: share of observations that the band is to hold.

        Returns:
            Columns of a long table, ``pandas.DataFrame(...)`` makes a frame of it: series, time, channel under their
            names in ``table``, and the mean, lower and upper end of the band for an observation.

        Raises:
            ValueError: not fitted yet, an unknown channel, no times, or times before those of ``fit``.
        """
        if self.model is None or self._scale is None:
            raise ValueError("the regressor has not been fitted yet; call fit(table) first")
        if not 0 < level < 1:
            raise ValueError(f"level must be between 0 and 1, got {level}")
        ts = torch.as_tensor(times, dtype=torch.float64)
        if ts.ndim != 1 or not len(ts) or not bool((ts >= self._scale.start).all()):
            raise ValueError(f"times must be a list of numbers, none before {self._scale.start:.6g}; got {times!r:.60}")
        series = self._read(table, self._scale.channels)
        if bool(series.ts.min() < self._scale.start):
            raise ValueError(f"the table has a reading before {self._scale.start:.6g}, where the fitted series start")
        known = series.until(ts.min() if known_until is None else known_until, empty=self._scale.start)
        order = ts.argsort()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            paths = self.model.predict(self._scale.down(known), self._scale.times(ts[order]), samples=self.samples)
            noisy = paths + self.model.noise.std * torch.randn_like(paths)
        tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=paths.dtype)
        parts = torch.cat([paths.mean(2, keepdim=True), noisy.quantile(tails, dim=2).permute(1, 2, 0, 3)], dim=2)
        parts = self._scale.up(parts)[order.argsort()].transpose(0, 1)  # (B, S, 3, C)
        rows = [(name, t, kind) for name in series.names for t in ts.tolist() for kind in series.channels]
        keys = zip(*rows, strict=True)
        numbers = parts.transpose(2, 3).reshape(-1, 3).T.tolist()
        names = (self.series, self.time, self.channel, "mean", "lower", "upper")
        return dict(zip(names, [*map(list, keys), *numbers], strict=True))

    def _read(self, table: Any, channels: "tuple[Hashable, ...] | None" = None) -> Series:
        return Series.of_table(
            table,
            series=self.series,
            time=self.time,
            channel=self.channel,
            value=self.value,
            channels=channels,
            duplicates=self.duplicates,
            dtype=torch.float64,  # until it is scaled: float32 would lose small changes of large numbers
        )

    def _make(self, channels: int) -> LatentODE:
        wide, d = self.hidden, self.latent
        return LatentODE(
            GapRNN(channels, wide),
            latent_field(d, wide),
            nn.Sequential(nn.Linear(d, wide), nn.ReLU(), nn.Linear(wide, channels)),
            latent=d,
            noise=GaussianNoise(channels, 0.5, learned=True),
            batch_dims=0,
            rtol=self.rtol,
            atol=self.rtol,
        )

    def _train(self, model: LatentODE, series: Series) -> "list[float]":
        steps = self.epochs * -(-len(series) // self.batch_size)
        optimiser = torch.optim.Adam(model.parameters())
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.learning_rate, total_steps=steps)
        losses = []
        for _ in range(self.epochs):
            total = 0.0
            for batch in series.batches(self.batch_size):
                optimiser.zero_grad()
                # Each series up to a time of its own, so that going on from there is learned as well.
                ends = batch.ts[0] + torch.rand(len(batch)).clamp(min=0.25) * (batch.ts[-1] - batch.ts[0])
                weight = min(1.0, 2 * schedule.last_epoch / steps)
                loss = -model.elbo(batch.until(ends), target=batch, kl_weight=weight).mean()
                loss.backward()
                # Where a path runs away its gradient overflows, and one such step would end the training.
                if nn.utils.clip_grad_norm_(model.parameters(), 10.0).isfinite():
                    optimiser.step()
                schedule.step()
                total += loss.item() * len(batch)
            losses.append(total / len(series))
        return losses


@dataclass(frozen=True)
class Scale:
    """Units in which a model sees series: times from 0 to about 1, values of mean 0 and deviation 1 by channel."""

    start: float
    length: float
    mean: Tensor
    std: Tensor
    channels: tuple[Hashable, ...]

    @staticmethod
    def of(series: Series) -> "Scale":
        """Return the units that suit these series."""
        count = series.observed.sum((0, 1)).clamp(min=1)
        mean = series.values.sum((0, 1)) / count
        squares = torch.where(series.observed, (series.values - mean).square(), 0.0).sum((0, 1)) / count
        std = torch.where(squares > 0, squares.sqrt(), 1.0)
        start = series.ts.min().item()
        return Scale(start, (series.ts.max().item() - start) or 1.0, mean, std, series.channels)

    def times(self, ts: Tensor) -> Tensor:
        """Return times in these units."""
        return (ts - self.start) / self.length

    def down(self, series: Series) -> Series:
        """Return series in these units, in torch's default dtype."""
        values = ((series.values - self.mean) / self.std).to(torch.get_default_dtype())
        return Series(self.times(series.ts), values, series.observed, series.names, series.channels)

    def up(self, values: Tensor) -> Tensor:
        """Return values (..., C) in their own units."""
        return values * self.std + self.mean
