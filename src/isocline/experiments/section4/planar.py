"""What Figures 4 and 5 share: planar CNFs, fitted by Adam, beside flows of as many planar layers, by RMSprop."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Self

import torch
from torch import Tensor

import isocline as iso
from isocline.experiments.reproduction import Reproduction
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.section4.fitting import Fit, evaluating
from isocline.models.flows import Flow, PlanarField, PlanarFlow

Model = Literal["CNF", "NF"]
MODELS: tuple[Model, ...] = ("CNF", "NF")
REACH = 4.5
"""Half the side of the pictures."""


@dataclass(frozen=True)
class Planar(Reproduction):
    """A comparison of the two; abstract."""

    cnf_iterations: int = 10_000
    """Of Adam, as in the paper."""
    nf_iterations: int = 500_000
    """Of RMSprop, as in the paper."""
    cnf_learning_rate: float = 3e-3
    """Of Adam; it falls to zero like half a cosine."""
    nf_learning_rate: float = 1e-4
    """Of RMSprop with momentum 0.9, likewise."""
    batch_size: int = 256
    """Samples or points of an iteration, drawn anew for each."""
    tolerance: float = 1e-3
    """rtol = atol of the solves in training."""
    every: int = 500
    """Iterations of a CNF from one checkpoint to the next; flows of layers have as many checkpoints."""
    pixels: int = 60
    """Along a side of a picture."""
    seed: int = 0
    """Of weights, samples and data."""
    compile: bool = False
    """Whether solves, and losses of layers, are compiled programs; these draw other random numbers."""

    def smaller(self) -> Self:
        """A few iterations."""
        return replace(
            self,
            cnf_iterations=40,
            nf_iterations=100,
            cnf_learning_rate=3e-2,
            nf_learning_rate=3e-3,
            batch_size=64,
            every=20,
            pixels=20,
        )

    def untrained(self, model: Model, size: int, closed_form: Literal["to_data", "to_noise"]) -> Flow:
        """A flow with the weights that the seed gives."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            if model == "CNF":
                field = PlanarField(2, size)
                return iso.CNF(field, 2, rtol=self.tolerance, atol=self.tolerance, compile=self.compile)
            return PlanarFlow(2, size, closed_form=closed_form)

    def fitted(
        self,
        name: str,
        model: Model,
        size: int,
        closed_form: Literal["to_data", "to_noise"],
        loss: Callable[[Flow, float], Tensor],
        folder: RunFolder,
    ) -> tuple[Flow, tuple[float, ...]]:
        """A flow that was fitted and solves accurately, and its losses.

        Args:
            name: Of checkpoint and metrics.
            model: Which.
            size: Hidden units, or layers.
            closed_form: The direction in which layers have one.
            loss: Of a flow, from how much of the training is done.
            folder: Where it is kept.
        """
        flow = self.untrained(model, size, closed_form)
        if model == "CNF":
            # Rare samples have gradients far larger than others. With the usual beta2, 0.999, they threw some trainings
            # back to where they began; with 0.9 they count for too little, and the loss of others rose.
            optimiser: torch.optim.Optimizer = torch.optim.Adam(
                flow.parameters(), self.cnf_learning_rate, betas=(0.9, 0.99)
            )
            iterations, every = self.cnf_iterations, self.every
        else:
            optimiser = torch.optim.RMSprop(flow.parameters(), self.nf_learning_rate, momentum=0.9)
            iterations, every = self.nf_iterations, -(-self.every * self.nf_iterations // self.cnf_iterations)
            loss = torch.compile(loss) if self.compile else loss
        losses = Fit(name, flow, optimiser, partial(loss, flow), iterations, every, self.seed).run(folder).losses
        evaluating(flow)
        return flow, losses
