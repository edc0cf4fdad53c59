"""Flows fitted by a loss, in pieces that are each left in the run folder, and that resume to the same numbers."""

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from math import cos, inf, pi
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

import isocline as iso
from isocline.experiments.progress import Progress
from isocline.experiments.run_folder import RunFolder
from isocline.models.flows import Flow


@dataclass(frozen=True)
class Course:
    """How a training went.

    Attributes:
        losses: Mean losses of the pieces.
        scores: What was selected by after each piece; empty if nothing was.
        seconds: Time that the pieces took, in seconds, those before a resume included.
    """

    losses: tuple[float, ...]
    scores: tuple[float, ...]
    seconds: float


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
        progress = Progress(folder, self.name, "piece", {"flow": self.flow, "optimiser": self.optimiser})
        state: dict[str, Any] = progress.restore() or {"losses": [], "scores": [], "seconds": 0.0, "best": None}
        losses, scores, seconds, best = (state[name] for name in ("losses", "scores", "seconds", "best"))
        progress.forget(after=len(losses))
        pieces = -(-self.iterations // self.every)
        # disable=None: no bar where the output is not a terminal
        for piece in tqdm(range(len(losses), pieces), initial=len(losses), total=pieces, desc=self.name, disable=None):
            start = time.perf_counter()
            with iso.track() as work, torch.random.fork_rng(devices=[]):
                # Seeded anew for each piece: a resumed run draws the same numbers without a generator's saved state.
                torch.manual_seed(1_000_003 * self.seed + piece)
                losses.append(self._piece(piece))
            seconds += time.perf_counter() - start
            evaluations = work.forward.evaluations / work.solves if work.solves else None
            record = {"model": self.name, "piece": piece + 1, "loss": losses[-1], "nfe_forward": evaluations}
            if self.score is not None:
                record["score"] = self.score()
                if record["score"] > max(scores, default=-inf):
                    best = deepcopy(self.flow.state_dict())
                scores.append(record["score"])
            progress.leave(record, losses=losses, scores=scores, seconds=seconds, best=best)
        if best is not None:
            self.flow.load_state_dict(best)
        return Course(tuple(losses), tuple(scores), seconds)

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
