"""`isocline demo`: the paper's supervised comparison in about a minute, on digits that need no download."""

from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from tyro.conf import OmitArgPrefixes

from isocline.data import digits
from isocline.experiments.classification import MODEL_NAMES
from isocline.experiments.command import Command
from isocline.experiments.comparison import Comparison
from isocline.experiments.figure import demo_figure
from isocline.experiments.tolerance import sweep
from isocline.experiments.training import TrainConfig
from isocline.experiments.training_run import open_run, report

# One thread: layers this small gain little from a second one, and lose much when another program wants its core.
SETTINGS = TrainConfig(channels=32, epochs=14, batch_size=64, learning_rate=1e-2, weight_decay=0.1, threads=1)


@dataclass(frozen=True)
class Demo(Command):
    """Train a ResNet, an RK-Net and an ODE-Net on 8 × 8 digits; print a table, draw a figure."""

    train: OmitArgPrefixes[TrainConfig] = SETTINGS
    out: Path | None = None
    """Folder of the run; runs/demo-TIME if not given."""
    resume: Path | None = None
    """Continue the run in this folder, with the settings it has."""

    def main(self) -> None:
        """Trains, measures, and leaves table and figure in the run folder.

        Raises:
            RunFolderError: See `isocline.experiments.training_run.open_run`.
        """
        wanted, default = (Comparison("demo", MODEL_NAMES, train) for train in (self.train, SETTINGS))
        folder, comparison = open_run(wanted, default, self.out, self.resume)
        data = comparison.prepare(digits())
        trained = comparison.run(folder, data)
        odenet, _ = trained["odenet"]
        points = sweep(odenet, data.test_x, data.test_y)
        report(folder, [result for _, result in trained.values()], tolerance=[asdict(point) for point in points])
        path = folder.write("figure.png", demo_figure(points, comparison.train.rtol))
        Console().print(f"figure: {path}", soft_wrap=True)
