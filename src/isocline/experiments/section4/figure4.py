"""`isocline reproduce figure4`: flows fitted to densities known up to a factor, layers against hidden units."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import torch
from lightning_fabric import Fabric
from matplotlib.figure import Figure
from torch import Tensor

from isocline.data import POTENTIALS, log_normaliser
from isocline.experiments.memory import parameters
from isocline.experiments.reproduction import Finding, Results
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.section4.fitting import Mean, mean
from isocline.experiments.section4.panels import Picture, pictured, show
from isocline.experiments.section4.planar import MODELS, REACH, Model, Planar
from isocline.models.flows import Flow


@dataclass(frozen=True)
class Cell:
    """A flow that was fitted to a target.

    Attributes:
        target: Name of the potential.
        model: CNF or NF.
        size: Hidden units or layers.
        parameters: Numbers that were fitted.
        divergence: KL(q || p) in nats, over fresh samples.
        losses: Means of the loss in pieces of the training.
        picture: The density q.
    """

    target: str
    model: Model
    size: int
    parameters: int
    divergence: Mean
    losses: tuple[float, ...]
    picture: Picture


@dataclass(frozen=True)
class Target:
    """A density to be matched.

    Attributes:
        name: Of the potential U.
        log_normaliser: Logarithm of the integral of exp(-U).
        picture: The density.
    """

    name: str
    log_normaliser: float
    picture: Picture


@dataclass(frozen=True)
class Figure4(Planar):
    """Density matching: planar CNFs with M hidden units against planar flows with K = M layers."""

    targets: tuple[str, ...] = ("U1", "U2", "U3")
    """Potentials of Rezende & Mohamed's Table 1: U1 to U4."""
    sizes: tuple[int, ...] = (2, 8, 32)
    """Hidden units M, and layers K."""
    cnf_warmup: float = 0.5
    """Share of a CNF's iterations in which the potential's weight grows from 0.01 to 1."""
    nf_warmup: float = 0.02
    """The same for flows of layers: 10,000 iterations, as in Rezende & Mohamed."""
    samples: int = 20_000
    """For the final divergence."""

    def smaller(self) -> Self:
        """One target, one size, a few iterations."""
        return replace(super().smaller(), targets=("U2",), sizes=(2,), cnf_warmup=0.0, samples=500)

    def run(self, folder: RunFolder, fabric: Fabric) -> "Figure4Results":
        """Fits every flow, one after the other."""
        cases = [(target, size, model) for target in self.targets for size in self.sizes for model in MODELS]
        return Figure4Results(
            tuple(self._target(name) for name in self.targets), tuple(self._cell(*case, folder) for case in cases)
        )

    def _target(self, name: str) -> Target:
        potential = POTENTIALS[name]
        picture = pictured(lambda z: -potential(z), REACH, self.pixels)
        return Target(name, log_normaliser(potential), picture)

    def _cell(self, target: str, size: int, model: Model, folder: RunFolder) -> Cell:
        potential = POTENTIALS[target]
        loss = partial(self._loss, potential, self.cnf_warmup if model == "CNF" else self.nf_warmup)
        flow, losses = self.fitted(f"{target}-{model}-{size}", model, size, "to_data", loss, folder)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            z, log_q = flow.rsample_with_log_prob((self.samples,))
        excess = log_q + potential(z) + log_normaliser(potential)
        picture = pictured(flow.log_prob, REACH, self.pixels)
        return Cell(target, model, size, parameters(flow), mean(excess), losses, picture)

    def _loss(self, potential: Callable[[Tensor], Tensor], warmup: float, flow: Flow, done: float) -> Tensor:
        z, log_q = flow.rsample_with_log_prob((self.batch_size,))
        weight = min(1.0, 0.01 + done / warmup) if warmup else 1.0
        return (log_q + weight * potential(z)).mean()


@dataclass(frozen=True)
class Figure4Results(Results):
    """What was fitted.

    Attributes:
        targets: What was to be matched.
        cells: The flows.
    """

    targets: tuple[Target, ...]
    cells: tuple[Cell, ...]

    def cell(self, target: str, model: Model, size: int) -> Cell:
        """The flow of this kind and size."""
        (found,) = (c for c in self.cells if (c.target, c.model, c.size) == (target, model, size))
        return found

    @property
    def sizes(self) -> tuple[int, ...]:
        """Hidden units, and layers."""
        return tuple(dict.fromkeys(cell.size for cell in self.cells))

    def pairs(self) -> list[tuple[Cell, Cell]]:
        """CNF and NF of each target and size."""
        return [
            (self.cell(target.name, "CNF", size), self.cell(target.name, "NF", size))
            for target in self.targets
            for size in self.sizes
        ]

    def findings(self) -> tuple[Finding, ...]:
        """Which model is nearer to the target."""
        below = [cnf.divergence.value < nf.divergence.value for cnf, nf in self.pairs()]
        shown = "; ".join(
            f"{cnf.target}, {cnf.size}: {cnf.divergence} against {nf.divergence}" for cnf, nf in self.pairs()
        )
        return (
            Finding(
                "Figure 4: a planar CNF with M hidden units is at least as expressive as a planar flow with K = M "
                "layers, and generally achieves lower loss.",
                "yes" if all(below) else "in part" if any(below) else "no",
                f"KL(q || p) in nats, CNF against NF, with standard errors: {shown}. The CNF is below in {sum(below)} "
                f"of {len(below)} cells. The paper's loss differs from this by the logarithm of the target's "
                "normaliser, which is known here.",
            ),
        )

    def plot(self) -> Figure:
        """A row a target: the density, both models at each size, and the divergences."""
        columns = 2 + 2 * len(self.sizes)
        figure = Figure(figsize=(2.1 * columns, 2.3 * len(self.targets)), layout="constrained")
        rows = figure.subplots(len(self.targets), columns, squeeze=False)
        for row, target in zip(rows, self.targets, strict=True):
            show(row[0], target.picture, REACH, f"target {target.name}")
            shown = [self.cell(target.name, model, size) for model in MODELS for size in self.sizes]
            for axes, cell in zip(row[1:-1], shown, strict=True):
                name = "M" if cell.model == "CNF" else "K"
                show(axes, cell.picture, REACH, f"{cell.model}, {name} = {cell.size}")
            for model in MODELS:
                values = [self.cell(target.name, model, size).divergence.value for size in self.sizes]
                row[-1].plot(self.sizes, values, marker="o", label=model)
            row[-1].set(xlabel="M or K", ylabel="KL(q || p), nats", xscale="log", yscale="log")
            row[-1].set_xticks(self.sizes, map(str, self.sizes))
            row[-1].minorticks_off()
            row[-1].legend(fontsize="small")
        return figure
