"""`isocline reproduce table1`: supervised learning on MNIST, ODE-Nets beside residual networks."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from lightning_fabric import Fabric
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tyro.conf import OmitArgPrefixes

from isocline.data.named import ImageName, named
from isocline.experiments.explore.subject import Subject
from isocline.experiments.processes import launched
from isocline.experiments.reproduction import Finding, Reproduction, Results
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.section3.classifiers import ABOUT, MODEL_NAMES, ModelName
from isocline.experiments.section3.comparison import Row, compare, subjects, table
from isocline.experiments.section3.growth import Cost, Growing, Line, line, measured
from isocline.experiments.section3.training import TrainConfig
from isocline.experiments.tables import Table

SETTINGS = TrainConfig(epochs=8, shift=2)

SIZES: dict[Growing, str] = {"resnet": "residual blocks", "rknet": "evaluations", "odenet": "evaluations"}


@dataclass(frozen=True)
class Table1(Reproduction):
    """Train and measure the classifiers of the paper's Table 1, and two controls, on the full MNIST."""

    train: OmitArgPrefixes[TrainConfig] = SETTINGS
    models: tuple[ModelName, ...] = MODEL_NAMES
    """Which of them."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One training of each model for each; they take the place of --seed."""
    depths: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    """Residual blocks, where memory and time are measured against depth."""
    steps: tuple[int, ...] = (2, 4, 8, 16, 32)
    """Solver steps, where they are measured against evaluations."""
    images: ImageName = "mnist"
    """Which; digits are 8 × 8 and need no download."""
    data_dir: Path | None = None
    """Folder with the four IDX files, raw or gz; else ISOCLINE_DATA; else they are downloaded."""

    def smaller(self) -> Self:
        """Few images, small networks, one epoch, one seed."""
        train = replace(self.train, channels=8, epochs=1, limit=512, rtol=1e-2, atol=1e-2)
        return replace(self, train=train, images="digits", seeds=(0,), depths=(1, 2, 4), steps=(2, 4, 8))

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
        """ODE-Nets and RK-Nets, on test images."""
        return subjects(self.models, self.seeds, self.train, named(self.images, self.data_dir), folder)

    def run(self, folder: RunFolder, fabric: Fabric) -> "Table1Results":
        """Trains, tests, and measures what depth costs."""
        trained = compare(self.models, self.seeds, self.train, named(self.images, self.data_dir), folder, fabric)
        costs = measured(self.depths, self.steps, self.train.channels, batch=32, repeats=5)
        return Table1Results(tuple(row for _, row in trained.values()), costs)


@dataclass(frozen=True)
class Table1Results(Results):
    """What was measured.

    Attributes:
        rows: A row for each model.
        costs: Memory and time of models of several sizes, untrained.
    """

    rows: tuple[Row, ...]
    costs: tuple[Cost, ...]

    def memory(self, model: Growing) -> Line:
        """Megabytes against size."""
        return line([(cost.size, cost.megabytes) for cost in self.costs if cost.model == model])

    def findings(self) -> tuple[Finding, ...]:
        """Error and memory, beside the paper's."""
        return (*(self._error(row) for row in self.rows if ABOUT[row.model].paper_error is not None), self._memory())

    def _error(self, row: Row) -> Finding:
        about = ABOUT[row.model]
        assert about.paper_error is not None
        reached = sum(row.test_errors) / len(row.test_errors)
        seeds = f"{len(row.test_errors)} seed{'s' if len(row.test_errors) > 1 else ''}"
        return Finding(
            f"Table 1: {about.title}: {about.paper_error:.2f} % test error, {about.paper_parameters} M parameters.",
            "yes" if reached <= about.paper_error else "in part" if reached <= about.paper_error + 0.1 else "no",
            f"{row.error()} % over {seeds}, {row.parameters / 1e6:.2f} M parameters.",
        )

    def _memory(self) -> Finding:
        found = {model: self.memory(model) for model in SIZES}
        flat = found["odenet"].flatness
        grows = all(found[model].flatness > 0.5 for model in ("resnet", "rknet"))
        shown = ", ".join(
            f"{ABOUT[model].title} {fit.start:.1f} MB + {fit.slope:.3f} MB for each of the {SIZES[model]}"
            for model, fit in found.items()
        )
        return Finding(
            "Table 1: memory is O(L) for the ResNet, O(evaluations) for the RK-Net and O(1) for the ODE-Net.",
            "yes" if flat < 0.05 and grows else "no",
            f"Peak of a forward and a backward pass with 32 images: {shown}. The ODE-Net's largest is {1 + flat:.3f} "
            "times its smallest.",
        )

    def plot(self) -> Figure:
        """Memory and time against size."""
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        memory, seconds = figure.subplots(1, 2)
        self._panel(memory, [(cost.model, cost.size, cost.megabytes) for cost in self.costs])
        memory.set(title="(a) memory", ylabel="peak of forward and backward pass (MB)")
        self._panel(seconds, [(cost.model, cost.size, cost.seconds) for cost in self.costs])
        seconds.set(title="(b) time", ylabel="forward and backward pass (s)")
        return figure

    def _panel(self, axes: Axes, points: list[tuple[Growing, int, float]]) -> None:
        for (model, unit), marker in zip(SIZES.items(), "so^", strict=True):
            chosen = [(size, value) for name, size, value in points if name == model]
            axes.plot(*zip(*chosen, strict=True), marker=marker, label=f"{ABOUT[model].title}, by {unit}")
        axes.set(xscale="log", yscale="log", xlabel="residual blocks, or evaluations of the field")
        axes.legend()

    def tables(self) -> tuple[Table, ...]:
        """The paper's, with what else was measured."""
        return (table(self.rows, beside_paper=True),)
