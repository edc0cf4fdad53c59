"""A model of series, fitted by batches of about equal length."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Adam
from torch.optim.lr_scheduler import OneCycleLR

from isocline.experiments.run_folder import RunFolder
from isocline.experiments.training import Course, Training

LONGEST = 10.0
"""Gradients are cut to this norm."""
SHUFFLED = 16
"""Batches' worth of series that are drawn together, and then sorted by length."""


@dataclass(frozen=True)
class Fit:
    """How a model is fitted.

    Attributes:
        name: Of checkpoint and metrics.
        model: What is fitted.
        lengths: Of the series, (N,); batches are of series of about equal length, so that little of them is padding.
        loss: The loss of a batch, from the places of its series and how much of the training is done, 0 to 1.
        epochs: Passes over the series.
        batch_size: Series a step.
        learning_rate: Peak of the one-cycle schedule of Adam.
        seed: Of what is drawn.
        every: Epochs from one checkpoint to the next.
        score: What is to be high, on series kept for this; the model ends as it was where that was highest. None: as it
            is after the last epoch.
    """

    name: str
    model: nn.Module
    lengths: Tensor
    loss: Callable[[Tensor, float], Tensor]
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    every: int = 1
    score: Callable[[], float] | None = None

    def run(self, folder: RunFolder) -> Course:
        """Trains from the folder's checkpoint, if there is one, to the end."""
        steps = self.epochs * math.ceil(len(self.lengths) / self.batch_size)
        optimiser = Adam(self.model.parameters())
        schedule = OneCycleLR(optimiser, self.learning_rate, total_steps=steps)
        return Training(
            self.name,
            self.model,
            "epoch",
            pieces=self.epochs,
            piece=lambda _: self._epoch(optimiser, schedule),
            parts={"optimiser": optimiser, "schedule": schedule},
            seed=self.seed,
            every=self.every,
            score=self.score,
        ).run(folder)

    def _epoch(self, optimiser: Adam, schedule: OneCycleLR) -> float:
        total = torch.zeros(())
        self.model.train()
        for batch in batches(self.lengths, self.batch_size):
            optimiser.zero_grad()
            loss = self.loss(batch, schedule.last_epoch / schedule.total_steps)
            loss.backward()
            # Where a path runs away its gradient overflows, and one such step would end the training.
            if clip_grad_norm_(self.model.parameters(), LONGEST).isfinite():
                optimiser.step()
            schedule.step()
            total += len(batch) * loss.detach()
        self.model.eval()
        return total.item() / len(self.lengths)


def batches(lengths: Tensor, size: int) -> Iterator[Tensor]:
    """Places of all series once, in random order, so many at a time, those of a batch of about equal length."""
    for drawn in torch.randperm(len(lengths)).split(SHUFFLED * size):
        pieces = drawn[lengths[drawn].argsort()].split(size)
        for place in torch.randperm(len(pieces)).tolist():
            yield pieces[place]


def in_order(count: int, size: int) -> Iterator[Tensor]:
    """Places of all series once, in order, so many at a time: for measuring."""
    yield from torch.arange(count).split(size)
