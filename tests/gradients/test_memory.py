"""What is held, and for how long."""

import gc
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import isocline as iso
from isocline.experiments.memory import peak_memory
from isocline.gradients import GRADIENTS
from leaks import left_by, needs_linux
from problems import fitting

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
        ys = states(case, p, method=fitting(gradient), rtol=1e-2, atol=1e-2, gradient=gradient)
        torch.autograd.grad(ys.sum(), list(p.values()))

    once()
    before = live_tensors()
    for _ in range(10):
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
    ys = states(case, p, method=fitting(gradient), rtol=1e-2, atol=1e-2, gradient=gradient)
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


def logistic(t: Tensor, y: Tensor, k: Tensor) -> Tensor:
    return k * y * (1 - y)


def solved(gradient: iso.Gradient, f: Callable[..., Tensor] = logistic, **settings: Any) -> iso.Solution:
    y0 = torch.full((2, 2048), 0.3, dtype=torch.float64, requires_grad=True)
    k = torch.tensor([[1.3], [0.7]], dtype=torch.float64, requires_grad=True)
    settings = {"method": fitting(gradient), "rtol": 1e-2, "atol": 1e-2, **settings}
    return iso.solve(f, y0, (0.0, 0.2, 1.0), args=(k,), gradient=gradient, **settings)


def saved(gradient: iso.Gradient) -> None:
    solved(gradient).ys.sum().backward()


def without_backward(gradient: iso.Gradient) -> None:
    solved(gradient)


def per_sample(gradient: iso.Gradient) -> None:
    solved(gradient, batch_dims=1).ys.sum().backward()


def backward_twice(gradient: iso.Gradient) -> None:
    total = solved(gradient).ys.sum()
    total.backward(retain_graph=True)
    total.backward()


def events(gradient: iso.Gradient) -> None:
    halved = iso.Event(lambda t, y, k: y.amax() - 0.4, jump=lambda t, y, k: y / 2)
    sol = solved(gradient, event=halved, jump_ts=[0.5])
    assert len(sol.event_ts) > 0
    (sol.ys.sum() + sol.event_ts.sum()).backward()


def dense(gradient: iso.Gradient) -> None:
    try:
        sol = solved(gradient, dense=True)
    except ValueError:
        return  # as BacksolveAdjoint: there is nothing to differentiate
    sol(0.7).sum().backward()


def failed(gradient: iso.Gradient) -> None:
    try:
        solved(gradient, max_steps=1, batch_dims=1)
    except iso.SolveError:
        return
    raise AssertionError("the solve was to fail")


def failing_field(gradient: iso.Gradient) -> None:
    def f(t: Tensor, y: Tensor, k: Tensor) -> Tensor:
        if t > 0.5:
            raise ArithmeticError
        return logistic(t, y, k)

    try:
        solved(gradient, f)
    except ArithmeticError:
        return
    raise AssertionError("the field was to fail")


KINDS = (saved, without_backward, per_sample, backward_twice, events, dense, failed, failing_field)


@pytest.mark.parametrize("kind", KINDS, ids=[kind.__name__ for kind in KINDS])
@every_gradient
@pytest.mark.usefixtures("no_collector")
def test_there_are_no_reference_cycles(gradient: iso.Gradient, kind: Callable[[iso.Gradient], None]) -> None:
    """What a solve made is gone with the last reference to it: the collector finds nothing."""
    kind(gradient)  # the first time modules are imported and caches filled
    gc.collect()
    kind(gradient)
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        assert [type(thing) for thing in gc.garbage] == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


@needs_linux
@pytest.mark.parametrize("calls", [200, pytest.param(1000, marks=pytest.mark.long)])
@every_gradient
def test_memory_is_flat_over_solves(gradient: iso.Gradient, calls: int) -> None:
    """One state more for each solve would be 32 kB a call, one Python object more as many as calls."""
    settings: dict[str, Any] = {"controller": iso.FixedStep(0.5), "rtol": None, "atol": None}

    def call() -> None:
        solved(gradient, method=fitting(gradient, "euler"), **settings).ys.sum().backward()

    objects, size = left_by(call, calls)
    assert objects < 10
    assert size < 4 * 2**20


def peak(gradient: iso.Gradient, steps: int) -> int:
    net = nn.Sequential(nn.Linear(64, 256), nn.Tanh(), nn.Linear(256, 64))
    y0 = torch.randn(64, 64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    settings = {"controller": iso.FixedStep(1 / steps), "gradient": gradient, "method": fitting(gradient, "euler")}

    def forward_and_backward() -> None:
        iso.solve(lambda t, y: net(y), y0, (0.0, 1.0), **settings).ys[-1].sum().backward()

    return peak_memory(forward_and_backward)


FLAT: dict[str, Callable[[], iso.Gradient]] = {
    "checkpoint-8": partial(iso.RecursiveCheckpointAdjoint, 8),
    "reversible-8": partial(iso.ReversibleAdjoint, 8),
    "backsolve": iso.BacksolveAdjoint,
    "interpolating-8": partial(iso.InterpolatingAdjoint, checkpoints=8),
    "gauss-8": partial(iso.GaussAdjoint, checkpoints=8),
}


@pytest.mark.parametrize("make", FLAT.values(), ids=FLAT)
def test_memory_does_not_grow_with_the_steps(make: Callable[[], iso.Gradient]) -> None:
    assert peak(make(), 300) < 1.05 * peak(make(), 60)


@pytest.mark.long
@pytest.mark.parametrize("gradient", [iso.RecursiveCheckpointAdjoint(8), iso.ReversibleAdjoint(8)], ids=str)
def test_memory_does_not_grow_up_to_ten_thousand_steps(gradient: iso.Gradient) -> None:
    y0, k = torch.ones(64, 64, requires_grad=True), torch.tensor(0.3, requires_grad=True)

    def peak(steps: int) -> int:
        settings: dict[str, Any] = {"method": fitting(gradient, "euler"), "controller": iso.FixedStep(1 / steps)}
        return peak_memory(
            lambda: iso.solve(lambda t, y: k * y, y0, (0.0, 1.0), gradient=gradient, **settings).ys[-1].sum().backward()
        )

    assert peak(10_000) < 1.05 * peak(100)


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
