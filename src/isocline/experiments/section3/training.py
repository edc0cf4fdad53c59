"""Training that a kill at any moment sets back by one epoch at most, and that resumes to the same numbers."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import tqdm

import isocline as iso
from isocline.data import ImageData
from isocline.experiments.processes import Device, Precision
from isocline.experiments.progress import Progress
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.section3.augmentation import moved, shifts
from isocline.experiments.section3.classifiers import Classifier

_EVALUATION_BATCH = 500


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the numbers of a training run."""

    channels: int = 64
    """Width of all the layers; even."""
    epochs: int = 10
    """Passes over the training images."""
    batch_size: int = 128
    """Images a step, over all processes."""
    learning_rate: float = 3e-3
    """Peak of the one-cycle schedule."""
    weight_decay: float = 0.01
    """Of AdamW."""
    shift: int = 0
    """Move each training image, each time, by at most so many pixels in height and in width."""
    kinetic: float = 0.01
    """Weight of the kinetic energy in the loss of the model that integrates it."""
    rtol: float = 1e-3
    """Relative tolerance of the solves, forward and backward."""
    atol: float = 1e-3
    """Absolute tolerance of the solves, forward and backward."""
    seed: int = 0
    """Of the initial weights, the batches and the moves."""
    limit: int | None = None
    """Take at most this many training, and as many test images."""
    device: Device = "auto"
    """Where to compute; auto is cuda where there is one. Start by `torchrun` to use several."""
    precision: Precision = "32-true"
    """Of the layers; states and error control of the solves stay in float32."""
    threads: int | None = None
    """CPU threads, which decide the last digits; torch's choice if not given."""
    tensorboard: bool = False
    """Write loss, test error and evaluations for TensorBoard, too."""

    def __post_init__(self) -> None:
        """Raises ValueError for a value that cannot work."""
        for name in ("epochs", "batch_size", "learning_rate", "rtol", "atol"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        for name in ("shift", "kinetic", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")
        if self.channels < 2 or self.channels % 2:
            raise ValueError(f"channels must be even, not {self.channels}")
        for name in ("limit", "threads"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be positive, not {value}")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device cuda: torch finds none here")


@dataclass(frozen=True)
class Share:
    """What one process has of a batch.

    Attributes:
        x: Its images.
        y: Their labels.
        weight: The mean over processes of weight times mean loss is the mean loss of the batch.
    """

    x: Tensor
    y: Tensor
    weight: float


class Training:
    """One model's training: its optimiser, its schedule, and where it has got to.

    Attributes:
        epoch: Epochs done, those before a resume included.
        seconds: Time they took, in seconds, without evaluation.
    """

    def __init__(self, name: str, model: Classifier, data: ImageData, config: TrainConfig, fabric: Fabric) -> None:
        """`name` is that of checkpoint and metrics; `model` and `data` are on the device of `fabric`.

        Raises:
            ValueError: There are more processes than images in some batch.
        """
        self.name, self.model, self.data, self.config, self.fabric = name, model, data, config, fabric
        self.epoch, self.seconds = 0, 0.0
        self.steps, rest = divmod(len(data.train_x), config.batch_size)
        self.steps += rest > 0
        if min(config.batch_size, rest or config.batch_size) < fabric.world_size:
            raise ValueError(
                f"a batch of {rest or config.batch_size} images is too few for {fabric.world_size} processes"
            )
        optimiser = AdamW(model.parameters(), weight_decay=config.weight_decay)
        self.schedule = OneCycleLR(optimiser, config.learning_rate, total_steps=self.steps * config.epochs)
        self.parallel, self.optimiser = fabric.setup(model, optimiser)

    def run(self, folder: RunFolder) -> None:
        """Trains from the folder's checkpoint, if there is one, to the last epoch."""
        parts = {"model": self.model, "optimiser": self.optimiser, "schedule": self.schedule}
        progress = Progress(folder, self.name, "epoch", parts)
        if (state := progress.restore()) is not None:
            self.epoch, self.seconds = state["epoch"], state["seconds"]
        self.fabric.barrier()
        if self.fabric.is_global_zero:
            progress.forget(after=self.epoch)
        total, done = self.steps * self.config.epochs, self.steps * self.epoch
        # disable=None: no bar where the output is not a terminal
        silent = None if self.fabric.is_global_zero else True
        with tqdm(total=total, initial=done, desc=self.name, unit="batch", disable=silent) as bar:
            while self.epoch < self.config.epochs:
                record = self._train_epoch(bar)
                record["test_error"] = self._test_error()
                bar.set_postfix_str(f"loss {record['loss']:.3f}, test error {record['test_error']:.2%}")
                if self.fabric.is_global_zero:
                    progress.leave(record, seconds=self.seconds)
                    self._show(folder, record)
                self.fabric.barrier()  # whoever goes on reads what was written

    def _show(self, folder: RunFolder, record: dict[str, Any]) -> None:
        if self.config.tensorboard:
            from torch.utils.tensorboard import SummaryWriter  # an option, and slow to import

            with SummaryWriter(str(folder.path / "tensorboard" / self.name)) as writer:
                for key in ("loss", "test_error", "nfe_forward", "nfe_backward"):
                    if record[key] is not None:
                        writer.add_scalar(key, record[key], self.epoch)

    def _train_epoch(self, bar: "tqdm[None]") -> dict[str, Any]:
        start = time.perf_counter()
        losses: list[Tensor] = []
        with iso.track() as work:
            for share in self._batches(self.epoch + 1):
                self.optimiser.zero_grad()
                loss = cross_entropy(self.parallel(share.x), share.y)
                self.fabric.backward(share.weight * (loss + self.config.kinetic * self.model.penalty()))
                self.optimiser.step()
                self.schedule.step()
                losses.append(share.weight * loss.detach())
                bar.update()
        mean_loss = cast(Tensor, self.fabric.all_reduce(torch.stack(losses).mean(), reduce_op="mean")).item()
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

    def _batches(self, epoch: int) -> Iterator[Share]:
        # Seeded anew each epoch: a resumed run draws the same batches without a generator's saved state. Every process
        # draws all of it, and takes each so-many-th image.
        generator = torch.Generator().manual_seed(1_000_003 * self.config.seed + epoch)
        count, size, every = len(self.data.train_x), self.config.batch_size, self.fabric.world_size
        order = torch.randperm(count, generator=generator)
        moves = shifts(count, self.config.shift, generator)
        for index, by in zip(order.split(size), moves.split(size), strict=True):
            own = index[self.fabric.global_rank :: every].to(self.data.train_x.device)
            x = moved(self.data.train_x[own], by[self.fabric.global_rank :: every])
            yield Share(x, self.data.train_y[own], len(own) * every / len(index))

    def _test_error(self) -> float:
        return error_rate(self.model, self.data.test_x, self.data.test_y)


@torch.no_grad()
def error_rate(model: Classifier, images: Tensor, labels: Tensor) -> float:
    """The share of `images`, between 0 and 1, that `model` gives another label than `labels`."""
    batches = zip(images.split(_EVALUATION_BATCH), labels.split(_EVALUATION_BATCH), strict=True)
    wrong = sum(int((model(x).argmax(1) != y).sum()) for x, y in batches)
    return wrong / len(labels)
