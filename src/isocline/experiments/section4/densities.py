"""`isocline reproduce densities`: four ways to train a flow on points in the plane; what each reaches and costs."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Self

import torch
from lightning_fabric import Fabric
from matplotlib.figure import Figure
from torch import Generator, Tensor, nn

import isocline as iso
from isocline.data import POINTS
from isocline.experiments.memory import parameters
from isocline.experiments.reproduction import Finding, Reproduction, Results, Verdict
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.section4.fitting import Fit, Mean, accurate, mean
from isocline.experiments.section4.panels import Picture, pictured, scatter, show
from isocline.experiments.section4.planar import REACH
from isocline.experiments.tables import Table
from isocline.models.flows import FFJORDField, minibatch_optimal_transport

Training = Literal["FFJORD", "RNODE", "FM", "FM-OT"]
TRAININGS: tuple[Training, ...] = ("FFJORD", "RNODE", "FM", "FM-OT")
NEAR = 0.05
"""Log-likelihoods, in nats, that are no further apart than this are alike."""


@dataclass(frozen=True)
class Row:
    """A flow that was trained.

    Attributes:
        data: Name of the data set.
        training: By which loss.
        parameters: Numbers that were fitted.
        log_likelihood: Of test data, in nats a point.
        nfe_log_prob: Evaluations of the solve for their density, all points with the same steps.
        nfe_sample: Evaluations of the solve for as many samples, likewise.
        nfe_own: Evaluations for the density of a point, on average, each with steps of its own.
        seconds: Training time.
        losses: Means of the loss in pieces of the training.
        picture: The density.
        samples: Of the flow.
    """

    data: str
    training: Training
    parameters: int
    log_likelihood: Mean
    nfe_log_prob: int
    nfe_sample: int
    nfe_own: float
    seconds: float
    losses: tuple[float, ...]
    picture: Picture
    samples: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Densities(Reproduction):
    """FFJORD, RNODE and flow matching, with and without optimal transport: likelihood, evaluations, training time."""

    data: tuple[str, ...] = ("8 Gaussians", "checkerboard", "pinwheel", "2 spirals")
    """Data sets: two circles, two moons, 8 Gaussians, checkerboard, pinwheel, 2 spirals."""
    trainings: tuple[Training, ...] = TRAININGS
    """Maximum likelihood, plain and with penalties of kinetic energy and Jacobian; flow matching, with random pairs and
    with pairs by optimal transport."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the field's hidden layers."""
    iterations: int = 3000
    """Of Adam, by maximum likelihood."""
    matching_iterations: int = 10_000
    """Of Adam, by flow matching."""
    learning_rate: float = 3e-3
    """It falls to zero like half a cosine."""
    penalty: float = 0.01
    """Weight of both penalties of RNODE."""
    batch_size: int = 256
    """Points of an iteration, drawn anew for each."""
    tolerance: float = 1e-3
    """rtol = atol of the solves in training; measured is at 1e-5, for each point."""
    every: int = 150
    """Iterations by maximum likelihood from one checkpoint to the next; flow matching makes ten times as many."""
    test: int = 10_000
    """Points for likelihood and evaluations."""
    shown: int = 1000
    """Samples in the figure."""
    pixels: int = 60
    """Along a side of a picture."""
    seed: int = 0
    """Of weights and data."""

    def smaller(self) -> Self:
        """Two data sets, a few iterations."""
        return replace(
            self,
            data=("8 Gaussians", "pinwheel"),
            hidden=(16,),
            iterations=12,
            matching_iterations=100,
            learning_rate=1e-2,
            batch_size=64,
            tolerance=1e-2,
            every=8,
            test=300,
            shown=100,
            pixels=16,
        )

    def run(self, folder: RunFolder, fabric: Fabric) -> "DensitiesResults":
        """Trains every flow, one after the other."""
        cases = [(name, training) for name in self.data for training in self.trainings]
        return DensitiesResults(tuple(self._row(*case, folder) for case in cases))

    def _row(self, name: str, training: Training, folder: RunFolder) -> Row:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            field = FFJORDField(2, self.hidden)
        solving = training in ("FFJORD", "RNODE")
        trained = iso.Regularised(field, kinetic=True, jacobian=True) if training == "RNODE" else field
        flow = iso.CNF(trained, 2, rtol=self.tolerance, atol=self.tolerance)
        fit = Fit(
            name=f"{name.replace(' ', '-')}-{training}",
            flow=flow,
            optimiser=torch.optim.Adam(flow.parameters(), self.learning_rate),
            loss=partial(self._loss, flow, field, name, training),
            iterations=self.iterations if solving else self.matching_iterations,
            every=self.every if solving else 10 * self.every,
            seed=self.seed,
        )
        course = fit.run(folder)
        return self._measured(field, name, training, course.losses, course.seconds)

    def _loss(self, flow: iso.CNF, field: nn.Module, name: str, training: Training, done: float) -> Tensor:
        x = POINTS[name](self.batch_size, None)
        match training:
            case "FFJORD":
                return -flow.log_prob(x).mean()
            case "RNODE":
                log_prob, penalties = flow.log_prob_and_penalties(x)
                return (self.penalty * (penalties["kinetic"] + penalties["jacobian"]) - log_prob).mean()
            case "FM":
                return iso.flow_matching_loss(field, x)
            case "FM-OT":
                return iso.flow_matching_loss(field, x, pairing=minibatch_optimal_transport)

    @torch.no_grad()
    def _measured(
        self, field: nn.Module, name: str, training: Training, losses: tuple[float, ...], seconds: float
    ) -> Row:
        flow = iso.CNF(field, 2, controller=accurate())
        test = POINTS[name](self.test, Generator().manual_seed(10**9 + self.seed))  # unlike any seed of a piece
        with iso.track() as density:
            log_prob = flow.log_prob(test)
        with iso.track() as sampling, torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            samples = flow.sample((self.test,))
        with iso.track() as own:
            iso.CNF(field, 2, controller=accurate(), batch_dims=1).log_prob(test)
        return Row(
            data=name,
            training=training,
            parameters=parameters(field),
            log_likelihood=mean(log_prob),
            nfe_log_prob=density.forward.evaluations,
            nfe_sample=sampling.forward.evaluations,
            nfe_own=own.forward.rows / self.test,
            seconds=seconds,
            losses=losses,
            picture=pictured(flow.log_prob, REACH, self.pixels),
            samples=tuple((round(x, 4), round(y, 4)) for x, y in samples[: self.shown].tolist()),
        )


@dataclass(frozen=True)
class DensitiesResults(Results):
    """What was trained.

    Attributes:
        rows: The flows.
    """

    rows: tuple[Row, ...]

    @property
    def data(self) -> tuple[str, ...]:
        """The data sets."""
        return tuple(dict.fromkeys(row.data for row in self.rows))

    def of(self, training: Training) -> list[Row]:
        """The flows that were trained so, in the order of the data sets; none if none was."""
        return [row for row in self.rows if row.training == training]

    def findings(self) -> tuple[Finding, ...]:
        """What own steps, penalties, flow matching and transport change, where there is something beside it."""
        found = [self._own_steps()]
        if self.of("FFJORD") and self.of("RNODE"):
            found.append(self._penalties())
        if self.of("FFJORD") and self.of("FM"):
            found.append(self._matching())
        if self.of("FM") and self.of("FM-OT"):
            found.append(self._transport())
        return tuple(found)

    def _penalties(self) -> Finding:
        pairs = list(zip(self.of("FFJORD"), self.of("RNODE"), strict=True))
        fewer = [b.nfe_log_prob < a.nfe_log_prob and _as_good(b, a) for a, b in pairs]
        shown = "; ".join(
            f"{a.data}: {a.nfe_log_prob} and {b.nfe_log_prob} evaluations, "
            f"{a.log_likelihood} and {b.log_likelihood} nats"
            for a, b in pairs
        )
        return Finding(
            "Finlay et al. 2020: penalties of kinetic energy and of the Jacobian make a flow cheaper to solve, at no "
            "loss of likelihood.",
            _verdict(fewer),
            f"Without and with them: {shown}.",
        )

    def _matching(self) -> Finding:
        pairs = list(zip(self.of("FFJORD"), self.of("FM"), strict=True))
        sooner = [b.seconds < a.seconds and _as_good(b, a) for a, b in pairs]
        shown = "; ".join(
            f"{a.data}: {a.seconds:.0f} and {b.seconds:.0f} s, {a.log_likelihood} and {b.log_likelihood} nats"
            for a, b in pairs
        )
        return Finding(
            "Lipman et al. 2023: flow matching, which solves nothing in training, gives flows as good as by maximum "
            "likelihood, sooner.",
            _verdict(sooner),
            f"By maximum likelihood and by flow matching: {shown}. Up to {NEAR} nats less count as as good.",
        )

    def _transport(self) -> Finding:
        pairs = list(zip(self.of("FM"), self.of("FM-OT"), strict=True))
        shown = "; ".join(f"{a.data}: {a.nfe_sample} and {b.nfe_sample}" for a, b in pairs)
        return Finding(
            "Tong et al. 2023: pairs by optimal transport within a batch make a flow cheaper to sample from.",
            _verdict([b.nfe_sample < a.nfe_sample for a, b in pairs]),
            f"Evaluations of the solve for samples, with random pairs and with those: {shown}.",
        )

    def _own_steps(self) -> Finding:
        shares = [row.nfe_own / row.nfe_log_prob for row in self.rows]
        return Finding(
            "Section 6, minibatching: a batch that is solved as one system may take more evaluations than each of its "
            "samples alone.",
            _verdict([share < 1 for share in shares]),
            f"For the density of a point, with tolerances that hold for each, steps of its own take {min(shares):.2f} "
            f"to {max(shares):.2f} of the evaluations that shared ones take.",
        )

    def plot(self) -> Figure:
        """A row a data set: the data, then density and samples of each flow."""
        flows = {name: [row for row in self.rows if row.data == name] for name in self.data}
        columns = 1 + 2 * max(map(len, flows.values()))
        figure = Figure(figsize=(2.1 * columns, 2.3 * len(flows)), layout="constrained")
        for panels, (name, rows) in zip(
            figure.subplots(len(flows), columns, squeeze=False), flows.items(), strict=True
        ):
            data = POINTS[name](len(rows[0].samples), Generator().manual_seed(0)).tolist()
            scatter(panels[0], data, REACH, name)
            for axes, row in zip(panels[1::2], rows, strict=True):
                show(axes, row.picture, REACH, f"{row.training}: {row.log_likelihood.value:.2f} nats")
            for axes, row in zip(panels[2::2], rows, strict=True):
                scatter(axes, row.samples, REACH, f"{row.nfe_sample} evaluations")
        return figure

    def tables(self) -> tuple[Table, ...]:
        """A row a flow."""
        head = (
            "data",
            "training",
            "log-likelihood (nats)",
            "NFE of log p",
            "its own steps",
            "NFE of a sample",
            "training (s)",
        )
        return (Table("Flows trained in several ways", head, tuple(_cells(row) for row in self.rows)),)


def _cells(row: Row) -> tuple[str, ...]:
    numbers = str(row.nfe_log_prob), f"{row.nfe_own:.0f}", str(row.nfe_sample), f"{row.seconds:.0f}"
    return row.data, row.training, str(row.log_likelihood), *numbers


def _as_good(one: Row, other: Row) -> bool:
    return one.log_likelihood.value > other.log_likelihood.value - NEAR


def _verdict(holds: list[bool]) -> Verdict:
    return "yes" if all(holds) else "in part" if any(holds) else "no"
