"""What is held, and for how long."""

import gc
import weakref
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

import isocline as iso
from isocline.experiments.memory import peak_memory
from isocline.gradients import GRADIENTS

from .problems import LAYOUTS, leaves_of, states

METHODS = {**GRADIENTS, "checkpoint-3": iso.RecursiveCheckpointAdjoint(3)}
every_gradient = pytest.mark.parametrize("gradient", METHODS.values(), ids=METHODS)
every_layout = pytest.mark.parametrize("layout", ["joint", "nested"])


def live_tensors() -> int:
    gc.collect()
    return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())


@every_layout
@every_gradient
def test_repeated_solves_leave_nothing(gradient: iso.Gradient, layout: str) -> None:
    case = LAYOUTS[layout]
    p = leaves_of(case)

    def once() -> None:
        ys = states(case, p, method="tsit5", rtol=1e-2, atol=1e-2, gradient=gradient)
        torch.autograd.grad(ys.sum(), list(p.values()))

    once()
    before = live_tensors()
    for _ in range(50):
        once()
    assert live_tensors() == before


@pytest.fixture
def no_collector() -> object:
    """Only reference counts free memory, so that what hangs in a cycle stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@every_layout
@pytest.mark.parametrize("backward", [True, False])
@every_gradient
@pytest.mark.usefixtures("no_collector")
def test_a_solution_is_freed_at_once(gradient: iso.Gradient, backward: bool, layout: str) -> None:
    case = LAYOUTS[layout]
    p = leaves_of(case)
    ys = states(case, p, method="tsit5", rtol=1e-2, atol=1e-2, gradient=gradient)
    storage = weakref.ref(ys.untyped_storage())
    if backward:
        ys.sum().backward()
    assert storage() is not None
    del ys
    assert storage() is None


@pytest.mark.parametrize("gradient", [iso.DirectAdjoint(), iso.RecursiveCheckpointAdjoint()])
@pytest.mark.usefixtures("no_collector")
def test_a_dense_solution_is_freed_at_once(gradient: iso.Gradient) -> None:
    y0 = torch.ones(2, requires_grad=True)
    sol = iso.solve(lambda t, y: -y, y0, (0.0, 1.0), dense=True, gradient=gradient)
    y = sol(0.5)
    y.sum().backward()
    storages = [weakref.ref(x.untyped_storage()) for x in (sol.ys, y)]
    del sol, y
    assert [storage() for storage in storages] == [None, None]


def peak(gradient: iso.Gradient, steps: int) -> int:
    net = nn.Sequential(nn.Linear(64, 256), nn.Tanh(), nn.Linear(256, 64))
    y0 = torch.randn(64, 64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    settings = {"method": "euler", "controller": iso.FixedStep(1 / steps), "gradient": gradient}

    def forward_and_backward() -> None:
        iso.solve(lambda t, y: net(y), y0, (0.0, 1.0), **settings).ys[-1].sum().backward()

    return peak_memory(forward_and_backward)


FLAT: dict[str, Callable[[], iso.Gradient]] = {
    "checkpoint-8": partial(iso.RecursiveCheckpointAdjoint, 8),
    "backsolve": iso.BacksolveAdjoint,
}


@pytest.mark.parametrize("make", FLAT.values(), ids=FLAT)
def test_memory_does_not_grow_with_the_steps(make: Callable[[], iso.Gradient]) -> None:
    assert peak(make(), 1000) < 1.05 * peak(make(), 100)


@pytest.mark.parametrize("gradient", [iso.DirectAdjoint(), iso.RecursiveCheckpointAdjoint()])
def test_memory_that_must_grow_with_the_steps_is_seen(gradient: iso.Gradient) -> None:
    assert peak(gradient, 300) > 2 * peak(gradient, 100)


def test_storing_states_takes_less_than_storing_evaluations() -> None:
    assert peak(iso.RecursiveCheckpointAdjoint(), 100) < 0.3 * peak(iso.DirectAdjoint(), 100)


def test_nothing_is_recorded_where_nothing_requires_grad() -> None:
    """A simulation with autograd on but nothing to differentiate keeps no states for a backward pass."""

    def simulate(steps: int) -> None:
        iso.solve(lambda t, y: -y, torch.ones(64, 64), (0.0, 1.0), method="euler", controller=iso.FixedStep(1 / steps))

    assert peak_memory(lambda: simulate(200)) < 1.05 * peak_memory(lambda: simulate(20))


def test_the_stages_of_one_step_are_in_memory_at_a_time() -> None:
    y0, rk4 = torch.ones(64, 64), {"method": "rk4", "controller": iso.FixedStep(0.1)}
    # Four stages, the states at both ends, and one more for what is being computed.
    assert peak_memory(lambda: iso.solve(lambda t, y: -y, y0, (0.0, 1.0), **rk4)) < 7.5 * y0.nbytes
