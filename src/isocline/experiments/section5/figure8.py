"""`isocline reproduce figure8`: a latent ODE learns the rate at which a signal is observed, from the times."""

from dataclasses import dataclass, replace
from functools import partial
from math import pi
from typing import Self

import torch
from lightning_fabric import Fabric
from matplotlib.figure import Figure
from torch import Generator, Tensor, nn

import isocline as iso
from isocline.experiments.points import Points, points
from isocline.experiments.reproduction import Finding, Reproduction, Results
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.section5.fitting import Fit
from isocline.models import GapRNN, PoissonProcess, latent_field

END = 10.0
TURN = 2 * pi / 5
"""Angular frequency of the signal."""
NOISE = 0.1
"""Standard deviation of an observation."""
FRESH = 1000
"""Added to the seed of series that were not trained on."""
GRID = 201


@dataclass(frozen=True)
class Watched:
    """Signals that are looked at the more often the higher they are.

    Attributes:
        series: Observations at random times.
        start: Signal and speed at time 0, (N, 2).
    """

    series: iso.Series
    start: Tensor

    @staticmethod
    def draw(count: int, seed: int) -> "Watched":
        """Oscillators of random amplitude and phase; the times are drawn by thinning."""
        generator = Generator().manual_seed(seed)
        amplitude = 0.5 + torch.rand(count, 1, generator=generator)
        phase = 2 * pi * torch.rand(count, 1, generator=generator)
        start = amplitude * torch.cat([phase.sin(), TURN * phase.cos()], dim=1)
        times = _truth().sample(start, END, generator=generator)
        x, _ = _truth()(start, times.ts)
        values = x[..., :1] + NOISE * torch.randn(x[..., :1].shape, generator=generator)
        return Watched(iso.Series(times.ts, values, times.observed), start)

    def rates(self, ts: Tensor) -> Tensor:
        """The true rates at ts (S,): (S, N)."""
        x, _ = _truth()(self.start, ts.unsqueeze(1).expand(-1, len(self.start)))
        return rate(x)[..., 0]


def rate(x: Tensor) -> Tensor:
    """Of observations of a signal (..., 2): (..., 1); about 3 in a unit of time."""
    return 3 * x[..., :1].exp()


class Exponential(nn.Module):
    """Rates from their logarithms."""

    def forward(self, x: Tensor) -> Tensor:
        """Return exp(x)."""
        return x.exp()


def _truth() -> PoissonProcess:
    def oscillator(t: Tensor, x: Tensor) -> Tensor:
        return torch.stack([x[..., 1], -(TURN**2) * x[..., 0]], dim=-1)

    return PoissonProcess(oscillator, rate)


@dataclass(frozen=True)
class Shown:
    """A series that was not trained on, for the figure.

    Attributes:
        times: Of its observations.
        truth: The rate.
        mean: The rate that was learned: mean, and a band that holds nine tenths of the samples.
        lower: Its lower end.
        upper: Its upper end.
    """

    times: tuple[float, ...]
    truth: Points
    mean: Points
    lower: Points
    upper: Points


@dataclass(frozen=True)
class Figure8(Reproduction):
    """Fit a latent ODE with a Poisson process to signals seen at random times, and compare its rate with the truth."""

    count: int = 4000
    """Series to train on."""
    fresh: int = 100
    """Series that were not trained on, to measure with."""
    epochs: int = 120
    """Passes over the series."""
    batch_size: int = 50
    """Series a step."""
    learning_rate: float = 1e-2
    """Peak of the one-cycle schedule of Adam."""
    latent: int = 4
    """Numbers of the latent state."""
    units: int = 32
    """Of the recurrent network and of hidden layers."""
    tolerance: float = 1e-3
    """rtol = atol of the solves."""
    warm_up: float = 0.2
    """Share of the steps in which the weight of the divergence grows to 1."""
    compile: bool = False
    """Whether the solves are compiled programs."""
    samples: int = 100
    """Of each model's latent path, for the band."""
    shown: int = 3
    """Series in the figure."""
    members: int = 5
    """Models, alike but for their first weights and the order of series. Samples of one model's path show what its
    encoder is unsure of, not how wrong its networks are; that shows in what several models differ."""
    seed: int = 0
    """Of series, and of the first model; others count up from it."""

    def smaller(self) -> Self:
        """Few series, few epochs."""
        return replace(self, count=20, fresh=6, epochs=2, batch_size=10, units=8, samples=5, shown=2, members=2)

    def run(self, folder: RunFolder, fabric: Fabric) -> "Figure8Results":
        """Trains what the folder does not hold trained, and measures."""
        train, test = Watched.draw(self.count, self.seed), Watched.draw(self.fresh, self.seed + FRESH)
        models = [self._trained(folder, train.series, member) for member in range(self.members)]
        ts = torch.linspace(0, END, GRID, dtype=torch.float64)
        truth, rates = test.rates(ts), [self._rates(model, test.series, ts) for model in models]
        together = torch.cat(rates, dim=2)
        mean, lower, upper = _band(together)
        constant = (test.series.lengths / END).expand_as(truth)
        return Figure8Results(
            Accuracy.of(together, truth),
            tuple(Accuracy.of(samples, truth) for samples in rates),
            _error(constant, truth),
            tuple(
                Shown(
                    tuple(round(t, 3) for t in test.series.ts[: int(n), i].tolist()),
                    *(points(torch.stack([ts, x[:, i]], dim=1)) for x in (truth, mean, lower, upper)),
                )
                for i, n in enumerate(test.series.lengths[: self.shown])
            ),
        )

    def _trained(self, folder: RunFolder, series: iso.Series, member: int) -> iso.LatentODE:
        seed = self.seed + member
        model = self._model(seed)
        Fit(
            f"latent-ode-{member}",
            model,
            series.lengths,
            partial(self._loss, model, series),
            self.epochs,
            self.batch_size,
            self.learning_rate,
            seed,
            every=10,
        ).run(folder)
        return model

    def _model(self, seed: int) -> iso.LatentODE:
        d, wide = self.latent, self.units
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return iso.LatentODE(
                GapRNN(1, wide),
                latent_field(d, wide),
                nn.Sequential(nn.Linear(d, wide), nn.Tanh(), nn.Linear(wide, 1)),
                latent=d,
                noise=NOISE,
                intensity=nn.Sequential(nn.Linear(d, wide), nn.Tanh(), nn.Linear(wide, 1), Exponential()),
                rtol=self.tolerance,
                atol=self.tolerance,
                compile=self.compile,
            )

    def _loss(self, model: iso.LatentODE, series: iso.Series, batch: Tensor, done: float) -> Tensor:
        weight = min(1.0, done / self.warm_up) if self.warm_up else 1.0
        part = series.select(batch)
        return -model.elbo(part, kl_weight=weight, until=END).sum() / part.lengths.sum()

    @torch.no_grad()
    def _rates(self, model: iso.LatentODE, series: iso.Series, ts: Tensor) -> Tensor:
        """At ts (S,), for samples of the latent path: (S, N, K)."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            z0 = model.posterior(series).sample((self.samples,)).transpose(0, 1)
        assert isinstance(model.path, PoissonProcess)
        z, _ = model.path(z0, ts.unsqueeze(1).expand(-1, len(series)))
        return model.path.intensity(z)[..., 0]


def _error(found: Tensor, truth: Tensor) -> float:
    return ((found - truth).abs().mean() / truth.mean()).item()


def _band(samples: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of samples (S, N, K), and the ends of the band that holds nine tenths of them."""
    lower, upper = samples.quantile(torch.tensor([0.05, 0.95]), dim=2)
    return samples.mean(2), lower, upper


@dataclass(frozen=True)
class Accuracy:
    """How close rates are that were learned.

    Attributes:
        error: Mean distance of their mean from the truth, as a share of the mean rate, on series not trained on.
        covered: Share of the time at which the truth is in the band that holds nine tenths of the samples.
    """

    error: float
    covered: float

    @staticmethod
    def of(samples: Tensor, truth: Tensor) -> "Accuracy":
        """Of samples (S, N, K) of rates (S, N)."""
        mean, lower, upper = _band(samples)
        return Accuracy(_error(mean, truth), ((lower <= truth) & (truth <= upper)).float().mean().item())


@dataclass(frozen=True)
class Figure8Results(Results):
    """What was learned.

    Attributes:
        together: The samples of all models.
        alone: Those of each model.
        constant: The error of a constant rate for each series: as many observations as it has.
        shown: Some series.
    """

    together: Accuracy
    alone: tuple[Accuracy, ...]
    constant: float
    shown: tuple[Shown, ...]

    def findings(self) -> tuple[Finding, ...]:
        """Whether the rate was learned."""
        error, errors = self.together.error, [100 * model.error for model in self.alone]
        bands = [100 * model.covered for model in self.alone]
        return (
            Finding(
                "Figure 8: a latent ODE with the likelihood of a Poisson process learns the rate of observations.",
                "yes" if error < 0.25 * self.constant else "in part" if error < 0.5 * self.constant else "no",
                f"Mean distance from the true rate {100 * error:.1f} % of the mean rate, that of a constant rate "
                f"{100 * self.constant:.1f} %; the band that holds 90 % of the samples holds the truth during "
                f"{100 * self.together.covered:.0f} % of the time. Each of the {len(errors)} models alone: "
                f"{min(errors):.1f} to {max(errors):.1f} %, and {min(bands):.0f} to {max(bands):.0f} % of the time. "
                "The signal oscillates; rates are 3 exp(signal).",
            ),
        )

    def plot(self) -> Figure:
        """The rate of each series, with dots where it was observed."""
        figure = Figure(figsize=(4 * len(self.shown), 3), layout="constrained")
        for axes, one in zip(figure.subplots(1, len(self.shown), squeeze=False)[0], self.shown, strict=True):
            ts, mean = zip(*one.mean, strict=True)
            low, high = ([x for _, x in points] for points in (one.lower, one.upper))
            axes.fill_between(ts, low, high, color="C0", alpha=0.25)
            axes.plot(ts, mean, color="C0", label="learned")
            axes.plot(*zip(*one.truth, strict=True), color="0.3", linewidth=1, label="truth")
            axes.plot(one.times, [0.0] * len(one.times), ".", color="C3", markersize=4, label="observed")
            axes.set(xlabel="time", ylabel="rate")
            axes.legend(fontsize="small")
        return figure
