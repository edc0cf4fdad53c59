"""Training that a kill at any moment sets back by one epoch at most, and that resumes to the same numbers."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import tqdm

import isocline as iso
from isocline.data import ImageData
from isocline.experiments.classification import Classifier
from isocline.experiments.run_folder import RunFolder, RunFolderError

_EVALUATION_BATCH = 500


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the numbers of a training run."""

    channels: int = 64
    """Width of all the layers; even."""
    epochs: int = 10
    """Passes over the training images."""
    batch_size: int = 128
    """Images a step."""
    learning_rate: float = 3e-3
    """Peak of the one-cycle schedule."""
    weight_decay: float = 0.01
    """Of AdamW."""
    rtol: float = 1e-3
    """Relative tolerance of the solves, forward and backward."""
    atol: float = 1e-3
    """Absolute tolerance of the solves, forward and backward."""
    seed: int = 0
    """Of the initial weights and of the batches."""
    limit: int | None = None
    """Take at most this many training, and as many test images."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto is cuda where there is one."""
    threads: int | None = None
    """CPU threads, which decide the last digits; torch's choice if not given."""

    def __post_init__(self) -> None:
        """Raises ValueError for a value that cannot work."""
        for name in ("epochs", "batch_size", "learning_rate", "rtol", "atol"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        if self.channels < 2 or self.channels % 2:
            raise ValueError(f"channels must be even, not {self.channels}")
        for name in ("limit", "threads"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be positive, not {value}")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device cuda: torch finds none here")

    def torch_device(self) -> torch.device:
        """The device that `device` stands for on this machine."""
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return torch.device(self.device)


class Training:
    """One model's training: its optimiser, its schedule, and where it has got to.

    Attributes:
        epoch: Epochs done, those before a resume included.
        seconds: Time they took, in seconds, without evaluation.
    """

    def __init__(self, name: str, model: Classifier, data: ImageData, config: TrainConfig) -> None:
        """`name` is that of checkpoint and metrics; `model` and `data` are on the same device."""
        self.name, self.model, self.data, self.config = name, model, data, config
        self.epoch, self.seconds = 0, 0.0
        self.steps = math.ceil(len(data.train_x) / config.batch_size)
        self.optimiser = AdamW(model.parameters(), weight_decay=config.weight_decay)
        self.schedule = OneCycleLR(self.optimiser, config.learning_rate, total_steps=self.steps * config.epochs)

    def run(self, folder: RunFolder) -> None:
        """Trains from the folder's checkpoint, if there is one, to the last epoch."""
        self._restore(folder)
        total, done = self.steps * self.config.epochs, self.steps * self.epoch
        # disable=None: no bar where the output is not a terminal
        with tqdm(total=total, initial=done, desc=self.name, unit="batch", disable=None) as bar:
            while self.epoch < self.config.epochs:
                record = self._train_epoch(bar)
                record["test_error"] = error_rate(self.model, self.data.test_x, self.data.test_y)
                bar.set_postfix_str(f"loss {record['loss']:.3f}, test error {record['test_error']:.2%}")
                # In this order: a kill between the two leaves a line too many, which _restore drops.
                folder.append_metrics(record)
                folder.save_checkpoint(self.name, self._state())

    def _train_epoch(self, bar: "tqdm[None]") -> dict[str, object]:
        start = time.perf_counter()
        losses: list[Tensor] = []
        with iso.track() as work:
            for x, y in self._batches(self.epoch + 1):
                self.optimiser.zero_grad()
                loss = cross_entropy(self.model(x), y)
                loss.backward()
                self.optimiser.step()
                self.schedule.step()
                losses.append(loss.detach())
                bar.update()
        mean_loss = torch.stack(losses).mean().item()
        self.epoch += 1
        self.seconds += time.perf_counter() - start
        forward, backward = work.forward.evaluations, work.backward.evaluations
        return {
            "model": self.name,
            "epoch": self.epoch,
            "loss": mean_loss,
            "nfe_forward": forward / work.solves if forward else None,
            "nfe_backward": backward / work.solves if backward else None,
            "seconds": self.seconds,
        }

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        # Seeded anew each epoch: a resumed run draws the same batches without a generator's saved state.
        generator = torch.Generator().manual_seed(1_000_003 * self.config.seed + epoch)
        order = torch.randperm(len(self.data.train_x), generator=generator).to(self.data.train_x.device)
        for index in order.split(self.config.batch_size):
            yield self.data.train_x[index], self.data.train_y[index]

    def _state(self) -> dict[str, object]:
        return {
            "epoch": self.epoch,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def _restore(self, folder: RunFolder) -> None:
        state = folder.load_checkpoint(self.name)
        if state is not None:
            try:
                self.model.load_state_dict(state["model"])
                self.optimiser.load_state_dict(state["optimiser"])
                self.schedule.load_state_dict(state["schedule"])
                self.epoch, self.seconds = state["epoch"], state["seconds"]
            except (KeyError, RuntimeError, ValueError) as error:
                raise RunFolderError(f"{folder.path / self.name}.pt: does not fit the run's config.json") from error
        folder.keep_metrics(lambda record: record["model"] != self.name or record["epoch"] <= self.epoch)


@torch.no_grad()
def error_rate(model: Classifier, images: Tensor, labels: Tensor) -> float:
    """The share of `images`, between 0 and 1, that `model` gives another label than `labels`."""
    batches = zip(images.split(_EVALUATION_BATCH), labels.split(_EVALUATION_BATCH), strict=True)
    wrong = sum(int((model(x).argmax(1) != y).sum()) for x, y in batches)
    return wrong / len(labels)
