"""Compiled solves, again and again, hold no more than one."""

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor

import isocline as iso
from isocline.gradients import GRADIENTS
from leaks import left_by, needs_linux
from problems import fitting

pytestmark = [
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]
COMPILED = ("direct", "checkpoint", "backsolve")
"""The others run eagerly whatever is asked for, and their memory is looked at there."""
every_gradient = pytest.mark.parametrize("gradient", [GRADIENTS[name] for name in COMPILED], ids=COMPILED)


def solved(gradient: iso.Gradient) -> Tensor:
    """By a field made anew for each solve, as in a training loop that makes it in a function."""
    y0 = torch.full((2, 8192), 0.3, dtype=torch.float64, requires_grad=True)
    k = torch.tensor([[1.3], [0.7]], dtype=torch.float64, requires_grad=True)
    settings: dict[str, Any] = {"method": fitting(gradient, "euler"), "controller": iso.FixedStep(0.5)}
    return iso.solve(lambda t, y: k * y * (1 - y), y0, (0.0, 0.2, 1.0), gradient=gradient, compile=True, **settings).ys


def flat(gradient: iso.Gradient, calls: int, cycles: bool) -> None:
    """One state more for each solve would be 128 kB a call, one Python object more as many as calls."""
    objects, size = left_by(lambda: solved(gradient).sum().backward(), calls, cycles)
    assert objects < 10
    assert size < calls * 2**16


@needs_linux
@pytest.mark.usefixtures("graphs_only")
@every_gradient
def test_memory_is_flat_over_solves(gradient: iso.Gradient) -> None:
    """Cycles are torch's own here: its transforms leave some where they are not compiled to machine code."""
    flat(gradient, 60, cycles=False)


@needs_linux
@pytest.mark.long
@every_gradient
def test_memory_is_flat_over_a_thousand_solves_in_machine_code(gradient: iso.Gradient) -> None:
    flat(gradient, 1000, cycles=True)


@pytest.mark.usefixtures("graphs_only")
@pytest.mark.parametrize("backward", [True, False])
@every_gradient
def test_a_solution_is_freed_at_once(gradient: iso.Gradient, backward: bool) -> None:
    solved(gradient).sum().backward()
    gc.collect()
    gc.disable()
    try:
        ys = solved(gradient)
        storage = weakref.ref(ys.untyped_storage())
        if backward:
            ys.sum().backward()
        assert storage() is not None
        del ys
        assert storage() is None
    finally:
        gc.enable()
