"""A solve reads from the device once a step, and a few times in all: on an accelerator each read waits for all work."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import isocline as iso

AROUND = 6
"""Reads that a solve may make besides those of its steps: checks of the times, counts, statuses."""

GRADIENTS = {
    "direct": iso.DirectAdjoint(),
    "checkpoint": iso.RecursiveCheckpointAdjoint(),
    "checkpoint of 3": iso.RecursiveCheckpointAdjoint(3),
    "backsolve": iso.BacksolveAdjoint(),
}
every_gradient = pytest.mark.parametrize("gradient", GRADIENTS.values(), ids=GRADIENTS.keys())


WAITING = {
    "_local_scalar_dense",
    "item",
    "is_nonzero",
    "nonzero",
    "masked_select",
    "equal",
    "unique_dim",
    "_unique2",
    "unique_consecutive",
}


class Reads(TorchDispatchMode):
    """Counts operations whose result, or the shape of it, the host must wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.split("::")[1]
        by_mask = name in ("index", "index_put", "index_put_") and any(
            i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]
        )
        if name in WAITING or by_mask:
            self.count += 1
        if name == "repeat_interleave" and not (kwargs or {}).get("output_size"):
            self.count += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reads]:
    """Count reads by dispatched operations, and those of Python methods that may not dispatch any on the CPU."""
    counter = Reads()

    def counting(original: Callable[..., Any]) -> Callable[..., Any]:
        def method(self: Tensor, *args: Any) -> Any:
            before = counter.count
            result = original(self, *args)
            counter.count = before + 1  # once, whatever it dispatched inside
            return result

        return method

    with monkeypatch.context() as patch:
        for name in ("tolist", "item", "__bool__", "__int__", "__float__", "__index__", "numpy"):
            patch.setattr(Tensor, name, counting(getattr(Tensor, name)))
        with counter:
            yield counter


class Net(torch.nn.Module):
    """A field that itself reads nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 3)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.tanh(self.linear(y)) - 8 * y * (1 + torch.sin(20 * t))


def solve(batch_dims: int, gradient: iso.Gradient, **options: Any) -> iso.Solution:
    y0 = torch.linspace(-3, 3, 12).reshape(4, 3).requires_grad_()
    ts = torch.linspace(0, 1, options.pop("times", 2))
    return iso.solve(Net(), y0, ts, batch_dims=batch_dims, gradient=gradient, **options)


def test_the_counter_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.arange(3.0)
    with reads(monkeypatch) as counter:
        x.sum().item()
        bool(x.any())
        x.tolist()
        float(x[0])
        x.nonzero()
        x[x > 1]
    assert counter.count == 6
    with reads(monkeypatch) as counter:
        x[torch.tensor([0, 1])].sum() + torch.where(x > 1, x, 0.0)
    assert counter.count == 0


@pytest.mark.parametrize("batch_dims", [0, 1])
@every_gradient
@pytest.mark.parametrize("times", [2, 40])
def test_forward_reads_once_a_step(
    monkeypatch: pytest.MonkeyPatch, batch_dims: int, gradient: iso.Gradient, times: int
) -> None:
    with reads(monkeypatch) as counter:
        sol = solve(batch_dims, gradient, times=times)
    attempts = int(sol.stats.steps.max())
    assert attempts > 10
    assert sol.stats.rejected.sum() > 0
    assert attempts <= counter.count <= attempts + AROUND


@pytest.mark.parametrize("batch_dims", [0, 1])
@every_gradient
def test_forward_without_gradients_reads_once_a_step(
    monkeypatch: pytest.MonkeyPatch, batch_dims: int, gradient: iso.Gradient
) -> None:
    with torch.no_grad(), reads(monkeypatch) as counter:
        sol = solve(batch_dims, gradient, times=10, dense=True)
        sol(torch.linspace(0, 1, 30))
    assert counter.count <= int(sol.stats.steps.max()) + AROUND


@pytest.mark.parametrize("batch_dims", [0, 1])
@pytest.mark.parametrize(
    "gradient", [iso.DirectAdjoint(), iso.RecursiveCheckpointAdjoint()], ids=["direct", "checkpoint"]
)
def test_dense_output_reads_nothing_more(
    monkeypatch: pytest.MonkeyPatch, batch_dims: int, gradient: iso.Gradient
) -> None:
    with reads(monkeypatch) as counter:
        sol = solve(batch_dims, gradient, dense=True)
    assert counter.count <= int(sol.stats.steps.max()) + AROUND


@pytest.mark.parametrize("batch_dims", [0, 1])
def test_watching_for_events_reads_nothing_more(monkeypatch: pytest.MonkeyPatch, batch_dims: int) -> None:
    """Except with one lane, where a step is judged by one read, and what it brought by another."""

    def far(t: Tensor, y: Tensor) -> Tensor:
        return y.amax(-1) + 9 if batch_dims else y.amax() + 9

    with torch.no_grad(), reads(monkeypatch) as counter:
        sol = solve(batch_dims, iso.DirectAdjoint(), times=10, event=far)
    assert sol.event_t.isnan().all()
    each = 1 if batch_dims else 2
    assert counter.count <= each * int(sol.stats.steps.max()) + 2 * AROUND


@pytest.mark.parametrize("batch_dims", [0, 1])
def test_fixed_steps_read_once_a_step(monkeypatch: pytest.MonkeyPatch, batch_dims: int) -> None:
    with torch.no_grad(), reads(monkeypatch) as counter:
        solve(batch_dims, iso.DirectAdjoint(), method="rk4", controller=iso.FixedStep(0.05))
    assert counter.count <= 20 + AROUND


@pytest.mark.parametrize("batch_dims", [0, 1])
@pytest.mark.parametrize("times", [2, 10])
def test_backward_through_checkpoints_reads_nothing(
    monkeypatch: pytest.MonkeyPatch, batch_dims: int, times: int
) -> None:
    for gradient in (iso.RecursiveCheckpointAdjoint(), iso.RecursiveCheckpointAdjoint(3)):
        sol = solve(batch_dims, gradient, times=times)
        with reads(monkeypatch) as counter:
            sol.ys.square().sum().backward()
        assert sol.stats.backward is not None
        assert counter.count <= AROUND


@pytest.mark.parametrize("batch_dims", [0, 1])
def test_backward_by_undoing_steps_reads_once_a_checkpoint(monkeypatch: pytest.MonkeyPatch, batch_dims: int) -> None:
    gradient = iso.ReversibleAdjoint(8)
    sol = solve(batch_dims, gradient, times=10, method=iso.Reversible("tsit5"))
    with reads(monkeypatch) as counter:
        sol.ys.square().sum().backward()
    assert sol.stats.backward is not None
    assert counter.count <= 8 + AROUND


@pytest.mark.parametrize("batch_dims", [0, 1])
def test_backward_by_backsolve_reads_once_a_step(monkeypatch: pytest.MonkeyPatch, batch_dims: int) -> None:
    sol = solve(batch_dims, iso.BacksolveAdjoint())
    with reads(monkeypatch) as counter:
        sol.ys[-1].square().sum().backward()
    backward = sol.stats.backward
    assert backward is not None
    # Attempts of the loop are not counted by themselves: each costs a tsit5 at least six evaluations of the adjoint.
    assert counter.count <= backward.evaluations / 6 + AROUND


@pytest.mark.parametrize("batch_dims", [0, 1])
def test_backward_by_backsolve_reads_nothing_more_at_save_times(
    monkeypatch: pytest.MonkeyPatch, batch_dims: int
) -> None:
    sol = solve(batch_dims, iso.BacksolveAdjoint(), times=10)
    with reads(monkeypatch) as counter:
        sol.ys.square().sum().backward()
    backward = sol.stats.backward
    assert backward is not None
    assert counter.count <= backward.evaluations / 6 + AROUND
