"""Flows fitted by a loss, in pieces that are each left in the run folder, and that resume to the same numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi

import torch
from torch import Tensor
from torch.optim import Optimizer
from tqdm import tqdm

import isocline as iso
from isocline.experiments.progress import Progress
from isocline.experiments.run_folder import RunFolder
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
    """

    name: str
    flow: Flow
    optimiser: Optimizer
    loss: Callable[[float], Tensor]
    iterations: int
    every: int
    seed: int

    def run(self, folder: RunFolder) -> tuple[float, ...]:
        """Trains from the folder's checkpoint, if there is one, to the end; the mean loss of each piece."""
        progress = Progress(folder, self.name, "piece", {"flow": self.flow, "optimiser": self.optimiser})
        state = progress.restore()
        losses: list[float] = [] if state is None else list(state["losses"])
        progress.forget(after=len(losses))
        pieces = -(-self.iterations // self.every)
        # disable=None: no bar where the output is not a terminal
        for piece in tqdm(range(len(losses), pieces), initial=len(losses), total=pieces, desc=self.name, disable=None):
            with iso.track() as work, torch.random.fork_rng(devices=[]):
                # Seeded anew for each piece: a resumed run draws the same numbers without a generator's saved state.
                torch.manual_seed(1_000_003 * self.seed + piece)
                losses.append(self._piece(piece))
            evaluations = work.forward.evaluations / work.solves if work.solves else None
            record = {"model": self.name, "piece": piece + 1, "loss": losses[-1], "nfe_forward": evaluations}
            progress.leave(record, losses=losses)
        return tuple(losses)

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


def evaluating(flow: Flow) -> None:
    """Has a flow solve as accurately for each point as a tolerance of 1e-5 asks for, not only on average over them."""
    if isinstance(flow, iso.CNF):
        flow.rtol = flow.atol = None
        flow.controller = iso.PID(1e-5, 1e-6, norm="max")


@dataclass(frozen=True)
class Mean:
    """A mean over samples.

    Attributes:
        value: In nats.
        error: Its standard error.
    """

    value: float
    error: float


def mean(samples: Tensor) -> Mean:
    """The mean of (n,) numbers."""
    return Mean(samples.mean().item(), (samples.std() / len(samples) ** 0.5).item())


def parameters(flow: Flow) -> int:
    """How many numbers the flow has."""
    return sum(p.numel() for p in flow.parameters())
