"""Parts of the state that are integrals: right, and without a say in the steps."""

from typing import Any

import pytest
import torch
from torch import Tensor

import isocline as iso
from isocline.gradients import GRADIENTS

HORIZON = 3.0
ANY = iso.Reversible("tsit5")
"""A method that suits every gradient method."""

ADAPTIVE = ("tsit5", "bosh3", "dop853", "adams", "kvaerno5", "rodas5p", "radau", "bdf", "auto")


def field(t: Tensor, y: Tensor) -> Tensor:
    return torch.stack([y[..., 1], torch.cos(3 * t).reshape(t.shape[:1]) - 4 * y[..., 0].sin()], dim=-1)


def with_integral(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Beside the state an integral that is hard to get right, and large."""
    y, _ = state
    dy = field(t, y)
    return dy, 1e4 * torch.sin(20 * y[..., 0]) * dy.square().sum(-1)


def starts() -> Tensor:
    return torch.tensor([[0.5, 0.0], [2.5, 0.3], [0.01, 0.0]], dtype=torch.float64)


def solves(batch_dims: int, mark: bool, **settings: Any) -> tuple[iso.Solution, iso.Solution]:
    """Return the solve of the field alone, and the one with the integral beside it."""
    y0 = starts() if batch_dims else starts()[1]
    total = torch.zeros(y0.shape[:-1], dtype=torch.float64)
    settings = {"rtol": 1e-6, "atol": 1e-8, "batch_dims": batch_dims, **settings}
    beside = iso.solve(with_integral, (y0, iso.Quadrature(total) if mark else total), (0.0, HORIZON), **settings)
    return iso.solve(field, y0, (0.0, HORIZON), **settings), beside


@pytest.mark.parametrize("batch_dims", [0, 1])
@pytest.mark.parametrize("method", ADAPTIVE)
def test_steps_are_those_of_the_other_components(method: str, batch_dims: int) -> None:
    alone, beside = solves(batch_dims, mark=True, method=method)
    assert torch.equal(alone.stats.steps, beside.stats.steps)
    assert torch.equal(alone.stats.rejected, beside.stats.rejected)
    assert (alone.ys[-1] - beside.ys[0][-1]).abs().max() < 1e-9


def test_unmarked_they_are_under_error_control() -> None:
    alone, beside = solves(0, mark=False)
    assert beside.stats.steps > 2 * alone.stats.steps


@pytest.mark.parametrize("method", ["tsit5", "adams", "rodas5p"])
def test_the_integral_converges_with_the_solution(method: str) -> None:
    def solve(t: Tensor, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"y": -state["y"], "q": state["y"].square()}

    y0 = {"q": iso.Quadrature(torch.zeros(2, dtype=torch.float64)), "y": torch.tensor([1.0, 3.0], dtype=torch.float64)}
    sol = iso.solve(solve, y0, (0.0, 1.0, 2.0), method=method, rtol=1e-9, atol=1e-9)
    exact = y0["y"].square() * (1 - torch.exp(-2 * sol.ts.unsqueeze(1))) / 2
    torch.testing.assert_close(sol.ys["q"], exact, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("gradient", GRADIENTS.values(), ids=GRADIENTS)
@pytest.mark.parametrize("batch_dims", [0, 1])
def test_gradients_of_integrals(gradient: iso.Gradient, batch_dims: int) -> None:
    k = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    y0 = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    integral = iso.Quadrature(torch.zeros(2, dtype=torch.float64))
    settings = {"rtol": 1e-9, "atol": 1e-9, "batch_dims": batch_dims, "gradient": gradient, "method": ANY}
    _, q = iso.solve(lambda t, s: (-k * s[0], s[0].square()), (y0, integral), (0.0, 1.0), **settings).ys
    found = torch.autograd.grad(q[-1].sum(), [k, y0])
    expected = torch.autograd.grad((y0.square() * (1 - torch.exp(-2 * k)) / (2 * k)).sum(), [k, y0])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("own", [{}, {"rtol": 1e-6, "atol": 1e-8}])
def test_the_adjoint_of_an_integral_has_no_say_backwards(own: dict[str, float]) -> None:
    def backward_steps(integral: bool) -> int:
        y0 = starts()[1].requires_grad_()
        zero = iso.Quadrature(torch.zeros((), dtype=torch.float64))
        settings: dict[str, Any] = {"rtol": 1e-6, "atol": 1e-8, "gradient": iso.BacksolveAdjoint(**own)}
        if integral:
            sol = iso.solve(with_integral, (y0, zero), (0.0, HORIZON), **settings)
        else:
            sol = iso.solve(field, y0, (0.0, HORIZON), **settings)
        (sol.ys[0] if integral else sol.ys)[-1].sum().backward()
        return sol.stats.backward.steps

    assert backward_steps(True) == backward_steps(False)


def test_infinite_tolerances_are_the_same() -> None:
    _, marked = solves(0, mark=True)
    inf = torch.tensor(float("inf"), dtype=torch.float64)
    y0 = starts()[1], torch.zeros((), dtype=torch.float64)
    atol = torch.full((2,), 1e-8, dtype=torch.float64), inf
    infinite = iso.solve(with_integral, y0, (0.0, HORIZON), rtol=1e-6, atol=atol)
    assert torch.equal(marked.ys[1], infinite.ys[1])
    assert marked.stats.evaluations == infinite.stats.evaluations


def test_scipy_takes_them() -> None:
    pytest.importorskip("scipy")
    _, beside = solves(0, mark=True, method=iso.SciPy("RK45"))
    _, ours = solves(0, mark=True, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(beside.ys[0], ours.ys[0], rtol=0, atol=1e-4)


def test_something_must_choose_the_steps() -> None:
    y0 = iso.Quadrature(torch.zeros(2))
    with pytest.raises(ValueError, match="all of y0 is marked"):
        iso.solve(lambda t, q: torch.ones_like(q), y0, (0.0, 1.0))
    sol = iso.solve(lambda t, q: torch.ones_like(q), y0, (0.0, 1.0), controller=iso.FixedStep(0.5))
    assert sol.ys[-1].tolist() == [1.0, 1.0]


def test_only_tensors_can_be_marked() -> None:
    with pytest.raises(TypeError, match="Quadrature needs a tensor"):
        iso.Quadrature(0.0)  # type: ignore[arg-type]
