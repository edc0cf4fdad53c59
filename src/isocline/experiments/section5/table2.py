"""`isocline reproduce table2`: spirals seen at irregular times, a latent ODE beside a recurrent network."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import mean, stdev
from typing import Self, cast

import torch
from lightning_fabric import Fabric
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from tyro.conf import OmitArgPrefixes

import isocline as iso
from isocline.data import Spirals, spirals
from isocline.experiments.explore.subject import SHOWN, Subject
from isocline.experiments.memory import parameters
from isocline.experiments.points import Points, points
from isocline.experiments.reproduction import Finding, Reproduction, Results
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.section5.spiral_models import (
    ModelName,
    TrainConfig,
    build,
    each,
    fitted,
    latent_paths,
    predicted,
)
from isocline.experiments.tables import Table

SETTINGS = TrainConfig()
MODELS: tuple[ModelName, ...] = ("rnn", "latent-ode")
TITLES: dict[ModelName, str] = {"rnn": "RNN", "latent-ode": "Latent ODE"}
PAPER: dict[tuple[ModelName, int], float] = {
    ("rnn", 30): 0.3937,
    ("rnn", 50): 0.3202,
    ("rnn", 100): 0.1813,
    ("latent-ode", 30): 0.1642,
    ("latent-ode", 50): 0.1502,
    ("latent-ode", 100): 0.1346,
}
"""Root mean square errors of Table 2, by model and number of observations."""


@dataclass(frozen=True)
class Row:
    """Errors of one model for one number of observations.

    Attributes:
        model: Its name.
        observations: How many of the first 100 times of each spiral it has seen.
        beyond: Root mean square error at the 100 later times against the spirals without noise, for each seed.
        noisy: The same against the spirals with noise.
        visited: As `beyond`, of the spirals that stay where some spiral was observed; the others go further out.
        parameters: Number of trained values.
    """

    model: ModelName
    observations: int
    beyond: tuple[float, ...]
    noisy: tuple[float, ...]
    visited: tuple[float, ...]
    parameters: int

    def error(self) -> str:
        """Mean and, of several seeds, standard deviation."""
        shown = f"{mean(self.beyond):.4f}"
        return shown if len(self.beyond) == 1 else f"{shown} ± {stdev(self.beyond):.4f}"


@dataclass(frozen=True)
class Path:
    """One spiral, for the figure.

    Attributes:
        clockwise: Which way it turns.
        observed: What the models saw.
        truth: It, without noise, at all 200 times.
        predicted: What each model says, in the order of the settings; nan where it says nothing.
        latent: The latent path in two directions; empty without a latent ODE.
    """

    clockwise: bool
    observed: Points
    truth: Points
    predicted: tuple[Points, ...]
    latent: Points


@dataclass(frozen=True)
class Table2(Reproduction):
    """Train the models of the paper's Table 2 on 1000 spirals, and predict 100 times beyond what they saw."""

    train: OmitArgPrefixes[TrainConfig] = SETTINGS
    models: tuple[ModelName, ...] = MODELS
    """Which of them."""
    observations: tuple[int, ...] = (30, 50, 100)
    """How many of the first 100 times of each spiral are seen."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One training of each model for each, on spirals of its own."""
    count: int = 1000
    """Spirals; even."""
    shown: int = 12
    """Spirals whose paths are kept for the figure, half clockwise, of the first seed and fewest observations."""

    def smaller(self) -> Self:
        """Few spirals, few epochs, one seed."""
        train = replace(self.train, epochs=2, batch_size=20, checkpoint_every=1)
        return replace(self, train=train, observations=(10, 30), seeds=(0,), count=40, shown=6)

    def subjects(self, folder: RunFolder) -> Iterator[Subject]:
        """The latent ODEs of the first seed, from what they make of spirals; the states are latent."""
        for observations in self.observations:
            seed = self.seeds[0]
            if (state := folder.load_checkpoint(f"latent-ode-{observations}-{seed}")) is None:
                continue
            model = build("latent-ode", self.train, seed)
            model.load_state_dict(state["model"])
            assert isinstance(model, iso.LatentODE)
            data = spirals(self.count, observations, seed=seed)
            with torch.no_grad():
                start = model.posterior(data.observed).mean[:SHOWN]
            turns = tuple("clockwise" if x else "counter-clockwise" for x in data.clockwise[:SHOWN].tolist())
            title = f"latent ODE, {observations} observations"
            yield Subject(title, cast(nn.Module, model.dynamics.field), start, (0.0, float(data.ts[-1])), turns)

    def run(self, folder: RunFolder, fabric: Fabric) -> "Table2Results":
        """Trains what the folder does not hold trained, and measures."""
        found: dict[tuple[ModelName, int], list[tuple[float, ...]]] = {}
        sizes: dict[ModelName, int] = {}
        drawn: list[Tensor] = []
        latent = torch.zeros(0, self.count, 2)
        for observations in self.observations:
            for name, seed in each(self.models, self.seeds):
                data = spirals(self.count, observations, seed=seed)
                model = build(name, self.train, seed)
                fitted(f"{name}-{observations}-{seed}", model, data.observed, self.train, seed, folder)
                paths, sizes[name] = predicted(model, data), parameters(model)
                found.setdefault((name, observations), []).append(_errors(paths, data))
                if (observations, seed) == (self.observations[0], self.seeds[0]):
                    drawn.append(paths)
                    if isinstance(model, iso.LatentODE):
                        latent = latent_paths(model, data)
        rows = tuple(_row(name, n, errors, sizes[name]) for (name, n), errors in found.items())
        data = spirals(self.count, self.observations[0], seed=self.seeds[0])
        return Table2Results(self.models, rows, tuple(_path(i, data, drawn, latent) for i in _both(data, self.shown)))


def _row(name: ModelName, observations: int, errors: list[tuple[float, ...]], size: int) -> Row:
    beyond, noisy, visited = zip(*errors, strict=True)
    return Row(name, observations, beyond, noisy, visited, size)


def _errors(paths: Tensor, data: Spirals) -> tuple[float, ...]:
    """Beyond what was observed: without noise, with noise, and without noise where some spiral was observed."""
    half = len(data.ts) // 2
    visited = data.radius[-1] <= data.radius[:half].max()
    pairs = (paths, data.truth), (paths, data.noisy), (paths[:, visited], data.truth[:, visited])
    return tuple((x - y)[half:].square().mean().sqrt().item() for x, y in pairs)


def _both(data: Spirals, count: int) -> list[int]:
    """The places of the first spirals of each direction."""
    half = count // 2
    places: Tensor = torch.cat([data.clockwise.nonzero()[:half, 0], (~data.clockwise).nonzero()[: count - half, 0]])
    return places.tolist()


def _path(index: int, data: Spirals, paths: list[Tensor], latent: Tensor) -> Path:
    seen = data.observed.select([index]).values[:, 0]
    return Path(
        bool(data.clockwise[index]),
        points(seen),
        points(data.truth[:, index]),
        tuple(points(path[:, index]) for path in paths),
        points(latent[:, index]),
    )


@dataclass(frozen=True)
class Table2Results(Results):
    """What was measured.

    Attributes:
        models: Names, in the order of `Path.predicted`.
        rows: A row for each model and number of observations.
        paths: Some spirals, seen at the fewest times.
    """

    models: tuple[ModelName, ...]
    rows: tuple[Row, ...]
    paths: tuple[Path, ...]

    def row(self, model: ModelName, observations: int) -> Row:
        """The row of one model and number of observations."""
        (found,) = (row for row in self.rows if (row.model, row.observations) == (model, observations))
        return found

    def findings(self) -> tuple[Finding, ...]:
        """Errors beside the paper's, and the models beside each other."""
        beside = [self._beside_paper(row) for row in self.rows if (row.model, row.observations) in PAPER]
        both = {"rnn", "latent-ode"} <= set(self.models)
        return (*beside, *([self._beside_each_other()] if both else []))

    def _beside_paper(self, row: Row) -> Finding:
        paper = PAPER[row.model, row.observations]
        reached = mean(row.beyond)
        return Finding(
            f"Table 2: {TITLES[row.model]}, {row.observations} observations: predictive RMSE {paper:.4f}.",
            "yes" if reached <= paper else "in part" if reached <= 1.1 * paper else "no",
            f"{row.error()} over {len(row.beyond)} seeds against the spirals without noise, "
            f"{mean(row.noisy):.4f} against those with it; {mean(row.visited):.4f} without noise for spirals that stay "
            "where some spiral was observed. The paper leaves open which spirals, and which of these errors.",
        )

    def _beside_each_other(self) -> Finding:
        counts = sorted({row.observations for row in self.rows})
        ratios = {n: mean(self.row("latent-ode", n).beyond) / mean(self.row("rnn", n).beyond) for n in counts}
        shown = ", ".join(f"{ratio:.2f} with {n}" for n, ratio in ratios.items())
        better = sum(ratio < 1 for ratio in ratios.values())
        return Finding(
            "Table 2: the latent ODE predicts better than the RNN, whatever the number of observations.",
            "yes" if better == len(ratios) else "in part" if better else "no",
            f"Its error beyond what was observed is, of the RNN's: {shown} observations. Both saw the same times; the "
            "RNN is told the time to the next of them.",
        )

    def plot(self) -> Figure:
        """Figure 9: reconstructions and extrapolations of each model, and latent paths."""
        figure = Figure(figsize=(4 * (len(self.models) + 1), 8), layout="constrained")
        rows = figure.subplots(3, len(self.models) + 1, squeeze=False)
        one_of_each = [path for turn in (True, False) for path in self.paths if path.clockwise is turn]
        chosen = [one_of_each[0], one_of_each[-1], one_of_each[len(one_of_each) // 2]]
        for path, axes in zip(chosen, rows, strict=True):
            for place, name in enumerate(self.models):
                self._draw(axes[place], path, path.predicted[place], TITLES[name])
        rows[0][0].legend(fontsize="small")
        for panel, turns in zip(rows[:, -1], ((True, False), (True,), (False,)), strict=True):
            self._draw_latent(panel, turns)
        return figure

    def _draw(self, axes: Axes, path: Path, predicted: Points, title: str) -> None:
        half = len(path.truth) // 2
        axes.plot(*zip(*path.truth, strict=True), color="0.7", linewidth=3, label="truth")
        axes.plot(*zip(*path.observed, strict=True), ".", color="0.3", markersize=4, label="observed")
        axes.plot(*zip(*predicted[:half], strict=True), color="C2", label="within")
        axes.plot(*zip(*predicted[half:], strict=True), color="C3", label="beyond")
        axes.set(title=title, xlabel="x", ylabel="y", aspect="equal")

    def _draw_latent(self, axes: Axes, turns: tuple[bool, ...]) -> None:
        for path in self.paths:
            if path.clockwise in turns and path.latent:
                axes.plot(*zip(*path.latent, strict=True), color="C0" if path.clockwise else "C1", linewidth=0.8)
                axes.plot(*path.latent[0], marker="o", markersize=3, color="k")
        which = "all latent paths" if len(turns) > 1 else "clockwise" if turns[0] else "counter-clockwise"
        axes.set(title=which, xlabel="first direction", ylabel="second direction")

    def tables(self) -> tuple[Table, ...]:
        """The paper's, with what else was measured."""
        return (
            Table(
                "Predictive RMSE at 100 later times, after R. T. Q. Chen et al. (arXiv 1806.07366), Table 2",
                ("model", "observations", "RMSE", "paper's", "noisy", "visited", "params"),
                tuple(_cells(row) for row in self.rows),
                "noisy: against the spirals with noise; visited: of spirals that stay where some spiral was observed",
            ),
        )


def _cells(row: Row) -> tuple[str, ...]:
    paper = PAPER.get((row.model, row.observations))
    others = (f"{mean(errors):.4f}" for errors in (row.noisy, row.visited))
    errors = row.error(), "–" if paper is None else f"{paper:.4f}", *others
    return TITLES[row.model], str(row.observations), *errors, f"{row.parameters:,}"
