"""A step costs as much as any other, however long the graph behind it has become."""

from time import perf_counter

import pytest
import torch
from torch import Tensor

import isocline as iso

FEW, MANY = 25, 400


def decay(t: Tensor, y: Tensor, rate: Tensor) -> Tensor:
    return -rate * y * y


def seconds_a_step(method: iso.Solver, steps: int) -> float:
    rate = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    y0 = torch.ones(2, dtype=torch.float64)
    controller = iso.FixedStep(1.0 / steps)

    def once() -> float:
        start = perf_counter()
        iso.solve(decay, y0, (0.0, 1.0), args=(rate,), method=method, controller=controller).ys.sum().backward()
        return (perf_counter() - start) / steps

    return min(once() for _ in range(3))


def jacobian(t: Tensor, y: Tensor, rate: Tensor) -> Tensor:
    return torch.diag(-2 * rate * y)


METHODS = {name: iso.METHODS[name] for name in ("tsit5", "rosenbrock23", "kvaerno3")}
METHODS["rosenbrock23, user's Jacobian"] = iso.Rosenbrock(iso.METHODS["rosenbrock23"].tableau, jacobian=jacobian)


@pytest.mark.parametrize("name", METHODS)
def test_a_step_does_not_look_at_all_the_steps_before(name: str) -> None:
    # Sixteen times as many steps: looking at all of them made a step of Rosenbrock's about ten times as long.
    assert seconds_a_step(METHODS[name], MANY) < 3 * seconds_a_step(METHODS[name], FEW)
