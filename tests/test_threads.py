"""Solves in several threads at once, and in the workers of a data loader, give what they give alone."""

import multiprocessing
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event, Thread

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils.data import DataLoader, Dataset

import isocline as iso
from isocline.gradients import GRADIENTS
from problems import fitting

RATES = (0.5, 1.5)
STARTED = [way for way in ("fork", "spawn") if way in multiprocessing.get_all_start_methods()]


def solved(gradient: iso.Gradient, batch_dims: int, rate: float) -> list[Tensor]:
    """Solve and differentiate, by a tensor that f closes over and that was computed."""
    logarithm = torch.tensor(rate).log().requires_grad_()
    k = logarithm.exp()
    y0 = torch.tensor([[0.1], [0.7]], requires_grad=True)
    sol = iso.solve(
        lambda t, y: k * y * (1 - y) * (1 + t.sin()),
        y0,
        torch.linspace(0, 2, 5),
        method=fitting(gradient),
        gradient=gradient,
        batch_dims=batch_dims,
        rtol=1e-3,
        atol=1e-3,
    )
    sol.ys.square().sum().backward()
    assert logarithm.grad is not None and y0.grad is not None
    return [sol.ys.detach(), logarithm.grad, y0.grad]


def fails(rate: float) -> list[Tensor]:
    """A solve that raises half way, and a solve with an event."""
    with pytest.raises(iso.SolveError, match="STEP_TOO_SMALL"):
        iso.solve(lambda t, y: y * y, torch.tensor([rate]), (0.0, 4.0))
    end = torch.tensor(rate, requires_grad=True)
    sol = iso.solve(lambda t, y: torch.ones_like(y), torch.zeros(1), (0.0, 9.0), event=lambda t, y: y[0] - end)
    assert sol.event_t is not None
    sol.event_t.backward()
    assert end.grad is not None
    return [sol.event_t.detach(), end.grad]


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns a hundred times as often as usual, and another one draws random numbers all the time."""
    interval, stop = sys.getswitchinterval(), Event()

    def draw() -> None:
        while not stop.wait(1e-4):
            torch.rand(3)

    thread = Thread(target=draw)
    sys.setswitchinterval(interval / 100)
    thread.start()
    yield
    stop.set()
    thread.join()
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("hasty")
def test_threads() -> None:
    jobs = [partial(solved, gradient, b, rate) for gradient in GRADIENTS.values() for b in (0, 1) for rate in RATES]
    jobs += [partial(fails, rate) for rate in RATES]
    expected = [job() for job in jobs]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda job: job(), jobs))
    for one, other in zip(found, expected, strict=True):
        assert all(map(torch.equal, one, other))


class Trajectories(Dataset[Tensor]):
    """Training data that are simulated where they are loaded."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        sol = iso.solve(lambda t, y: -(index + 1.0) * y, torch.ones(2), torch.linspace(0, 1, 3))
        ys: Tensor = sol.ys
        return ys


# From Python 3.12 on it warns of every fork of a process that has threads; torch's data loader forks all the same.
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.parametrize("start", STARTED)
def test_workers_of_a_data_loader(start: str) -> None:
    data = Trajectories()
    expected = torch.stack([data[i] for i in range(len(data))])
    y0 = torch.ones(2, requires_grad=True)
    iso.solve(lambda t, y: -y, y0, (0.0, 1.0)).ys.sum().backward()  # what a training would have done before
    loader = DataLoader(data, batch_size=2, num_workers=1, multiprocessing_context=start)
    assert_close(torch.cat(list(loader)), expected, rtol=0, atol=0)
