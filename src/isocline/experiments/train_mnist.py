"""`isocline train mnist`: the paper's supervised comparison on the full MNIST."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import OmitArgPrefixes

from isocline.data import mnist
from isocline.experiments.classification import MODEL_NAMES, ModelName
from isocline.experiments.command import Command
from isocline.experiments.comparison import Comparison
from isocline.experiments.training import TrainConfig
from isocline.experiments.training_run import open_run, report

SETTINGS = TrainConfig()


@dataclass(frozen=True)
class TrainMnist(Command):
    """Train a ResNet, an RK-Net and an ODE-Net on MNIST; print a table."""

    train: OmitArgPrefixes[TrainConfig] = SETTINGS
    model: ModelName | Literal["all"] = "all"
    """Which of the three."""
    data_dir: Path | None = None
    """Folder with the four IDX files, raw or gz; else ISOCLINE_DATA; else they are downloaded."""
    out: Path | None = None
    """Folder of the run; runs/mnist-TIME if not given."""
    resume: Path | None = None
    """Continue the run in this folder, with the settings it has."""

    def main(self) -> None:
        """Trains, measures, and leaves the table in the run folder.

        Raises:
            DataError: See `isocline.data.mnist`.
            RunFolderError: See `isocline.experiments.training_run.open_run`.
        """
        data = mnist(self.data_dir)  # first, so that a wrong folder leaves no run behind
        models = MODEL_NAMES if self.model == "all" else (self.model,)
        wanted, default = (
            Comparison("mnist", models, self.train),
            Comparison("mnist", MODEL_NAMES, TrainConfig()),
        )
        folder, comparison = open_run(wanted, default, self.out, self.resume)
        report(folder, [result for _, result in comparison.run(folder, comparison.prepare(data)).values()])
