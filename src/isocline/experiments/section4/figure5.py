"""`isocline reproduce figure5`: maximum likelihood, hidden units against layers, and the way from noise to data."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from math import hypot
from typing import Self

import torch
from lightning_fabric import Fabric
from matplotlib.figure import Figure
from torch import Generator, Tensor

import isocline as iso
from isocline.data import POINTS
from isocline.experiments.explore.subject import Subject
from isocline.experiments.memory import parameters
from isocline.experiments.reproduction import Finding, Results
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.section4.fitting import Mean, mean
from isocline.experiments.section4.panels import Picture, animated, pictured, scatter, show
from isocline.experiments.section4.planar import MODELS, REACH, Model, Planar
from isocline.models.flows import Flow, PlanarFlow

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
        evaluations: Of the CNF's field, for that; of an NF its layers.
        round_trip: Largest distance of test points from where they come back to, from noise.
        losses: Means of the loss in pieces of the training.
        pictures: Densities on the way from noise to data.
        samples: Of the flow.
    """

    data: str
    model: Model
    parameters: int
    log_likelihood: Mean
    evaluations: int
    round_trip: float
    losses: tuple[float, ...]
    pictures: tuple[Picture, ...]
    samples: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Figure5(Planar):
    """Maximum likelihood on Two Circles and Two Moons: a planar CNF against as many planar layers."""

    data: tuple[str, ...] = ("two circles", "two moons")
    """Data sets: two circles, two moons, 8 Gaussians, checkerboard, pinwheel, 2 spirals."""
    size: int = 64
    """Hidden units, and layers."""
    cnf_learning_rate: float = 1e-3
    """Of Adam; it falls to zero like half a cosine. So many units together need smaller steps than few."""
    nf_iterations: int = 100_000
    """Of RMSprop. The paper does not say how many it made for this figure."""
    batch_size: int = 512
    """Points of an iteration, drawn anew for each."""
    test: int = 10_000
    """Points for the final likelihood."""
    shown: int = 500
    """Samples in the figure, and in the animation."""
    frames: int = 40
    """Of the animation from noise to data of each CNF."""

    def smaller(self) -> Self:
        """One data set, few units, a few iterations."""
        return replace(super().smaller(), data=("two moons",), size=4, test=500, shown=100, frames=3)

    def run(self, folder: RunFolder, fabric: Fabric) -> "Figure5Results":
        """Fits every flow, one after the other; leaves an animation of each CNF in the folder."""
        return Figure5Results(tuple(self._row(name, model, folder) for name in self.data for model in MODELS))

    def subjects(self, folder: RunFolder) -> Iterator[Subject]:
        """The CNFs, from noise."""
        for name in self.data:
            if (state := folder.load_checkpoint(_label(name, "CNF"))) is None:
                continue
            flow = self.untrained("CNF", self.size, "to_noise")
            flow.load_state_dict(state["model"])
            assert isinstance(flow, iso.CNF)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                yield Subject(f"CNF of {name}", flow.fields[0], flow.base.sample((self.shown,)), flow.ts)

    def _row(self, name: str, model: Model, folder: RunFolder) -> Fitted:
        label = _label(name, model)
        flow, losses = self.fitted(label, model, self.size, "to_noise", partial(self._loss, name), folder)
        test = POINTS[name](self.test, Generator().manual_seed(10**9 + self.seed))  # unlike any seed of a piece
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            if isinstance(flow, iso.CNF):
                folder.write(f"{label}.gif", animated(self._ways(flow), REACH))
            log_p = flow.log_prob(test)
            return Fitted(
                data=name,
                model=model,
                parameters=parameters(flow),
                log_likelihood=mean(log_p),
                evaluations=_evaluations(flow),
                round_trip=float((flow.to_data(flow.to_noise(test)) - test).abs().max()),
                losses=losses,
                pictures=tuple(pictured(stage, REACH, self.pixels) for stage in stages(flow)),
                samples=tuple(tuple(point) for point in flow.sample((self.shown,)).tolist()),
            )

    def _loss(self, name: str, flow: Flow, done: float) -> Tensor:
        return -flow.log_prob(POINTS[name](self.batch_size, None)).mean()

    def _ways(self, flow: iso.CNF) -> Tensor:
        """Where samples are at times from noise to data, (T, B, 2)."""
        noise = flow.base.sample((self.shown,))
        ways: Tensor = flow.solve(flow.fields[0], noise, torch.linspace(*flow.ts, self.frames)).ys
        return ways


def _label(name: str, model: Model) -> str:
    """What checkpoint and metrics are called."""
    return f"{name.replace(' ', '-')}-{model}"


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
        """Which model fits better, whether the discrete one fits Two Moons, and whether both ways are right."""
        better = [cnf.log_likelihood.value > nf.log_likelihood.value for cnf, nf in self.pairs()]
        shown = "; ".join(
            f"{cnf.data}: {cnf.log_likelihood} against {nf.log_likelihood}, with {cnf.parameters:,} and "
            f"{nf.parameters:,} parameters, {cnf.evaluations} evaluations and {nf.evaluations} layers"
            for cnf, nf in self.pairs()
        )
        errors = ", ".join(f"{row.data} {row.round_trip:.0e}" for row in self.fitted if row.model == "CNF")
        return (
            Finding(
                "Figure 5: by maximum likelihood a CNF fits Two Circles and Two Moons, better than a planar flow of as "
                "many layers.",
                "yes" if all(better) else "in part" if any(better) else "no",
                f"Log-likelihood of test data in nats a point, CNF against NF, with standard errors: {shown}.",
            ),
            *(_difficulty(cnf, nf) for cnf, nf in self.pairs() if cnf.data == "two moons"),
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
            scatter(row[-1], flow.samples, REACH, f"samples: {flow.data}")
        return figure


def _evaluations(flow: Flow) -> int:
    """What the last pass through it took: evaluations of its field, or its layers."""
    if isinstance(flow, iso.CNF):
        assert flow.stats is not None
        return flow.stats.evaluations
    assert isinstance(flow, PlanarFlow)
    return len(flow.b)


def _difficulty(cnf: Fitted, nf: Fitted) -> Finding:
    """Whether the discrete flow stays behind by more than the errors of both likelihoods."""
    behind = cnf.log_likelihood.value - nf.log_likelihood.value
    error = hypot(cnf.log_likelihood.error, nf.log_likelihood.error)
    return Finding(
        "Figure 5: the planar flow has difficulty with Two Moons.",
        "yes" if behind > 3 * error else "no",
        f"It is {behind:.3f} nats a point behind, where the likelihoods are known to {error:.3f}.",
    )
