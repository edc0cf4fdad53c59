"""`isocline reproduce figure5`: maximum likelihood, hidden units against layers, and the way from noise to data."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Self

import torch
from lightning_fabric import Fabric
from matplotlib.figure import Figure
from torch import Generator, Tensor

import isocline as iso
from isocline.data import POINTS
from isocline.experiments.reproduction import Finding, Reproduction, Results
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.section4.fitting import Fit, Mean, evaluating, mean, parameters
from isocline.experiments.section4.panels import Picture, pictured, show
from isocline.models.flows import Flow, PlanarField, PlanarFlow

Model = Literal["CNF", "NF"]
MODELS: tuple[Model, ...] = ("CNF", "NF")
REACH = 4.5
"""Half the side of the pictures."""
STAGES = (0.05, 0.25, 0.5, 0.75, 1.0)
"""Shares of the way from noise to data at which densities are shown; the first, as in the paper, not quite noise."""


@dataclass(frozen=True)
class Fitted:
    """A flow that was fitted to data.

    Attributes:
        data: Name of the data set.
        model: CNF or NF.
        parameters: Numbers that were fitted.
        log_likelihood: Of test data, in nats a point.
        round_trip: Largest distance of test points from where they come back to, from noise.
        losses: Means of the loss in pieces of the training.
        pictures: Densities on the way from noise to data.
        samples: Of the flow.
    """

    data: str
    model: Model
    parameters: int
    log_likelihood: Mean
    round_trip: float
    losses: tuple[float, ...]
    pictures: tuple[Picture, ...]
    samples: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Figure5(Reproduction):
    """Maximum likelihood on Two Circles and Two Moons: a planar CNF against as many planar layers."""

    data: tuple[str, ...] = ("two circles", "two moons")
    """Data sets: two circles, two moons, 8 Gaussians, checkerboard, pinwheel, 2 spirals."""
    size: int = 64
    """Hidden units, and layers."""
    cnf_iterations: int = 10_000
    """Of Adam."""
    nf_iterations: int = 100_000
    """Of RMSprop. The paper does not say how many it made for this figure."""
    cnf_learning_rate: float = 5e-3
    """Of Adam; it falls to zero like half a cosine."""
    nf_learning_rate: float = 1e-4
    """Of RMSprop with momentum 0.9, likewise."""
    batch_size: int = 512
    """Points of an iteration, drawn anew for each."""
    tolerance: float = 1e-3
    """rtol = atol of the solves in training."""
    every: int = 500
    """Iterations of a CNF from one checkpoint to the next; flows of layers make ten times as many."""
    test: int = 10_000
    """Points for the final likelihood."""
    shown: int = 500
    """Samples in the figure."""
    pixels: int = 60
    """Along a side of a picture."""
    seed: int = 0
    """Of weights and data."""

    def smaller(self) -> Self:
        """One data set, few units, a few iterations."""
        return replace(
            self,
            data=("two moons",),
            size=4,
            cnf_iterations=40,
            nf_iterations=100,
            cnf_learning_rate=3e-2,
            nf_learning_rate=3e-3,
            batch_size=64,
            every=20,
            test=500,
            shown=100,
            pixels=20,
        )

    def run(self, folder: RunFolder, fabric: Fabric) -> "Figure5Results":
        """Fits every flow, one after the other."""
        return Figure5Results(tuple(self._fitted(name, model, folder) for name in self.data for model in MODELS))

    def _fitted(self, name: str, model: Model, folder: RunFolder) -> Fitted:
        flow, optimiser, iterations = self._model(model)
        fit = Fit(
            name=f"{name.replace(' ', '-')}-{model}",
            flow=flow,
            optimiser=optimiser,
            loss=partial(self._loss, flow, name),
            iterations=iterations,
            every=self.every if model == "CNF" else 10 * self.every,
            seed=self.seed,
        )
        losses = fit.run(folder)
        evaluating(flow)
        test = POINTS[name](self.test, Generator().manual_seed(10**9 + self.seed))  # unlike any seed of a piece
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return Fitted(
                data=name,
                model=model,
                parameters=parameters(flow),
                log_likelihood=mean(flow.log_prob(test)),
                round_trip=float((flow.to_data(flow.to_noise(test)) - test).abs().max()),
                losses=losses,
                pictures=tuple(pictured(stage, REACH, self.pixels) for stage in stages(flow)),
                samples=tuple(tuple(point) for point in flow.sample((self.shown,)).tolist()),
            )

    def _model(self, model: Model) -> tuple[Flow, torch.optim.Optimizer, int]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            flow: Flow
            if model == "NF":
                flow = PlanarFlow(2, self.size, closed_form="to_noise")
                rate = self.nf_learning_rate
                return flow, torch.optim.RMSprop(flow.parameters(), rate, momentum=0.9), self.nf_iterations
            flow = iso.CNF(PlanarField(2, self.size), 2, rtol=self.tolerance, atol=self.tolerance)
            return flow, torch.optim.Adam(flow.parameters(), self.cnf_learning_rate), self.cnf_iterations

    def _loss(self, flow: Flow, name: str, done: float) -> Tensor:
        return -flow.log_prob(POINTS[name](self.batch_size, None)).mean()


def stages(flow: Flow) -> list[Callable[[Tensor], Tensor]]:
    """The log-densities on the way from noise to data: after shares of the time, or of the layers."""
    if isinstance(flow, iso.CNF):
        start, end = flow.ts
        return [flow.at(start + share * (end - start)).log_prob for share in STAGES]
    assert isinstance(flow, PlanarFlow)
    return [flow.nearest_to_noise(max(1, round(share * len(flow.b)))).log_prob for share in STAGES]


@dataclass(frozen=True)
class Figure5Results(Results):
    """What was fitted.

    Attributes:
        fitted: The flows.
    """

    fitted: tuple[Fitted, ...]

    def pairs(self) -> list[tuple[Fitted, Fitted]]:
        """CNF and NF of each data set."""
        return list(zip(self.fitted[::2], self.fitted[1::2], strict=True))

    def findings(self) -> tuple[Finding, ...]:
        """Which model fits better, and whether both ways through a CNF are right."""
        better = [cnf.log_likelihood.value > nf.log_likelihood.value for cnf, nf in self.pairs()]
        shown = "; ".join(
            f"{cnf.data}: {_in_words(cnf)} against {_in_words(nf)}, with {cnf.parameters:,} and {nf.parameters:,} "
            "parameters"
            for cnf, nf in self.pairs()
        )
        errors = ", ".join(f"{row.data} {row.round_trip:.0e}" for row in self.fitted if row.model == "CNF")
        return (
            Finding(
                "Figure 5: by maximum likelihood a CNF fits Two Circles and Two Moons; a planar flow of as many layers "
                "has difficulty with Two Moons.",
                "yes" if all(better) else "in part" if any(better) else "no",
                f"Log-likelihood of test data in nats a point, CNF against NF, with standard errors: {shown}.",
            ),
            Finding(
                "Section 4.1: a CNF's reverse transformation costs about as much as the forward pass, so it may be "
                "trained one way and sampled the other.",
                "yes" if max(row.round_trip for row in self.fitted if row.model == "CNF") < 1e-4 else "in part",
                "Largest distance of a test point from where it comes back to from noise, at tolerance 1e-5: "
                f"{errors}. Either way is one solve.",
            ),
        )

    def plot(self) -> Figure:
        """A row a flow: densities from noise to data, and samples."""
        columns = len(STAGES) + 1
        figure = Figure(figsize=(2.2 * columns, 2.4 * len(self.fitted)), layout="constrained")
        rows = figure.subplots(len(self.fitted), columns, squeeze=False)
        for row, flow in zip(rows, self.fitted, strict=True):
            for axes, picture, share in zip(row, flow.pictures, STAGES, strict=False):
                show(axes, picture, REACH, f"{flow.model}, {share:.0%} of the way")
            row[-1].scatter(*zip(*flow.samples, strict=True), s=2)
            row[-1].set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal", xticks=[], yticks=[])
            row[-1].set_title(f"samples: {flow.data}", fontsize="medium")
        return figure


def _in_words(row: Fitted) -> str:
    return f"{row.log_likelihood.value:.3f} ± {row.log_likelihood.error:.3f}"
