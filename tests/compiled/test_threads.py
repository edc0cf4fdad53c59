"""Compiled solves in several threads at once give what they give one after the other."""

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from torch import Tensor

import isocline as iso
from isocline.compiled import spare

from .problems import Net, draw


def solved(net: Net, seed: int) -> list[Tensor]:
    y0 = draw(4, 2, seed=seed).requires_grad_()
    ys = iso.solve(net, y0, torch.linspace(0, 2, 5), compile=True).ys
    return [ys.detach(), *torch.autograd.grad(ys.sin().sum(), [y0, *net.parameters()])]


@pytest.mark.usefixtures("graphs_only")
def test_threads() -> None:
    nets = [Net(seed) for seed in (4, 5)]
    jobs = [partial(solved, net, seed) for net in nets for seed in range(2)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda job: job(), jobs))
    for one, job in zip(found, jobs, strict=True):
        for x, expected in zip(one, job(), strict=True):
            torch.testing.assert_close(x, expected, rtol=0, atol=0)


def test_memory_that_others_take_and_give_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """No block is handed out twice, and none is given back to a list that another thread has emptied."""
    shapes = [(torch.Size((64,)), torch.float32)]
    monkeypatch.setattr(spare, "LARGEST", 255)  # none may stay

    def work(mark: int) -> None:
        for _ in range(2000):
            block = spare.take(shapes, torch.device("cpu"))
            block.tensors[0].fill_(mark)
            assert (block.tensors[0] == mark).all()
            spare._keep(block)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
    finally:
        sys.setswitchinterval(interval)
    assert not spare._spare
