"""Memory of records is used again, but never while somebody needs it."""

import gc
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import isocline as iso
from isocline.compiled import spare

from .problems import Net, draw

SHAPES = [(torch.Size((3, 4)), torch.float32), (torch.Size((5,)), torch.float64)]
CPU = torch.device("cpu")


class Owner:
    pass


@pytest.fixture(autouse=True)
def _nothing_spare() -> Iterator[None]:
    gc.collect()
    spare._spare.clear()
    yield
    spare._spare.clear()


def test_taken_again_when_the_owner_is_gone() -> None:
    owner, block = Owner(), spare.take(SHAPES, CPU)
    assert [(x.shape, x.dtype) for x in block.tensors] == SHAPES
    spare.give_back_with(owner, block)
    assert spare.take(SHAPES, CPU) is not block
    del owner
    assert spare.take(SHAPES[:1], CPU) is not block
    assert spare.take(SHAPES, CPU) is block
    assert spare.take(SHAPES, CPU) is not block


def test_no_more_than_the_limit_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [spare.take(SHAPES, CPU) for _ in range(3)]
    monkeypatch.setattr(spare, "LARGEST", 2 * blocks[0].nbytes)
    for block in blocks:
        spare.give_back_with(Owner(), block)
    assert spare._spare == blocks[1:]


@pytest.mark.usefixtures("graphs_only")
def test_solves_that_overlap_do_not_share() -> None:
    net = Net(3)
    starts = [draw(4, 2, seed=seed).requires_grad_() for seed in range(3)]

    def solve(y0: torch.Tensor, **settings: Any) -> torch.Tensor:
        return iso.solve(net, y0, torch.linspace(0, 2, 5), **settings).ys.sin().sum()

    expected = [torch.autograd.grad(solve(y0), y0)[0] for y0 in starts]
    losses = [solve(y0, compile=True) for y0 in starts]
    for loss, y0, gradient in zip(losses, starts, expected, strict=True):
        found = torch.autograd.grad(loss, y0, retain_graph=True)[0]
        torch.testing.assert_close(found, gradient, rtol=1e-8, atol=1e-8)
    again = torch.autograd.grad(losses[0], starts[0])[0]
    torch.testing.assert_close(again, expected[0], rtol=1e-8, atol=1e-8)
    assert not spare._spare
    del losses, loss
    gc.collect()
    assert len(spare._spare) == 3
    last = torch.autograd.grad(solve(starts[1], compile=True), starts[1])[0]
    torch.testing.assert_close(last, expected[1], rtol=1e-8, atol=1e-8)
    assert len(spare._spare) == 3
