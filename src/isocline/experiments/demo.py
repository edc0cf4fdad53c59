"""`isocline demo`: the paper's supervised comparison in about a minute, on digits that need no download."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

from lightning_fabric import Fabric
from matplotlib.figure import Figure
from tyro.conf import OmitArgPrefixes

from isocline.data import digits
from isocline.experiments.explore.subject import Subject
from isocline.experiments.processes import launched
from isocline.experiments.reproduction import Finding, Reproduction, Results
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.section3.classifiers import ModelName
from isocline.experiments.section3.comparison import Row, compare, subjects, table
from isocline.experiments.section3.demo_figure import demo_figure
from isocline.experiments.section3.tolerance import Point, sweep
from isocline.experiments.section3.training import TrainConfig
from isocline.experiments.tables import Table

MODELS: tuple[ModelName, ...] = ("resnet", "rknet", "odenet")


# One thread: layers this small gain little from a second one, and lose much when another program wants its core.
SETTINGS = TrainConfig(channels=32, epochs=14, batch_size=64, learning_rate=1e-2, weight_decay=0.1, threads=1)


@dataclass(frozen=True)
class Demo(Reproduction):
    """Train a ResNet, an RK-Net and an ODE-Net on 8 × 8 digits; print a table, draw a figure."""

    train: OmitArgPrefixes[TrainConfig] = SETTINGS

    def smaller(self) -> Self:
        """Small networks, one epoch."""
        return replace(self, train=replace(self.train, channels=4, epochs=1, limit=100))

    def fabric(self) -> Fabric:
        """Where the training settings say."""
        return launched(self.train.device, self.train.precision)

    def threads(self) -> int | None:
        """As the training settings say."""
        return self.train.threads

    def subjects(self, folder: RunFolder) -> Iterable[Subject]:
        """ODE-Nets and RK-Nets, on test images."""
        return subjects(MODELS, (self.train.seed,), self.train, digits(), folder)

    def run(self, folder: RunFolder, fabric: Fabric) -> "DemoResults":
        """Trains, and solves the trained ODE-Net in many ways."""
        data = digits()
        trained = compare(MODELS, (self.train.seed,), self.train, data, folder, fabric)
        odenet, _ = trained["odenet"]
        tested = (data if self.train.limit is None else data.first(self.train.limit)).to(fabric.device)
        points = sweep(odenet, tested.test_x, tested.test_y)
        return DemoResults(tuple(row for _, row in trained.values()), tuple(points), self.train.rtol)


@dataclass(frozen=True)
class DemoResults(Results):
    """What was measured.

    Attributes:
        rows: A row for each model.
        points: The trained ODE-Net, solved in many ways.
        rtol: The tolerance in training.
    """

    rows: tuple[Row, ...]
    points: tuple[Point, ...]
    rtol: float

    def findings(self) -> tuple[Finding, ...]:
        """None: too few test images to conclude from."""
        return ()

    def plot(self) -> Figure:
        """Accuracy and cost by tolerance, and a slope field."""
        return demo_figure(self.points, self.rtol)

    def tables(self) -> tuple[Table, ...]:
        """Error and cost."""
        return (table(self.rows, beside_paper=False),)
