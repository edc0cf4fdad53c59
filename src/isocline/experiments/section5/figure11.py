"""`isocline reproduce figure11`: spirals predicted by a latent ODE from few and from many noisy observations."""

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Self

import torch
from lightning_fabric import Fabric
from matplotlib.figure import Figure
from torch import Tensor
from tyro.conf import OmitArgPrefixes

from isocline.data import Spirals, spirals
from isocline.experiments.points import Points, points
from isocline.experiments.reproduction import Finding, Reproduction, Results
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.section5.figure10 import FRESH
from isocline.experiments.section5.spiral_models import TrainConfig
from isocline.experiments.section5.table2 import SETTINGS, Table2
from isocline.experiments.section5.trained import latent_ode_of, table_of
from isocline.experiments.tables import Table


@dataclass(frozen=True)
class Row:
    """Predictions from so many observations.

    Attributes:
        seen: Observations of each spiral.
        trained: Observations with which the model was trained.
        within: Root mean square error at the first 100 times against the spirals without noise.
        beyond: The same at the 100 later times.
        spread: Root mean square deviation of predictions from their mean, over samples of the latent path, beyond.
    """

    seen: int
    trained: int
    within: float
    beyond: float
    spread: float


@dataclass(frozen=True)
class Seen:
    """A spiral, for the figure.

    Attributes:
        seen: How many of its observations were seen.
        observed: These.
        truth: It, without noise.
        samples: Predictions from samples of the latent path.
    """

    seen: int
    observed: Points
    truth: Points
    samples: tuple[Points, ...]


@dataclass(frozen=True)
class Figure11(Reproduction):
    """Predict spirals from 10 to 100 noisy observations, by the latent ODEs of table2."""

    train: OmitArgPrefixes[TrainConfig] = SETTINGS
    trained: Path | None = None
    """Folder of a run of table2: its latent ODEs of its first seed are taken, and its settings."""
    observations: tuple[int, ...] = (30, 50, 100)
    """With which models are trained, if none are."""
    count: int = 1000
    """Spirals to train on, if none are trained."""
    seen: tuple[int, ...] = (10, 30, 50, 100)
    """Observations; each by the model that was trained with the fewest that are not fewer."""
    fresh: int = 200
    """Spirals that were not trained on."""
    samples: int = 10
    """Of the latent path of each."""
    shown: int = 3
    """Spirals in the figure."""
    seed: int = 0
    """Of weights and spirals, if none is trained."""

    def smaller(self) -> Self:
        """Few spirals, few epochs."""
        train = replace(self.train, epochs=2, batch_size=20, checkpoint_every=1)
        return replace(self, train=train, count=40, observations=(10, 30), seen=(5, 10, 30), fresh=20, samples=3)

    def run(self, folder: RunFolder, fabric: Fabric) -> "Figure11Results":
        """Trains what is not trained, and predicts.

        Raises:
            RunFolderError: `trained` is no run of table2.
        """
        own = Table2(train=self.train, observations=self.observations, seeds=(self.seed,), count=self.count)
        table, home = table_of(self.trained, own, folder)
        rows: list[Row] = []
        paths: list[Seen] = []
        for seen in self.seen:
            trained = min((n for n in table.observations if n >= seen), default=max(table.observations))
            model = latent_ode_of(table, trained, home)
            data = spirals(self.fresh, seen, seed=table.seeds[0] + FRESH)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                predicted = model.predict(data.observed, data.ts, samples=self.samples)
            rows.append(_row(seen, trained, predicted, data))
            paths += [_path(seen, i, predicted, data) for i in range(self.shown)]
        return Figure11Results(tuple(rows), tuple(paths))


def _row(seen: int, trained: int, predicted: Tensor, data: Spirals) -> Row:
    half, mean = len(data.ts) // 2, predicted.mean(2)
    within, beyond = (_size(part) for part in (mean - data.truth).tensor_split([half]))
    return Row(seen, trained, within, beyond, _size((predicted - mean.unsqueeze(2))[half:]))


def _size(x: Tensor) -> float:
    return x.square().mean().sqrt().item()


def _path(seen: int, index: int, predicted: Tensor, data: Spirals) -> Seen:
    samples = tuple(points(x) for x in predicted[:, index].unbind(1))
    return Seen(seen, points(data.observed.values[:, index]), points(data.truth[:, index]), samples)


@dataclass(frozen=True)
class Figure11Results(Results):
    """What was predicted.

    Attributes:
        rows: A row for each number of observations.
        paths: Some spirals, seen so often.
    """

    rows: tuple[Row, ...]
    paths: tuple[Seen, ...]

    def findings(self) -> tuple[Finding, ...]:
        """Whether more observations help."""
        errors = [row.beyond for row in self.rows]
        falls = all(b < a for a, b in pairwise(errors))
        shown = ", ".join(f"{row.beyond:.3f} from {row.seen}" for row in self.rows)
        return (
            Finding(
                "Figure 11: predictions of the latent ODE get better with the number of noisy observations.",
                "yes" if falls else "in part" if errors[-1] < errors[0] else "no",
                f"Root mean square errors beyond what was observed, on spirals that were not trained on: {shown}.",
            ),
        )

    def tables(self) -> tuple[Table, ...]:
        """Errors."""
        rows = tuple(
            (str(r.seen), str(r.trained), *(f"{x:.3f}" for x in (r.within, r.beyond, r.spread))) for r in self.rows
        )
        head = "observations", "in training", "within", "beyond", "spread"
        return (Table("Root mean square errors against spirals without noise", head, rows),)

    def plot(self) -> Figure:
        """A row a spiral, a column a number of observations."""
        columns = len(self.rows)
        height = len(self.paths) // columns
        figure = Figure(figsize=(3 * columns, 3 * height), layout="constrained")
        panels = figure.subplots(height, columns, squeeze=False)
        for place, path in enumerate(self.paths):
            axes = panels[place % height][place // height]
            for sample in path.samples:
                axes.plot(*zip(*sample, strict=True), color="C3", alpha=0.4, linewidth=0.8)
            axes.plot(*zip(*path.truth, strict=True), color="0.3", linewidth=1)
            axes.plot(*zip(*path.observed, strict=True), ".", color="C0", markersize=3)
            axes.set(title=f"{path.seen} observations", xlabel="x", ylabel="y", aspect="equal")
        return figure
