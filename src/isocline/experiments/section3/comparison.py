"""Several models, each from several seeds, trained on one data set, measured, and laid out in one table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import mean, stdev
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.nn.functional import cross_entropy

import isocline as iso
from isocline.data import ImageData
from isocline.experiments.explore.subject import SHOWN, Subject
from isocline.experiments.memory import parameters, peak_memory
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.section3.classifiers import ABOUT, Classifier, ModelName, build_classifier
from isocline.experiments.section3.training import TrainConfig, Training
from isocline.experiments.tables import Table


@dataclass(frozen=True)
class Row:
    """What the table says of one model.

    Attributes:
        model: Its name.
        test_errors: Share of the test images that it gets wrong, in per cent, for each seed.
        parameters: Number of trained values.
        nfe_forward: Field evaluations of a forward pass, mean over the last epoch and the seeds; None without a solve.
        nfe_backward: Field evaluations of a backward pass, likewise; None without a solve backwards.
        peak_memory: Peak tensor memory of a training step above what was alive before, in megabytes (10^6).
        seconds: Training time of a seed, in seconds.
    """

    model: ModelName
    test_errors: tuple[float, ...]
    parameters: int
    nfe_forward: float | None
    nfe_backward: float | None
    peak_memory: float
    seconds: float

    def error(self) -> str:
        """Mean and, of several seeds, standard deviation."""
        shown = f"{mean(self.test_errors):.2f}"
        return shown if len(self.test_errors) == 1 else f"{shown} ± {stdev(self.test_errors):.2f}"


def compare(
    models: Sequence[ModelName],
    seeds: Sequence[int],
    config: TrainConfig,
    data: ImageData,
    folder: RunFolder,
    fabric: Fabric,
) -> dict[ModelName, tuple[Classifier, Row]]:
    """Trains what `folder` does not hold trained, and measures all; the models are those of the last seed.

    Seed by seed: a run that is stopped early has as many models as it can.
    """
    limited = (data if config.limit is None else data.first(config.limit)).to(fabric.device)
    for seed in seeds:
        trained = {name: _trained(name, replace(config, seed=seed), limited, folder, fabric) for name in models}
    return {name: (model, _row(name, seeds, limited, config, folder)) for name, model in trained.items()}


def _built(name: ModelName, config: TrainConfig, data: ImageData) -> Classifier:
    pixels = data.train_x.shape[-1]
    model = build_classifier(name, config.channels, pixels, config.rtol, config.atol, config.seed)
    return model.to(data.train_x.device)


def subjects(
    models: Sequence[ModelName], seeds: Sequence[int], config: TrainConfig, data: ImageData, folder: RunFolder
) -> Iterator[Subject]:
    """The ODEs among the models that the folder holds, from states of test images.

    Raises:
        RunFolderError: A checkpoint is damaged.
    """
    images, digits = data.test_x[:SHOWN], tuple(map(str, data.test_y[:SHOWN].tolist()))
    for seed, name in product(seeds, models):
        state = folder.load_checkpoint(run_name(name, seed))
        model = _built(name, replace(config, seed=seed), data)
        if state is None or not isinstance(model.body, iso.NeuralODE):
            continue
        model.load_state_dict(state["model"])
        field = model.body.field
        with torch.no_grad():
            start = model.stem(images)
        plain = cast(nn.Module, field.field if isinstance(field, iso.Regularised) else field)
        yield Subject(f"{ABOUT[name].title}, seed {seed}", plain, start, (0.0, 1.0), digits)


def _trained(name: ModelName, config: TrainConfig, data: ImageData, folder: RunFolder, fabric: Fabric) -> Classifier:
    model = _built(name, config, data)
    Training(run_name(name, config.seed), model, data, config, fabric).run(folder)
    return model


def run_name(name: ModelName, seed: int) -> str:
    """What checkpoint and metrics of a training are called."""
    return f"{name}-{seed}"


def _row(name: ModelName, seeds: Sequence[int], data: ImageData, config: TrainConfig, folder: RunFolder) -> Row:
    model = _built(name, config, data)  # a trained one may still wait for the gradients of other processes
    names = {run_name(name, seed) for seed in seeds}
    last = [record for record in folder.metrics() if record["model"] in names and record["epoch"] == config.epochs]
    return Row(
        model=name,
        test_errors=tuple(100 * record["test_error"] for record in last),
        parameters=parameters(model),
        nfe_forward=_mean([record["nfe_forward"] for record in last]),
        nfe_backward=_mean([record["nfe_backward"] for record in last]),
        peak_memory=step_memory(model, data, config.batch_size) / 1e6,
        seconds=mean(record["seconds"] for record in last),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def step_memory(model: Classifier, data: ImageData, batch_size: int) -> int:
    """The peak of a training step's tensors, in bytes, the gradients of the parameters not counted."""

    def step() -> None:
        cross_entropy(model(data.train_x[:batch_size]), data.train_y[:batch_size]).backward()

    model.zero_grad()
    step()  # makes the gradients, which from here on are there in every step
    return peak_memory(step, data.train_x.device)


def table(rows: Sequence[Row], beside_paper: bool) -> Table:
    """The rows, and if wanted the paper's numbers beside them, which are for MNIST."""
    costs = "params", "NFE forward", "NFE backward", "step peak (MB)", "training (s)"
    return Table(
        "Test error against cost, after R. T. Q. Chen et al. (arXiv 1806.07366), Table 1",
        ("model", "test error (%)", *costs),
        tuple(_cells(row, beside_paper) for row in rows),
        "in brackets: the paper's" if beside_paper else "",
    )


def _cells(row: Row, beside_paper: bool) -> tuple[str, ...]:
    about = ABOUT[row.model]
    error, parameters = row.error(), f"{row.parameters:,}"
    if beside_paper and about.paper_error is not None:
        error, parameters = f"{error} ({about.paper_error:.2f})", f"{parameters} ({about.paper_parameters} M)"
    evaluations = ("–" if n is None else f"{n:.1f}" for n in (row.nfe_forward, row.nfe_backward))
    return about.title, error, parameters, *evaluations, f"{row.peak_memory:.1f}", f"{row.seconds:.0f}"
