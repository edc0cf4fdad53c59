"""What is compiled, and how often."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

import isocline as iso

from .problems import Net, assert_same, draw, gradients, graphs, solve_both

FIELD, FORWARD, BACKWARD = 1, 1, 1


def train(net: Any, batch: int = 4, times: int = 5, end: float = 1.0, **settings: Any) -> None:
    """A solve and its backward pass, each checked against the eager ones."""
    y0 = draw(batch, 2).requires_grad_()
    wanted = [y0, *(net.parameters() if isinstance(net, torch.nn.Module) else ())]
    first, second = solve_both(net, y0, torch.linspace(0, end, times), **settings)
    for a, b in zip(gradients(first.ys, wanted), gradients(second.ys, wanted), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


@pytest.fixture(autouse=True)
def _graphs_only(graphs_only: None) -> None:
    counters.clear()


class Kept(Net):
    pass


@pytest.mark.parametrize("batch_dims", [0, 1])
def test_compiled_once(batch_dims: int) -> None:
    net = Kept()
    train(net, batch_dims=batch_dims)
    assert graphs() == FIELD + FORWARD + BACKWARD
    assert not counters["graph_break"]
    train(net, batch_dims=batch_dims)
    train(net, batch_dims=batch_dims, end=2.5)
    train(net, batch_dims=batch_dims, end=-1.0)
    train(net, batch_dims=batch_dims, times=5)
    train(net, batch_dims=batch_dims, times=9)
    train(net, batch_dims=batch_dims, rtol=1e-3, atol=1e-7)
    train(net, batch_dims=batch_dims, max_steps=500)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(0.5)
    train(net, batch_dims=batch_dims)
    train(Kept(1), batch_dims=batch_dims)
    assert graphs() == FIELD + FORWARD + BACKWARD


class Sized(Net):
    pass


@pytest.mark.parametrize("batch_dims", [pytest.param(0, marks=pytest.mark.long), 1])
def test_batch_sizes(batch_dims: int) -> None:
    """The second size compiles for all; only a batch of one is different again."""
    for batch, made in ((4, 1), (5, 2), (7, 2), (3, 2), (1, 3), (8, 3)):
        train(Sized(), batch, batch_dims=batch_dims)
        assert graphs() <= made * (FIELD + FORWARD + BACKWARD), batch


def test_a_lambda_made_anew() -> None:
    def solve(rate: Tensor) -> None:
        train(lambda t, y: -rate * y)

    solve(torch.tensor(1.0, dtype=torch.float64))
    made = graphs()
    for value in (2.0, 3.0):
        solve(torch.tensor(value, dtype=torch.float64))
    assert graphs() == made == FIELD + FORWARD + BACKWARD


def test_other_step_sizes() -> None:
    net = Kept(2)
    for dt in (0.1, 0.2, 0.3):
        train(net, method="rk4", controller=iso.FixedStep(dt))
    assert graphs() <= FIELD + FORWARD + BACKWARD


class Scaled(Net):
    pass


def test_python_values_that_f_reads() -> None:
    """Captured anew when they change; a number that keeps changing is no longer compiled in."""
    net = Scaled()
    for scale in (1.0, 2.0, 3.0, -0.5, 0.25):
        net.scale = scale
        train(net)
    assert graphs() <= 2 * (FIELD + FORWARD + BACKWARD)
    for training in (False, True):
        first, second = solve_both(net.train(training), draw(4, 2), (0.0, 1.0))
        assert_same(first, second)


def power(t: Tensor, y: Tensor, exponent: int) -> Tensor:
    return -(y**exponent) + y.detach()


def test_whole_numbers_in_args() -> None:
    for exponent in (1, 3, 2, 4):
        first, second = solve_both(power, draw(3, 2), (0.0, 0.5), args=(exponent,))
        assert_same(first, second)


class Exact(Net):
    pass


def test_other_settings_of_the_controller() -> None:
    for settings in ({}, {"pcoeff": 0.3}, {"dt_max": 0.1}, {"norm": "max"}):
        train(Exact(), controller=iso.PID(1e-5, 1e-5, **settings))


PROGRAM = """
import json, sys, torch, isocline as iso
from torch._dynamo.utils import counters

def f(t, y):
    return torch.sin(t) * y - y**3

y0 = torch.ones(3, 2, dtype=torch.float64, requires_grad=True)
settings = {"method": "euler", "controller": iso.FixedStep(0.5)}
iso.solve(f, y0, (0.0, 1.0), compile=True, **settings).ys[-1].sum().backward()
print(json.dumps(counters["inductor"]))
"""


@pytest.mark.long
def test_a_second_process_finds_the_compiled_code(tmp_path: Path) -> None:
    runs = []
    for _ in range(2):
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
        found = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, check=True)
        runs.append(json.loads(found.stdout))
    # Torch passes its own cache by for one of the two loops; their machine code is found all the same.
    first, second = ([run.get(f"fxgraph_cache_{kind}", 0) for kind in ("miss", "hit")] for run in runs)
    assert first[0] > 0 == first[1]
    assert second[0] == 0 < second[1] == first[0]
