"""`isocline reproduce figure3`: a trained ODE-Net's error, time and evaluations by tolerance, and over its training."""

import time
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, replace
from math import log10
from pathlib import Path
from statistics import median
from typing import Any, Self, cast

import torch
from lightning_fabric import Fabric
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor, nn
from tyro.conf import OmitArgPrefixes

import isocline as iso
from isocline.data.named import ImageName, named
from isocline.experiments.explore.subject import Subject
from isocline.experiments.processes import launched
from isocline.experiments.reproduction import Finding, Reproduction, Results, Verdict, opened
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.section3.classifiers import Classifier
from isocline.experiments.section3.comparison import compare, run_name, subjects
from isocline.experiments.section3.table1 import SETTINGS, Table1
from isocline.experiments.section3.training import TrainConfig

MARKERS = "os^vD"


@dataclass(frozen=True)
class Pass:
    """A forward and a backward pass of one batch through the trained ODE.

    Attributes:
        method: Of both passes; the backward pass solves the adjoint.
        tolerance: rtol and atol of both.
        forward: Evaluations of the field forwards.
        backward: Evaluations backwards, each with a product with the Jacobian.
        error: Distance of the states at time 1 from those of an accurate solve, relative to their norm.
        forward_seconds: Median time of the forward pass.
        backward_seconds: Median time of the backward pass.
    """

    method: str
    tolerance: float
    forward: int
    backward: int
    error: float
    forward_seconds: float
    backward_seconds: float


@dataclass(frozen=True)
class Epoch:
    """An epoch of the training.

    Attributes:
        epoch: From 1.
        forward: Evaluations of a forward pass, mean.
        backward: Evaluations of a backward pass, mean.
        test_error: At its end, in per cent.
    """

    epoch: int
    forward: float
    backward: float
    test_error: float


@dataclass(frozen=True)
class Figure3(Reproduction):
    """Train an ODE-Net on MNIST, or take one that is trained; solve it at many tolerances, with several methods."""

    train: OmitArgPrefixes[TrainConfig] = SETTINGS
    trained: Path | None = None
    """Folder of a run of table1: its ODE-Net of its first seed is taken, and its settings in place of those here."""
    methods: tuple[str, ...] = ("dopri5", "tsit5", "adams")
    """Adaptive ones."""
    tolerances: tuple[float, ...] = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)
    """rtol = atol."""
    batch: int = 128
    """Test images."""
    repeats: int = 5
    """Passes, of which the median time counts."""
    images: ImageName = "mnist"
    """Which; digits are 8 × 8 and need no download."""
    data_dir: Path | None = None
    """Folder with the four IDX files, raw or gz; else ISOCLINE_DATA; else they are downloaded."""

    def smaller(self) -> Self:
        """Few images, a small network, two epochs."""
        train = replace(self.train, channels=8, epochs=2, limit=256, rtol=1e-2, atol=1e-2)
        return replace(self, train=train, images="digits", tolerances=(1e-1, 1e-2, 1e-3), batch=16, repeats=1)

    def check(self) -> None:
        """Raises DataError: see `isocline.data.mnist`."""
        named(self.images, self.data_dir)

    def fabric(self) -> Fabric:
        """Where the training settings say."""
        return launched(self.train.device, self.train.precision)

    def threads(self) -> int | None:
        """As the training settings say."""
        return self.train.threads

    def subjects(self, folder: RunFolder) -> Iterable[Subject]:
        """The ODE-Net, on test images."""
        train, home = self._home(folder)
        return subjects(("odenet",), (train.seed,), train, named(self.images, self.data_dir), home)

    def _home(self, folder: RunFolder) -> tuple[TrainConfig, RunFolder]:
        """How the ODE-Net is trained, and where it is kept."""
        if self.trained is None:
            return self.train, folder
        table, home = opened(Table1, self.trained)
        return replace(table.train, seed=table.seeds[0]), home

    def run(self, folder: RunFolder, fabric: Fabric) -> "Figure3Results":
        """Trains what is not trained, and solves.

        Raises:
            RunFolderError: `trained` is no run of table1.
        """
        train, home = self._home(folder)
        data = named(self.images, self.data_dir)
        model, _ = compare(("odenet",), (train.seed,), train, data, home, fabric)["odenet"]
        name = run_name("odenet", train.seed)
        epochs = tuple(
            Epoch(r["epoch"], r["nfe_forward"], r["nfe_backward"], 100 * r["test_error"])
            for r in home.metrics()
            if r["model"] == name
        )
        images = data.test_x[: self.batch].to(fabric.device)
        return Figure3Results(self._passes(model, images), epochs)

    def _passes(self, model: Classifier, images: Tensor) -> tuple[Pass, ...]:
        with torch.no_grad():
            start = model.stem(images)
            exact = _exact(cast(iso.NeuralODE, model.body), start)
        body = cast(iso.NeuralODE, deepcopy(model.body))
        return tuple(
            self._pass(body, start, exact, method, tolerance)
            for method in self.methods
            for tolerance in self.tolerances
        )

    def _pass(self, body: iso.NeuralODE, start: Tensor, exact: Tensor, method: str, tolerance: float) -> Pass:
        body.method, body.rtol, body.atol = method, tolerance, tolerance
        body.gradient = iso.BacksolveAdjoint(rtol=tolerance, atol=tolerance)
        forward, backward = [], []
        for _ in range(self.repeats):
            began = time.perf_counter()
            end = cast(Tensor, body(start.clone().requires_grad_()))
            between = time.perf_counter()
            end.square().mean().backward()
            forward.append(between - began)
            backward.append(time.perf_counter() - between)
        assert body.stats is not None and body.stats.backward is not None
        return Pass(
            method,
            tolerance,
            int(body.stats.evaluations),
            int(body.stats.backward.evaluations),
            float((end.detach() - exact).norm() / exact.norm()),
            median(forward),
            median(backward),
        )


def _exact(body: iso.NeuralODE, start: Tensor) -> Tensor:
    """The state at time 1, computed in float64."""
    field = cast(nn.Module, deepcopy(body.field)).double()
    return cast(Tensor, iso.solve(field, start.double(), (0.0, 1.0), rtol=1e-8, atol=1e-8).ys)[-1].to(start)


@dataclass(frozen=True)
class Figure3Results(Results):
    """What was measured.

    Attributes:
        passes: A row for every method and tolerance.
        epochs: A row for every epoch of the training.
    """

    passes: tuple[Pass, ...]
    epochs: tuple[Epoch, ...]

    def of(self, method: str) -> list[Pass]:
        """The rows of one method, loose tolerances first."""
        return sorted((row for row in self.passes if row.method == method), key=lambda row: -row.tolerance)

    @property
    def methods(self) -> tuple[str, ...]:
        """Names, in order."""
        return tuple(dict.fromkeys(row.method for row in self.passes))

    def findings(self) -> tuple[Finding, ...]:
        """The four panels."""
        return self._error(), self._time(), self._backward(), self._training()

    def _error(self) -> Finding:
        gains = {name: (self.of(name)[0], self.of(name)[-1]) for name in self.methods}
        fell = all(tight.error < 0.3 * loose.error for loose, tight in gains.values())
        shown = "; ".join(
            f"{name} from {loose.error:.1e} with {loose.forward} evaluations to {tight.error:.1e} with {tight.forward}"
            for name, (loose, tight) in gains.items()
        )
        claim = "Figure 3a: the error can be made smaller by a tighter tolerance, at the price of more evaluations."
        return Finding(claim, "yes" if fell else "no", f"Relative error of the state at time 1: {shown}.")

    def _time(self) -> Finding:
        spread = {}
        for name in self.methods:
            each = [1e3 * row.forward_seconds / row.forward for row in self.of(name)]
            spread[name] = min(each), max(each)
        even = all(high < 1.5 * low for low, high in spread.values())
        shown = ", ".join(f"{name} {low:.2f} to {high:.2f} ms" for name, (low, high) in spread.items())
        claim = "Figure 3b: the time of the forward pass is proportional to its evaluations."
        return Finding(claim, "yes" if even else "in part", f"Time of an evaluation, over the tolerances: {shown}.")

    def _backward(self) -> Finding:
        ratios = {name: median(row.backward / row.forward for row in self.of(name)) for name in self.methods}
        shown = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
        half = [ratio < 0.7 for ratio in ratios.values()]
        claim = "Figure 3c: the backward pass needs about half as many evaluations as the forward pass."
        holds: Verdict = "yes" if all(half) else "in part" if any(half) else "no"
        why = (
            "Backwards the same method solves the state again and the adjoint beside it, so it needs as many steps "
            "unless the adjoint is small beside its absolute tolerance: then error control does not see it."
        )
        return Finding(claim, holds, f"Backward over forward, median over the tolerances: {shown}. {why}")

    def _training(self) -> Finding:
        first, last = self.epochs[0], self.epochs[-1]
        claim = "Figure 3d: evaluations grow over the training."
        found = (
            f"From {first.forward:.1f} in epoch {first.epoch} to {last.forward:.1f} in epoch {last.epoch}, forwards."
        )
        return Finding(claim, "yes" if last.forward > 1.1 * first.forward else "no", found)

    def plot(self) -> Figure:
        """The four panels."""
        figure = Figure(figsize=(11, 8.5), layout="constrained")
        error, seconds, backward, training = figure.subplots(2, 2).flat
        points = self._scatter(error, "forward", "error")
        error.set(title="(a) error", ylabel="relative error of the state at time 1", yscale="log")
        self._scatter(seconds, "forward", "forward_seconds")
        seconds.set(title="(b) time", ylabel="forward pass (s)", ylim=(0, None))
        self._scatter(backward, "forward", "backward")
        most = max(row.forward for row in self.passes)
        for slope, style in ((1.0, "-"), (0.5, ":")):
            backward.axline(
                (0, 0), (most, slope * most), color="0.6", linestyle=style, label=f"{slope:g} to 1", zorder=0
            )
        backward.set(title="(c) backward pass", ylabel="evaluations backwards", xlim=(0, None), ylim=(0, None))
        backward.legend()
        for axes in (error, seconds, backward):
            axes.set_xlabel("evaluations forwards (NFE)")
        self._epochs(training)
        figure.colorbar(points, ax=list(figure.axes), label="tolerance (rtol = atol) in (a) to (c)", aspect=40)
        return figure

    def _scatter(self, axes: Axes, x: str, y: str) -> Any:
        exponents = [round(log10(row.tolerance)) for row in self.passes]
        norm = LogNorm(10.0 ** min(exponents), 10.0 ** max(exponents))
        for name, marker in zip(self.methods, MARKERS, strict=False):
            rows = self.of(name)
            across, up = ([getattr(row, key) for row in rows] for key in (x, y))
            axes.plot(across, up, color="0.8", linewidth=1, zorder=1)
            colours = [row.tolerance for row in rows]
            points = axes.scatter(across, up, c=colours, norm=norm, cmap="viridis", marker=marker, label=name, zorder=2)
        axes.legend()
        return points

    def _epochs(self, axes: Axes) -> None:
        counts = [row.epoch for row in self.epochs]
        axes.plot(counts, [row.forward for row in self.epochs], marker="o", label="forwards")
        axes.plot(counts, [row.backward for row in self.epochs], marker="s", label="backwards")
        most = max(max(row.forward, row.backward) for row in self.epochs)
        axes.set(title="(d) over the training", xlabel="epoch", ylabel="evaluations of a pass (mean)")
        axes.set_ylim(0, 1.2 * most)
        axes.set_xticks(counts)
        axes.legend(loc="lower right")
