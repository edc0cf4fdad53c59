"""Gradients by the methods for pairs (q, p), and by those whose steps can be undone."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

import isocline as iso
from isocline.gradients import GRADIENTS
from isocline.tableaus import COMPOSITIONS

from .problems import ALL_GRADIENTS, LAYOUTS, covering, draw, exact, gradients, worst

F64 = torch.float64
Pair = tuple[Tensor, Tensor]

PAIRS = {
    "leapfrog": (1 / 200, 1e-4),
    "yoshida4": (1 / 40, 1e-5),
    "yoshida6": (1 / 20, 1e-6),
    "yoshida8": (1 / 25, 3e-6),
}
"""Step size, and how well the discrete solution then stands for the exact one."""


def inputs() -> dict[str, Tensor]:
    found = {
        "q": draw(3, 2, seed=1),
        "p": draw(3, 2, seed=2),
        "k": draw(2, seed=3).abs(),
        "w": 0.3 * draw(2, 2, seed=4),
    }
    found["ts"] = torch.tensor([0.1, 0.437, 0.5, 0.871, 1.231], dtype=F64)
    return {key: x.requires_grad_() for key, x in found.items()}


def bind(x: dict[str, Tensor]) -> Any:
    def f(t: Tensor, state: Pair, k: Tensor) -> Pair:
        q, p = state
        return torch.tanh(p @ x["w"]) * (1 + 0.2 * torch.sin(3 * t)) + p, -k * torch.sin(q) + torch.cos(t) * q

    return f


def loss(x: dict[str, Tensor], **settings: Any) -> Tensor:
    ys = torch.stack(iso.solve(bind(x), (x["q"], x["p"]), x["ts"], args=(x["k"],), **settings).ys)
    return (draw(*ys.shape, seed=7) * ys).sum()


def found(**settings: Any) -> dict[str, Tensor]:
    x = inputs()
    return dict(zip(x, torch.autograd.grad(loss(x, **settings), list(x.values())), strict=True))


@pytest.fixture(scope="module")
def truth() -> dict[str, Tensor]:
    return found(method="tsit5", rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", COMPOSITIONS)
@pytest.mark.parametrize("gradient", ["direct", "checkpoint", "checkpoint-3", "reversible", "tsit5 backwards"])
@pytest.mark.parametrize("batch_dims", [0, 1])
def test_pairs(method: str, gradient: str, batch_dims: int, truth: dict[str, Tensor]) -> None:
    dt, tolerance = PAIRS[method]
    backsolve = iso.BacksolveAdjoint(method="tsit5", rtol=1e-10, atol=1e-10)
    chosen = backsolve if gradient == "tsit5 backwards" else ALL_GRADIENTS[gradient]
    error, where = worst(
        found(method=method, controller=iso.FixedStep(dt), gradient=chosen, batch_dims=batch_dims), truth
    )
    assert error < tolerance, where


@pytest.mark.parametrize("method", ["leapfrog", "yoshida6"])
@pytest.mark.parametrize("batch_dims", [0, 1])
def test_the_gradient_of_the_steps_is_direct_to_rounding(method: str, batch_dims: int) -> None:
    settings: Any = {"method": method, "controller": iso.FixedStep(1 / 11), "batch_dims": batch_dims}
    direct = found(gradient=iso.DirectAdjoint(), **settings)
    for name in ("checkpoint", "checkpoint-2", "reversible", "reversible-1"):
        error, where = worst(found(gradient=ALL_GRADIENTS[name], **settings), direct)
        assert error < 1e-11, where


@pytest.mark.parametrize("method", COMPOSITIONS)
def test_direct_is_the_gradient_of_the_discrete_solution(method: str) -> None:
    settings: Any = {"method": method, "controller": iso.FixedStep(1 / 5)}
    start = {key: x.detach() for key, x in inputs().items()}
    names = ["q", "p", "k", "w"]  # the grid hangs on the start time

    def at(*values: Tensor) -> Tensor:
        return loss({**start, **dict(zip(names, values, strict=True))}, **settings)

    values = [start[name].clone().requires_grad_() for name in names]
    assert torch.autograd.gradcheck(at, values)
    if method == "leapfrog":
        assert torch.autograd.gradgradcheck(at, values)


@pytest.mark.parametrize("method", COMPOSITIONS)
def test_their_adjoint_is_no_pair(method: str) -> None:
    with pytest.raises(ValueError, match=rf"cannot solve backwards by method '{method}'.*method='tsit5'"):
        found(method=method, controller=iso.FixedStep(0.1), gradient=iso.BacksolveAdjoint())
    with pytest.raises(ValueError, match="cannot solve backwards"):
        found(method="tsit5", gradient=iso.BacksolveAdjoint(method=method, controller=iso.FixedStep(0.1)))


REVERSIBLE = {
    "Reversible(heun)": (iso.Reversible("heun"), iso.FixedStep(1 / 40), 2e-3),
    "Reversible(rk4)": (iso.Reversible("rk4"), iso.FixedStep(1 / 25), 1e-5),
    "Reversible(tsit5)": (iso.Reversible("tsit5"), iso.PID(rtol=1e-9, atol=1e-9), 1e-6),
}


@pytest.mark.parametrize(
    ("name", "gradient", "layout"),
    covering(product(REVERSIBLE, [*GRADIENTS, "checkpoint-3"]), ["joint", "own-times", "backward"]),
)
def test_reversible_forms(name: str, gradient: str, layout: str) -> None:
    solver, controller, tolerance = REVERSIBLE[name]
    got = gradients(LAYOUTS[layout], method=solver, controller=controller, gradient=ALL_GRADIENTS[gradient])
    error, where = worst(got, exact(layout))
    assert error < tolerance, where


@pytest.mark.parametrize("layout", ["joint", "own-times"])
def test_a_reversible_form_is_differentiated_exactly(layout: str) -> None:
    settings: Any = {"method": iso.Reversible("bosh3"), "controller": iso.PID(rtol=1e-4, atol=1e-4)}
    direct = gradients(LAYOUTS[layout], gradient=iso.DirectAdjoint(), **settings)
    for name in ("checkpoint-2", "reversible", "reversible-1"):
        error, where = worst(gradients(LAYOUTS[layout], gradient=ALL_GRADIENTS[name], **settings), direct)
        assert error < 1e-10, where


def test_second_derivatives_of_a_reversible_form() -> None:
    y0, r = torch.tensor([0.2, 0.6], dtype=F64, requires_grad=True), torch.tensor(1.4, dtype=F64, requires_grad=True)
    settings: Any = {"method": iso.Reversible("bosh3"), "controller": iso.FixedStep(0.4)}

    def states(y0: Tensor, r: Tensor) -> Tensor:
        return iso.solve(lambda t, y: torch.sin(r * y + t), y0, (0.0, 0.17, 0.9), **settings).ys

    assert torch.autograd.gradcheck(states, (y0, r))
    assert torch.autograd.gradgradcheck(states, (y0, r))
