"""Data-parallel training: two processes, each with half of the batch, have the gradients of one with all of it."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close

import isocline as iso
from isocline.gradients import GRADIENTS
from problems import fitting

from .problems import draw

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch was built without distributed")

PROCESSES, BATCH = 2, 6


class Model(nn.Module):
    """An ODE between two layers; one parameter of its field is not used."""

    def __init__(self, gradient: iso.Gradient, batch_dims: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        field = Field()
        controller = None if batch_dims else iso.FixedStep(0.1)
        method = fitting(gradient, "tsit5" if batch_dims else "rk4")
        self.layers = nn.Sequential(
            nn.Linear(2, 3),
            iso.NeuralODE(field, method=method, controller=controller, gradient=gradient, batch_dims=batch_dims),
            nn.Linear(3, 1),
        ).double()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


class Field(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.unused = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.tanh(self.inner(y))


CASES = {
    f"{name}-{batch_dims}": (gradient, batch_dims) for name, gradient in GRADIENTS.items() for batch_dims in (0, 1)
}


def gradients(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Return the gradients of a sum over samples in the second of two passes: the first could leave something."""
    for _ in range(2):
        model.zero_grad()
        model(x).square().sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def work(rank: int, folder: str) -> None:
    """Train on the rank's part of the batch."""
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=PROCESSES)
    x = draw(BATCH, 2, seed=1).chunk(PROCESSES)[rank]
    found = {}
    for name, case in CASES.items():
        model = Model(*case)
        gradients(DistributedDataParallel(model, find_unused_parameters=True), x)
        found[name] = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(work, (str(folder),), PROCESSES)
    return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(PROCESSES)]


@pytest.mark.parametrize("case", CASES)
def test_as_one_process(trained: list[dict[str, Any]], case: str) -> None:
    alone = gradients(Model(*CASES[case]), draw(BATCH, 2, seed=1))
    assert alone["layers.1.field.inner.weight"].abs().max() > 1e-2
    for parts in trained:
        for name, x in alone.items():
            assert_close(parts[case][name], x / PROCESSES, rtol=1e-10, atol=1e-12, msg=name)
