"""Flows fitted by a loss."""

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import isocline as iso
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.training import Course, Training
from isocline.models.flows import Flow


@dataclass(frozen=True)
class Fit:
    """How a flow is fitted.

    Attributes:
        name: Of checkpoint and metrics.
        flow: What is fitted.
        optimiser: Of its parameters. Its learning rate is where it begins; it falls to zero like half a cosine.
        loss: The loss of an iteration, from how much of the training is done, 0 to 1; it may draw random numbers.
        iterations: How many.
        every: Iterations from one checkpoint to the next.
        seed: Of what the loss draws.
        score: Of the flow on validation data, the larger the better: in the end the flow is what it was after the best
            piece. None takes the last.
    """

    name: str
    flow: nn.Module
    optimiser: Optimizer
    loss: Callable[[float], Tensor]
    iterations: int
    every: int
    seed: int
    score: Callable[[], float] | None = None

    def run(self, folder: RunFolder) -> Course:
        """Trains from the folder's checkpoint, if there is one, to the end."""
        return Training(
            self.name,
            self.flow,
            "piece",
            pieces=-(-self.iterations // self.every),
            piece=self._piece,
            parts={"optimiser": self.optimiser},
            seed=self.seed,
            score=self.score,
        ).run(folder)

    def _piece(self, piece: int) -> float:
        total, first = torch.zeros(()), piece * self.every
        last = min(first + self.every, self.iterations)
        for iteration in range(first, last):
            done = iteration / self.iterations
            for group in self.optimiser.param_groups:
                group["lr"] = self.optimiser.defaults["lr"] * (1 + cos(pi * done)) / 2
            self.optimiser.zero_grad()
            loss = self.loss(done)
            loss.backward()
            self.optimiser.step()
            total += loss.detach()
        return total.item() / (last - first)


def accurate() -> iso.PID:
    """Solves as accurately for each point as a tolerance of 1e-5 asks for, not only on average over them."""
    return iso.PID(1e-5, 1e-6, norm="max")


def evaluating(flow: Flow) -> None:
    """Has a flow solve accurately."""
    if isinstance(flow, iso.CNF):
        flow.rtol = flow.atol = None
        flow.controller = accurate()


@dataclass(frozen=True)
class Mean:
    """A mean over samples.

    Attributes:
        value: In nats.
        error: Its standard error.
    """

    value: float
    error: float

    def __str__(self) -> str:
        """Both, to the thousandth of a nat."""
        return f"{self.value:.3f} ± {self.error:.3f}"


def mean(samples: Tensor) -> Mean:
    """The mean of (n,) numbers."""
    return Mean(samples.mean().item(), (samples.std() / len(samples) ** 0.5).item())
