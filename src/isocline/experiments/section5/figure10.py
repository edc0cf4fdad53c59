"""`isocline reproduce figure10`: spirals decoded along a line in the latent space, from one direction to the other."""

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Self

import torch
from lightning_fabric import Fabric
from matplotlib.figure import Figure
from torch import Tensor
from tyro.conf import OmitArgPrefixes

from isocline.data import spirals
from isocline.experiments.points import Points, points
from isocline.experiments.reproduction import Finding, Reproduction, Results
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.section5.spiral_models import TrainConfig
from isocline.experiments.section5.table2 import SETTINGS, Table2
from isocline.experiments.section5.trained import latent_ode_of, table_of

FRESH = 1000
"""Added to the seed of spirals that were not trained on."""


@dataclass(frozen=True)
class Stop:
    """One point of the line.

    Attributes:
        place: 0 at the clockwise spiral, 1 at the other.
        turning: By how much the path turns from its first time to its last, in radians, counter-clockwise.
        path: At all 200 times.
    """

    place: float
    turning: float
    path: Points


@dataclass(frozen=True)
class Figure10(Reproduction):
    """Decode spirals along lines in the latent space of a latent ODE, from clockwise to counter-clockwise ones."""

    train: OmitArgPrefixes[TrainConfig] = SETTINGS
    trained: Path | None = None
    """Folder of a run of table2: its latent ODE of its first seed is taken, and its settings in place of those here."""
    observations: int = 100
    """Of each spiral."""
    count: int = 1000
    """Spirals to train on, if none is trained."""
    pairs: int = 50
    """Lines, between spirals that were not trained on."""
    stops: int = 9
    """Points of a line."""
    seed: int = 0
    """Of weights and spirals, if none is trained."""

    def smaller(self) -> Self:
        """Few spirals, few epochs."""
        train = replace(self.train, epochs=2, batch_size=20, checkpoint_every=1)
        return replace(self, train=train, count=40, pairs=4, stops=5)

    def run(self, folder: RunFolder, fabric: Fabric) -> "Figure10Results":
        """Trains what is not trained, and decodes.

        Raises:
            RunFolderError: `trained` is no run of table2.
        """
        own = Table2(train=self.train, observations=(self.observations,), seeds=(self.seed,), count=self.count)
        table, home = table_of(self.trained, own, folder)
        model = latent_ode_of(table, self.observations, home)
        data = spirals(2 * self.pairs, self.observations, seed=table.seeds[0] + FRESH)
        with torch.no_grad():
            z0 = model.posterior(data.observed).mean
            ends = z0[data.clockwise], z0[~data.clockwise]
            places = torch.linspace(0, 1, self.stops)
            line = torch.lerp(ends[0].unsqueeze(1), ends[1].unsqueeze(1), places.unsqueeze(1))  # (pairs, stops, d)
            paths = model.decode(line, data.ts.unsqueeze(1).expand(-1, self.pairs))
        turnings = turning(paths)
        shown = tuple(
            Stop(round(place, 4), round(angle, 4), points(path))
            for place, angle, path in zip(places.tolist(), turnings[0].tolist(), paths[:, 0].unbind(1), strict=True)
        )
        return Figure10Results(shown, tuple(tuple(round(x, 4) for x in row) for row in turnings.tolist()))


def turning(paths: Tensor) -> Tensor:
    """By how much paths (T, ..., 2) turn in all, in radians, counter-clockwise: (...)."""
    steps = paths.diff(dim=0)
    before, after = steps[:-1], steps[1:]
    cross = before[..., 0] * after[..., 1] - before[..., 1] * after[..., 0]
    return torch.atan2(cross, (before * after).sum(-1)).sum(0)


@dataclass(frozen=True)
class Figure10Results(Results):
    """What was decoded.

    Attributes:
        line: The first line.
        turnings: Of the paths along each line, clockwise end first.
    """

    line: tuple[Stop, ...]
    turnings: tuple[tuple[float, ...], ...]

    def findings(self) -> tuple[Finding, ...]:
        """Whether directions are right at the ends, and change once between them."""
        right = sum(row[0] < 0 < row[-1] for row in self.turnings)
        once = sum(_changes(row) == 1 for row in self.turnings)
        n = len(self.turnings)
        return (
            Finding(
                "Figure 10: clockwise and counter-clockwise spirals lie apart in the latent space, and paths decoded "
                "along a line between them pass from one to the other.",
                "yes" if min(right, once) >= 0.9 * n else "in part" if min(right, once) >= 0.5 * n else "no",
                f"Of {n} lines between the mean codes of spirals that were not trained on, {right} turn as they should "
                f"at both ends, and {once} change their direction exactly once. (The paper varies one coordinate.)",
            ),
        )

    def plot(self) -> Figure:
        """The paths along the first line, and turnings along all."""
        figure = Figure(figsize=(2.2 * len(self.line) + 4, 2.8), layout="constrained")
        *panels, last = figure.subplots(1, len(self.line) + 1, width_ratios=[1] * len(self.line) + [1.6])
        for axes, stop in zip(panels, self.line, strict=True):
            x, y = zip(*stop.path, strict=True)
            axes.scatter(x, y, c=range(len(x)), cmap="rainbow", s=3)
            axes.set(title=f"{stop.place:.2f}", xlabel=f"turns by {stop.turning:.1f}", aspect="equal")
        for row in self.turnings:
            last.plot([stop.place for stop in self.line], row, color="C0", alpha=0.3, linewidth=0.8)
        last.axhline(0, color="0.5", linewidth=0.8)
        last.set(title="turning along each line", xlabel="place on the line", ylabel="radians")
        return figure


def _changes(row: tuple[float, ...]) -> int:
    signs = [x > 0 for x in row]
    return sum(a != b for a, b in pairwise(signs))
