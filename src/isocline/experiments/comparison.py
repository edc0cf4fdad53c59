"""One run: train the chosen models on one data set, measure them, and lay the numbers out in one table."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch.nn.functional import cross_entropy

from isocline.data import ImageData
from isocline.experiments.classification import MODEL_NAMES, Classifier, ModelName, build_classifier
from isocline.experiments.memory import peak_memory
from isocline.experiments.run_folder import RunFolder, RunFolderError
from isocline.experiments.training import TrainConfig, Training

_TITLES = {"resnet": "ResNet", "rknet": "RK-Net", "odenet": "ODE-Net"}


@dataclass(frozen=True)
class Result:
    """What a table row says of one trained model.

    Attributes:
        model: Its name.
        test_error: Share of the test images it gets wrong, in per cent.
        parameters: Number of trained values.
        nfe_forward: Field evaluations of a forward pass, mean over the last epoch; None without a solve.
        nfe_backward: Field evaluations of a backward pass, likewise; None without a solve backwards.
        peak_memory: Peak tensor memory of a training step above what was alive before, in megabytes (10^6).
        seconds: Training time, in seconds.
    """

    model: ModelName
    test_error: float
    parameters: int
    nfe_forward: float | None
    nfe_backward: float | None
    peak_memory: float
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """What is compared: the configuration that a run folder keeps.

    Attributes:
        task: "demo" (the small digits) or "mnist".
        models: In the order in which they are trained.
        train: The settings of all of them.
    """

    task: str
    models: tuple[ModelName, ...]
    train: TrainConfig

    def prepare(self, data: ImageData) -> ImageData:
        """As much of `data` as the settings ask for, on their device; sets the number of CPU threads."""
        if self.train.threads is not None:
            torch.set_num_threads(self.train.threads)
        limited = data if self.train.limit is None else data.first(self.train.limit)
        return limited.to(self.train.torch_device())

    def run(self, folder: RunFolder, data: ImageData) -> dict[ModelName, tuple[Classifier, Result]]:
        """Trains on prepared data what `folder` does not hold trained, and measures all, by name."""
        return {name: self._one(name, folder, data) for name in self.models}

    def _one(self, name: ModelName, folder: RunFolder, data: ImageData) -> tuple[Classifier, Result]:
        config = self.train
        # As the paper: MNIST's 28 pixels are halved twice; the 8 of the small digits leave room for once.
        halvings = 2 if data.train_x.shape[-1] >= 28 else 1
        model = build_classifier(name, config.channels, halvings, config.rtol, config.atol, config.seed)
        model.to(data.train_x.device)
        Training(name, model, data, config).run(folder)
        last = [record for record in folder.metrics() if record["model"] == name][-1]
        return model, Result(
            model=name,
            test_error=100 * last["test_error"],
            parameters=model.parameter_count(),
            nfe_forward=last["nfe_forward"],
            nfe_backward=last["nfe_backward"],
            peak_memory=_step_memory(model, data, config.batch_size) / 1e6,
            seconds=last["seconds"],
        )


def start(wanted: Comparison, out: Path | None) -> RunFolder:
    """Starts a run in the folder `out`, by default runs/TASK-TIME.

    Raises:
        RunFolderError: The folder already holds a run, or cannot be made.
    """
    default = Path("runs") / f"{wanted.task}-{datetime.now():%Y%m%d-%H%M%S}"
    return RunFolder.create(out or default, asdict(wanted))


def resume(path: Path, task: str) -> tuple[RunFolder, Comparison]:
    """Opens the run in `path`, and its settings.

    Raises:
        RunFolderError: There is no run of this task, or its config.json does not hold valid settings.
    """
    folder = RunFolder.open(path)
    config = folder.config
    if config.get("task") != task:
        raise RunFolderError(f"{path}: expected a run of {task}, found one of {config.get('task')}")
    try:
        if not config["models"] or not set(config["models"]) <= set(MODEL_NAMES):
            raise ValueError(f"models {config['models']}")
        return folder, Comparison(task, tuple(config["models"]), _train_config(config["train"]))
    except (KeyError, TypeError, ValueError) as error:
        raise RunFolderError(f"{path / 'config.json'}: expected a run's settings, found {error!r}") from error


def results_table(results: Sequence[Result]) -> Table:
    """The results, a row each."""
    table = Table(title="Test error against cost, after R. T. Q. Chen et al. (arXiv 1806.07366), Table 1")
    table.add_column("model")
    costs = ("params", "NFE forward", "NFE backward", "step peak (MB)", "training (s)")
    for heading in ("test error (%)", *costs):
        table.add_column(heading, justify="right")
    for r in results:
        nfe = ("–" if n is None else f"{n:.1f}" for n in (r.nfe_forward, r.nfe_backward))
        numbers = (
            f"{r.test_error:.2f}",
            f"{r.parameters:,}",
            *nfe,
            f"{r.peak_memory:.1f}",
            f"{r.seconds:.1f}",
        )
        table.add_row(_TITLES[r.model], *numbers)
    return table


def _step_memory(model: Classifier, data: ImageData, batch_size: int) -> int:
    def step() -> None:
        cross_entropy(model(data.train_x[:batch_size]), data.train_y[:batch_size]).backward()

    model.zero_grad()
    step()  # makes the gradients, which from here on are there in every step
    return peak_memory(step, data.train_x.device)


def _train_config(settings: dict[str, Any]) -> TrainConfig:
    missing = {field.name for field in fields(TrainConfig)} - set(settings)
    if missing:
        raise ValueError(f"no value for {', '.join(sorted(missing))}")
    return TrainConfig(**settings)
