"""Counts over many solves are the sums of theirs."""

from threading import Thread

import pytest
import torch
from torch import Tensor, nn

import isocline as iso
from isocline.gradients import GRADIENTS


class Counted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))
        self.calls = 0

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        self.calls += 1
        return torch.sin(self.rate * y + t)


def start() -> Tensor:
    return torch.tensor([[0.5], [0.1], [9.0]], dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("gradient", GRADIENTS.values(), ids=GRADIENTS)
@pytest.mark.parametrize("batch_dims", [0, 1])
def test_layers_and_solves_forwards_and_backwards(gradient: iso.Gradient, batch_dims: int) -> None:
    f = Counted()
    layers = nn.Sequential(*(iso.NeuralODE(f, (0.0, end), batch_dims=batch_dims) for end in (1.0, 2.0)))
    # A method that suits every gradient method.
    method = iso.Reversible("tsit5")
    for layer in layers:
        layer.gradient, layer.method = gradient, method
    with iso.track() as work:
        y = layers(start())
        forward = f.calls
        sol = iso.solve(f, start(), (0.0, 1.0), method=method, gradient=gradient)
        assert work.forward.evaluations == f.calls
        assert work.backward.evaluations == 0
        y.sum().backward()
        sol.ys[-1].sum().backward()
    assert work.solves == 3
    assert f.calls > forward
    assert work.forward.evaluations + work.backward.evaluations == f.calls
    parts = [layer.stats for layer in layers] + [sol.stats]
    for name in ("evaluations", "rows", "steps", "accepted", "rejected"):
        total = sum(int(torch.as_tensor(getattr(stats, name)).sum()) for stats in parts)
        assert getattr(work.forward, name) == total
        assert type(getattr(work.forward, name)) is int
    assert work.forward.steps == work.forward.accepted + work.forward.rejected


def test_only_solves_in_the_block_count_but_all_of_their_backward_passes() -> None:
    gradient = iso.RecursiveCheckpointAdjoint()
    iso.solve(Counted(), start(), (0.0, 1.0), gradient=gradient).ys.sum().backward()
    with iso.track() as work:
        sol = iso.solve(Counted(), start(), (0.0, 1.0), gradient=gradient)
    iso.solve(Counted(), start(), (0.0, 1.0), gradient=gradient).ys.sum().backward()
    assert (work.solves, work.forward.evaluations, work.backward.evaluations) == (1, sol.stats.evaluations, 0)
    sol.ys.sum().backward(retain_graph=True)
    once = sol.stats.backward.evaluations
    assert work.backward.evaluations == once > 0
    sol.ys.sum().backward()
    assert work.backward.evaluations == 2 * once


def test_blocks_are_nested_and_count_what_fails() -> None:
    with iso.track() as outer:
        with iso.track() as inner, pytest.raises(iso.SolveError):
            iso.solve(Counted(), start(), (0.0, 5.0), max_steps=2)
        iso.solve(Counted(), start(), (0.0, 1.0))
    assert (outer.solves, inner.solves) == (2, 1)
    assert inner.forward.steps == 2
    assert outer.forward.steps > 2


def test_an_error_ends_the_block() -> None:
    with pytest.raises(KeyError), iso.track() as work:
        raise KeyError
    iso.solve(Counted(), start(), (0.0, 1.0))
    assert work.solves == 0


def test_replicas_in_threads_are_counted() -> None:
    layer = iso.NeuralODE(Counted(), gradient=iso.RecursiveCheckpointAdjoint())

    def replica() -> None:
        for _ in range(5):
            layer(start()).sum().backward()

    with iso.track() as work:
        threads = [Thread(target=replica) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert work.solves == 20
    assert work.forward.evaluations == 20 * layer.stats.evaluations
    assert work.backward.evaluations == 20 * layer.stats.backward.evaluations


def test_segments_between_events_count() -> None:
    f = Counted()
    with iso.track() as work:
        sol = iso.solve(f, start(), (0.0, 1.0), event=lambda t, y: y.sum() - 9.7, gradient=iso.BacksolveAdjoint())
        sol.event_y.sum().backward()
    assert sol.event_index == 0
    assert work.forward.evaluations + work.backward.evaluations == f.calls


def test_the_counts_are_printed() -> None:
    with iso.track() as work:
        iso.solve(Counted(), start(), (0.0, 1.0))
    assert repr(work).startswith("Work(solves=1, forward=Stats(evaluations=")
