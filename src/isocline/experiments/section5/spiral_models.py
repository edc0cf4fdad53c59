"""The models of Table 2, of the sizes that the paper gives, and their training on spirals."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Adam
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import tqdm

import isocline as iso
from isocline.data import Spirals
from isocline.experiments.progress import Progress
from isocline.experiments.run_folder import RunFolder
from isocline.models import Autonomous, Forecaster, GapRNN, GaussianNoise

ModelName = Literal["rnn", "latent-ode"]
SpiralModel = Forecaster | iso.LatentODE

LATENT = 4
UNITS = 20
"""Of the decoder's layer."""
WIDTH = 25
"""Numbers of the recurrent networks' states."""
LONGEST = 10.0
"""Gradients are cut to this norm."""


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
    rtol: float = 1e-3
    """Relative tolerance of the solves."""
    atol: float = 1e-4
    """Absolute tolerance of the solves."""
    compile: bool = False
    """Whether the solves are compiled programs."""
    checkpoint_every: int = 10
    """Epochs."""

    def __post_init__(self) -> None:
        """Raises ValueError for a value that cannot work."""
        for name in ("epochs", "batch_size", "learning_rate", "hidden", "noise", "rtol", "atol", "checkpoint_every"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")


def build(name: ModelName, config: TrainConfig, seed: int) -> SpiralModel:
    """The model, untrained.

    Two things are not the paper's. Its recognition network and its baseline are plain recurrent networks; here both
    have gated units. Its field has one layer of 20 units; that of the authors' later example has two. Here they have
    50 units: in one training each of 3,000 steps with 100 observations the error beyond was 0.163, with 20 units 0.241.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        noise = GaussianNoise(2, config.noise)
        if name == "rnn":
            return Forecaster(GapRNN(2, WIDTH), nn.Linear(WIDTH, 2), noise)
        first, second = nn.Linear(LATENT, config.hidden), nn.Linear(config.hidden, config.hidden)
        field = nn.Sequential(first, nn.ELU(), second, nn.ELU(), nn.Linear(config.hidden, LATENT))
        return iso.LatentODE(
            GapRNN(2, WIDTH),
            Autonomous(field),
            nn.Sequential(nn.Linear(LATENT, UNITS), nn.ReLU(), nn.Linear(UNITS, 2)),
            latent=LATENT,
            noise=noise,
            batch_dims=0,  # all spirals have their times from the same hundred
            rtol=config.rtol,
            atol=config.atol,
            compile=config.compile,
        )


def predicted(model: SpiralModel, data: Spirals, samples: int = 20) -> Tensor:
    """Where the spirals are at all 200 times, from the observations of the first hundred: (200, N, 2).

    At the first hundred times the recurrent network has no forecast that knows what the latent ODE knows; nan.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if isinstance(model, iso.LatentODE):
            return model.predict(data.observed, data.ts, samples=samples).mean(2)
        half = len(data.ts) // 2
        later = model.predict(data.observed, data.ts[half:])
        return torch.cat([torch.full_like(later, math.nan), later])


class Training:
    """One model's training, which a kill sets back by a few epochs, and which resumes to the same numbers."""

    def __init__(self, name: str, model: SpiralModel, series: iso.Series, config: TrainConfig, seed: int) -> None:
        """`name` is that of its checkpoint."""
        self.name, self.model, self.series, self.config, self.seed = name, model, series, config, seed
        self.epoch = 0
        self.steps = config.epochs * math.ceil(len(series) / config.batch_size)
        self.optimiser = Adam(model.parameters())
        self.schedule = OneCycleLR(self.optimiser, config.learning_rate, total_steps=self.steps)

    def run(self, folder: RunFolder) -> None:
        """Trains from the folder's checkpoint, if there is one, to the last epoch."""
        parts = {"model": self.model, "optimiser": self.optimiser, "schedule": self.schedule}
        progress = Progress(folder, self.name, "epoch", parts)
        if (state := progress.restore()) is not None:
            self.epoch = state["epoch"]
        progress.forget(after=self.epoch)
        with tqdm(total=self.config.epochs, initial=self.epoch, desc=self.name, unit="epoch", disable=None) as bar:
            while self.epoch < self.config.epochs:
                loss = self._train_epoch()
                bar.update()
                bar.set_postfix_str(f"loss {loss:.3f}")
                if self.epoch % self.config.checkpoint_every == 0 or self.epoch == self.config.epochs:
                    progress.leave({"model": self.name, "epoch": self.epoch, "loss": loss})

    def _train_epoch(self) -> float:
        self.epoch += 1
        losses = []
        with torch.random.fork_rng(devices=[]):
            # Seeded anew each epoch: a resumed run draws the same without a generator's saved state.
            torch.manual_seed(1_000_003 * self.seed + self.epoch)
            for batch in self.series.batches(self.config.batch_size):
                self.optimiser.zero_grad()
                loss = -self._bound(batch).mean()
                loss.backward()
                clip_grad_norm_(self.model.parameters(), LONGEST)
                self.optimiser.step()
                self.schedule.step()
                losses.append(loss.detach())
        return torch.stack(losses).mean().item()

    def _bound(self, batch: iso.Series) -> Tensor:
        if isinstance(self.model, Forecaster):
            return self.model.log_likelihood(batch)
        done = self.schedule.last_epoch / self.steps
        return self.model.elbo(batch, kl_weight=min(1.0, done / max(self.config.warm_up, 1e-9)))


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
