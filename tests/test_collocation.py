"""Collocation methods: orders, stability, symplecticity, gradients of the solved equations, lanes."""

from math import sqrt

import pytest
import torch
from torch import Tensor

import isocline as iso
from isocline.gradients import GRADIENTS
from problems import HOPF, LOGISTIC

F64 = torch.float64
NODES = {
    "midpoint": ((0.5,), 2),
    "gauss4": ((0.5 - sqrt(3) / 6, 0.5 + sqrt(3) / 6), 4),
    "gauss6": ((0.5 - sqrt(15) / 10, 0.5, 0.5 + sqrt(15) / 10), 6),
    "euler": ((1.0,), 1),
    "radau3": ((1 / 3, 1.0), 3),
    "radau5": ((0.4 - sqrt(6) / 10, 0.4 + sqrt(6) / 10, 1.0), 5),
    "any": ((0.2, 0.7), 2),
}
every_method = pytest.mark.parametrize(("nodes", "order"), NODES.values(), ids=NODES)


@every_method
def test_order(nodes: tuple[float, ...], order: int) -> None:
    """The one that the nodes say, and the one that is seen; with the interpolant's where that is lower."""
    method = iso.Collocation(nodes)
    assert method.order == order
    t = torch.linspace(0.0, 4.0, 8, dtype=F64)
    for problem in (LOGISTIC, HOPF):
        ends, inside = [], []
        y0 = torch.tensor(problem.y0, dtype=F64)
        for dt in (0.5, 0.25) if order > 4 else (0.2, 0.1):
            ys = iso.solve(problem.f, y0, t, method=method, controller=iso.FixedStep(dt)).ys
            error = (ys - problem.exact(t).reshape(ys.shape)).abs()
            ends.append(error[-1].max())
            inside.append(error[1:-1].max())
        assert torch.log2(ends[0] / ends[1]) > order - 0.4
        assert torch.log2(inside[0] / inside[1]) > min(order, method.dense_order + 1) - 0.7


@pytest.mark.parametrize("name", ["euler", "radau3", "radau5"])
def test_radaus_methods_damp(name: str) -> None:
    y0 = torch.tensor([2.0], dtype=F64)
    method = iso.Collocation(NODES[name][0])
    sol = iso.solve(lambda t, y: -1e8 * (y - t.cos()), y0, (0.0, 1.0), method=method, controller=iso.FixedStep(0.1))
    assert (sol.ys[-1] - torch.tensor(1.0).cos()).abs() < 1e-6


def test_gausss_methods_keep_quadratic_invariants() -> None:
    y0 = torch.tensor([1.0, 0.0], dtype=F64)
    method = iso.Collocation(NODES["gauss4"][0])
    rotate = lambda t, y: torch.stack([-y[1], y[0]]) * (1 + y[0] ** 2)  # noqa: E731
    ys = iso.solve(rotate, y0, (0.0, 20.0), method=method, controller=iso.FixedStep(0.25)).ys
    assert abs(ys[-1].norm().item() - 1) < 1e-7


@every_method
@pytest.mark.parametrize("gradient", ["direct", "checkpoint"])
def test_gradients_are_those_of_the_equations(nodes: tuple[float, ...], order: int, gradient: str) -> None:
    def end(y0: Tensor, k: Tensor, t1: Tensor) -> Tensor:
        f = lambda t, y: t.sin() * y.flip(0) - k * y**3  # noqa: E731
        method, controller = iso.Collocation(nodes), iso.FixedStep(0.25)
        return iso.solve(f, y0, (0.0, t1), method=method, controller=controller, gradient=GRADIENTS[gradient]).ys[-1]

    inputs = [torch.tensor(x, dtype=F64, requires_grad=True) for x in ([0.5, -0.8], 0.7, 0.6)]
    assert torch.autograd.gradcheck(end, inputs, rtol=1e-4)


def test_second_derivatives_raise() -> None:
    y0 = torch.ones(1, dtype=F64, requires_grad=True)
    sol = iso.solve(lambda t, y: -(y**2), y0, (0.0, 1.0), method=iso.Collocation((0.5,)), controller=iso.FixedStep(0.5))
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(sol.ys[-1], y0, create_graph=True)


def test_lanes_are_solved_as_if_alone() -> None:
    rates, ends = torch.tensor([1.0, 30.0, 5.0], dtype=F64), torch.tensor([1.0, 0.35, 0.1], dtype=F64)
    y0, method, controller = torch.ones(3, 2, dtype=F64), iso.Collocation(NODES["radau3"][0]), iso.FixedStep(0.1)

    def f(t: Tensor, y: Tensor, k: Tensor) -> Tensor:
        return -k.unsqueeze(1) * (y - t.cos())

    together = iso.solve(
        f, y0, (0.0, ends), args=(iso.PerLane(rates),), batch_dims=1, method=method, controller=controller
    )
    assert together.stats.accepted.tolist() == [10, 4, 1]
    for i in range(2):
        alone = iso.solve(
            f, y0[i : i + 1], (0.0, ends[i]), args=(rates[i : i + 1],), method=method, controller=controller
        )
        assert (alone.ys[-1, 0] - together.ys[-1, i]).abs().max() < 1e-9


def test_equations_without_a_solution_fail_the_lane() -> None:
    sol = iso.solve(
        lambda t, y: y**2 + 100,
        torch.ones(1, dtype=F64),
        (0.0, 1.0),
        method=iso.Collocation((1.0,)),
        controller=iso.FixedStep(0.5),
        throw=False,
    )
    assert sol.status == iso.Status.NON_FINITE


def test_wrong_nodes() -> None:
    for nodes in ((), (0.0, 1.0), (0.5, 0.5), (0.5, 1.1)):
        with pytest.raises(ValueError, match="distinct nodes"):
            iso.Collocation(nodes)
