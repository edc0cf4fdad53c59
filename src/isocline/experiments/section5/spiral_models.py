"""The models of Table 2, about of the sizes that the paper gives, and their training on spirals."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

import isocline as iso
from isocline.data import Spirals
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.section5.fitting import Fit
from isocline.models import Forecaster, GapRNN, GaussianNoise, latent_field

ModelName = Literal["rnn", "latent-ode"]
SpiralModel = Forecaster | iso.LatentODE

LATENT = 6
"""Numbers of the latent state."""
UNITS = 20
"""Of the decoder's layer."""
WIDTH = 25
"""Numbers of the recurrent networks' states."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything but the data that decides the numbers of a training."""

    epochs: int = 450
    """Passes over the spirals."""
    batch_size: int = 50
    """Spirals a step."""
    learning_rate: float = 1e-2
    """Peak of the one-cycle schedule of Adam."""
    warm_up: float = 0.2
    """Share of the steps in which the weight of the divergence grows to 1."""
    hidden: int = 50
    """Units of each of the field's two layers."""
    noise: float = 0.3
    """Standard deviation of an observation in the likelihood."""
    step: float = 0.17
    """Of the solves, by RK4, in radians: 11, of 44 evaluations, for what is observed. Adaptive steps follow a field
    that grows wilder all through training, to 230 evaluations after 600 epochs, and end at the same errors."""
    compile: bool = False
    """Whether the solves are compiled programs."""
    checkpoint_every: int = 10
    """Epochs."""

    def __post_init__(self) -> None:
        """Raises ValueError for a value that cannot work."""
        for name in ("epochs", "batch_size", "learning_rate", "hidden", "noise", "step", "checkpoint_every"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")


def build(name: ModelName, config: TrainConfig, seed: int) -> SpiralModel:
    """The model, untrained.

    Four things are not the paper's. Its recognition network and its baseline are plain recurrent networks; here both
    have gated units. Its field has one layer of 20 units, that of the authors' later example has two; here they have 50
    units: in one training each of 3,000 steps with 100 observations the error beyond was 0.163, with 20 units 0.241.
    The field has a linear part. And the latent state has 6 numbers instead of 4: half of them stay at the prior, but
    trainings end better, with 30 observations at an error beyond of 0.14 instead of 0.16.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        noise = GaussianNoise(2, config.noise)
        if name == "rnn":
            return Forecaster(GapRNN(2, WIDTH), nn.Linear(WIDTH, 2), noise)
        return iso.LatentODE(
            GapRNN(2, WIDTH),
            latent_field(LATENT, config.hidden),
            nn.Sequential(nn.Linear(LATENT, UNITS), nn.ReLU(), nn.Linear(UNITS, 2)),
            latent=LATENT,
            noise=noise,
            batch_dims=0,  # all spirals have their times from the same hundred
            method="rk4",
            controller=iso.FixedStep(config.step),
            compile=config.compile,
        )


def predicted(model: SpiralModel, data: Spirals, samples: int = 20) -> Tensor:
    """Where the spirals are at all 200 times, from the observations of the first hundred: (200, N, 2).

    At the first hundred times the recurrent network has no forecast that knows what the latent ODE knows; nan. Beyond,
    it goes on in gaps of about the length that it has learned from, several forecasts side by side: step by step from
    30 observations its error is four times as large.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if isinstance(model, iso.LatentODE):
            return model.predict(data.observed, data.ts, samples=samples).mean(2)
        half = len(data.ts) // 2
        gap = round(half / len(data.observed.ts))
        found = torch.full_like(data.truth, math.nan)
        for first in range(half, half + gap):
            found[first::gap] = model.predict(data.observed, data.ts[first::gap])
        return found


def fitted(
    name: str, model: SpiralModel, series: iso.Series, config: TrainConfig, seed: int, folder: RunFolder
) -> None:
    """Trains a model from the folder's checkpoint of that name, if there is one, to the last epoch."""

    def loss(places: Tensor, done: float) -> Tensor:
        batch = series.select(places)
        if isinstance(model, Forecaster):
            return -model.log_likelihood(batch).mean()
        return -model.elbo(batch, kl_weight=min(1.0, done / max(config.warm_up, 1e-9))).mean()

    Fit(
        name,
        model,
        series.lengths,
        loss,
        config.epochs,
        config.batch_size,
        config.learning_rate,
        seed,
        every=config.checkpoint_every,
    ).run(folder)


@torch.no_grad()
def latent_paths(model: iso.LatentODE, data: Spirals) -> Tensor:
    """Mean latent paths at all times in the two directions in which they vary most, (200, N, 2)."""
    ts = data.ts.unsqueeze(1).expand(-1, len(data.observed))
    z: Tensor = model.dynamics(model.posterior(data.observed).mean, ts)
    flat = z.flatten(0, 1)
    directions: Tensor = torch.linalg.eigh(flat.T.cov()).eigenvectors[:, -2:].flip(1)
    return (z - flat.mean(0)) @ directions


def each(models: tuple[ModelName, ...], seeds: tuple[int, ...]) -> Iterator[tuple[ModelName, int]]:
    """Every model from every seed, seed by seed: a run that is stopped early has as many models as it can."""
    for seed in seeds:
        for name in models:
            yield name, seed
