"""Regularised: penalties against closed forms, their gradients against finite differences, and the layer."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import isocline as iso
from isocline.gradients import GRADIENTS

every_gradient = pytest.mark.parametrize("gradient", GRADIENTS.values(), ids=GRADIENTS)
TIGHT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-9}


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def penalties(f: iso.Regularised, y0: Any, end: float = 1.0, seed: int = 0, **settings: Any) -> dict[str, Tensor]:
    """Return the integrals at the end."""
    state, args = f.start(y0, generator=torch.Generator().manual_seed(seed))
    _, found = iso.solve(f, state, (0.0, end), args=args, **{**TIGHT, **settings}).ys
    return {name: x[-1] for name, x in found.items()}


def test_kinetic_energy_of_a_decay() -> None:
    k, y0 = 1.3, draw(4, 3, seed=0)
    found = penalties(iso.Regularised(lambda t, y: -k * y, kinetic=True), y0)
    expected = k * (1 - math.exp(-2 * k)) / 2 * y0.square().sum(1)
    torch.testing.assert_close(found, {"kinetic": expected}, rtol=1e-7, atol=0)


@pytest.mark.parametrize("batch_dims", [0, 1])
def test_jacobian_norm_of_a_linear_field(batch_dims: int) -> None:
    a, count, end = draw(3, 3, seed=1), 20_000, 0.5
    f = iso.Regularised(lambda t, y: y @ a.mT, jacobian=True)
    found = penalties(f, torch.zeros(count, 3, dtype=torch.float64), end, batch_dims=batch_dims)["jacobian"]
    samples, exact = found / end, a.square().sum()
    # Each sample is |A^T eps|^2 for signs of its own, of which there are eight.
    assert samples.unique(sorted=True).diff().gt(1e-6).sum() == 3  # four, as eps and -eps give the same
    spread = samples.std() / count**0.5
    assert spread < 0.02 * exact
    assert abs(samples.mean() - exact) < 4 * spread


def test_jacobian_norm_is_exact_where_no_columns_mix() -> None:
    rates = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    found = penalties(iso.Regularised(lambda t, y: rates * y, jacobian=True), draw(5, 3, seed=0), 2.0)
    expected = 2.0 * rates.square().sum().expand(5)
    torch.testing.assert_close(found["jacobian"], expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_derivatives_along_the_solution(order: int) -> None:
    k, end = 1.1, 0.8
    # y = y0 exp(-k t), and z' = sin(t) whose derivative comes from the time alone.
    y0 = {"y": draw(2, 1, seed=0), "z": torch.zeros(2, dtype=torch.float64)}
    f = lambda t, s: {"z": torch.sin(t) + 0 * s["z"], "y": -k * s["y"]}  # noqa: E731
    found = penalties(iso.Regularised(f, derivative=order), y0, end)["derivative"]
    exact = k ** (2 * order) * y0["y"][:, 0].square() * (1 - math.exp(-2 * k * end)) / (2 * k)
    squared = (end - math.sin(2 * end) / 2) / 2, (end + math.sin(2 * end) / 2) / 2  # of sin and cos
    torch.testing.assert_close(found, exact + squared[(order + 1) % 2], rtol=1e-6, atol=1e-8)


class Net(nn.Module):
    def __init__(self, weight: Tensor, theta: Tensor) -> None:
        super().__init__()
        self.weight, self.theta = weight, theta

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.tanh(y @ self.weight + torch.sin(t)) * self.theta.exp()


def loss(weight: Tensor, theta: Tensor, y0: Tensor, gradient: iso.Gradient | None, **settings: Any) -> Tensor:
    # The second is computed before the solve, and closed over.
    f = iso.Regularised(Net(weight, 2 * theta), kinetic=True, jacobian=True, derivative=2)
    state, args = f.start(y0, generator=torch.Generator().manual_seed(3))
    y, more = iso.solve(f, state, (0.0, 1.0), args=args, gradient=gradient, **{**TIGHT, **settings}).ys
    return y[-1].sum() + (more["kinetic"][-1] + more["jacobian"][-1].square() + 0.1 * more["derivative"][-1]).sum()


@pytest.mark.parametrize(("gradient", "batch_dims"), [(how, i % 2) for i, how in enumerate(GRADIENTS.values())])
def test_gradients_are_right(gradient: iso.Gradient, batch_dims: int) -> None:
    inputs = draw(2, 2, seed=0), 0.3 * draw(2, seed=1), draw(3, 2, seed=2)
    leaves = [x.clone().requires_grad_() for x in inputs]
    # The method suits every gradient method.
    settings = {"batch_dims": batch_dims, "method": iso.Reversible("tsit5")}
    found = torch.autograd.grad(loss(*leaves, gradient, **settings), leaves)
    directions = [draw(*x.shape, seed=10 + i) for i, x in enumerate(inputs)]
    eps = 1e-5
    with torch.no_grad():
        up, down = (
            loss(*(x + sign * eps * d for x, d in zip(inputs, directions, strict=True)), None, **settings)
            for sign in (1, -1)
        )
    expected = (up - down) / (2 * eps)
    actual = sum((g * d).sum() for g, d in zip(found, directions, strict=True))
    assert abs(actual - expected) < 2e-6 * abs(expected)


def test_second_derivatives() -> None:
    weight, theta, y0 = draw(2, 2, seed=0).requires_grad_(), 0.3 * draw(2, seed=1), draw(3, 2, seed=2)
    (g,) = torch.autograd.grad(loss(weight, theta, y0, iso.DirectAdjoint()), weight, create_graph=True)
    direction, eps = draw(2, 2, seed=5), 1e-5
    (found,) = torch.autograd.grad((g * direction).sum(), weight)
    shifted = [(weight + sign * eps * direction).detach().requires_grad_() for sign in (1, -1)]
    up, down = (torch.autograd.grad(loss(w, theta, y0, None), w)[0] for w in shifted)
    torch.testing.assert_close(found, (up - down) / (2 * eps), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch_dims", [0, 1])
def test_penalties_leave_the_steps_as_they_are(batch_dims: int) -> None:
    net = Net(5 * draw(2, 2, seed=0), draw(2, seed=1))
    y0, settings = draw(6, 2, seed=2), {"rtol": 1e-5, "atol": 1e-5, "batch_dims": batch_dims}
    plain = iso.solve(net, y0, (0.0, 3.0), **settings)
    f = iso.Regularised(net, kinetic=True, jacobian=True, derivative=3)
    state, args = f.start(y0)
    sol = iso.solve(f, state, (0.0, 3.0), args=args, **settings)
    assert torch.equal(sol.stats.steps, plain.stats.steps)
    assert sol.stats.evaluations == plain.stats.evaluations
    torch.testing.assert_close(sol.ys[0], plain.ys, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", ["rodas5p", "kvaerno5", "bdf", "radau"])
def test_with_implicit_methods(method: str) -> None:
    f = iso.Regularised(Net(draw(2, 2, seed=0), draw(2, seed=1)), kinetic=True, jacobian=True)
    y0 = draw(3, 2, seed=2)
    settings = {"rtol": 1e-7, "atol": 1e-7, "method": method, "batch_dims": 1}
    torch.testing.assert_close(penalties(f, y0, **settings), penalties(f, y0), rtol=1e-4, atol=1e-5)


def test_samples_that_end_early_take_their_signs_along() -> None:
    a, y0 = draw(3, 3, seed=1), draw(16, 3, seed=2)
    ends = torch.linspace(0.1, 4.0, 16, dtype=torch.float64)
    f = iso.Regularised(lambda t, y: torch.tanh(y @ a.mT), jacobian=True)
    state, args = f.start(y0, generator=torch.Generator().manual_seed(0))
    sol = iso.solve(f, state, (0.0, ends), args=args, batch_dims=1, **TIGHT)
    assert sol.stats.rows < 0.9 * 16 * sol.stats.evaluations
    signs = args[0].values
    for i in (0, 7, 15):
        alone = f.start(y0[i : i + 1])[0], (signs[i : i + 1],)
        one = iso.solve(f, alone[0], (0.0, float(ends[i])), args=alone[1], **TIGHT)
        torch.testing.assert_close(one.ys[1]["jacobian"][-1, 0], sol.ys[1]["jacobian"][-1, i], rtol=1e-6, atol=1e-7)


def test_structures_and_further_arguments() -> None:
    def f(t: Tensor, s: tuple[Tensor, dict[str, Tensor]], k: float) -> list[Any]:
        return [k * s[1]["v"].sum((1, 2)), {"v": -k * s[1]["v"]}]

    y0 = (torch.ones(2, dtype=torch.float64), {"v": torch.ones(2, 3, 1, dtype=torch.float64)})
    regular = iso.Regularised(f, kinetic=True, jacobian=True)
    state, args = regular.start(y0, 2.0)
    (_, more) = iso.solve(regular, state, (0.0, 1.0), args=args, **TIGHT).ys
    # |f|^2 = 4 (3 v)^2 + 3 (2 v)^2 with v = exp(-2 t)
    expected = 48 * (1 - math.exp(-4)) / 4
    assert more["kinetic"][-1].tolist() == pytest.approx([expected] * 2, rel=1e-6)
    assert more["jacobian"].shape == (2, 2)


def test_no_batch_is_one_sample() -> None:
    f = iso.Regularised(lambda t, y: -y, kinetic=True)
    state, args = f.start(torch.ones(3, dtype=torch.float64), batch_dims=0)
    sol = iso.solve(f, state, (0.0, 1.0), args=args, **TIGHT)
    assert sol.ys[1]["kinetic"].shape == (2,)
    assert sol.ys[1]["kinetic"][-1].item() == pytest.approx(3 * (1 - math.exp(-2)) / 2, rel=1e-6)


@pytest.fixture
def field() -> nn.Module:
    return Net(nn.Parameter(draw(2, 2, seed=0)), nn.Parameter(draw(2, seed=1)))


@pytest.mark.parametrize("batch_dims", [0, 1])
def test_as_a_layer(field: nn.Module, batch_dims: int) -> None:
    layer = iso.NeuralODE(iso.Regularised(field, kinetic=True, jacobian=True), batch_dims=batch_dims)
    y, more = layer(draw(4, 2, seed=2))
    assert set(more) == {"kinetic", "jacobian"}
    assert more["kinetic"].shape == more["jacobian"].shape == (4,)
    torch.testing.assert_close(y, iso.NeuralODE(field, batch_dims=batch_dims)(draw(4, 2, seed=2)))
    (more["kinetic"] + more["jacobian"]).mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
    layer.field = layer.field.field
    torch.testing.assert_close(layer(draw(4, 2, seed=2)), y)


def test_each_solve_draws_its_own_signs(field: nn.Module) -> None:
    layer = iso.NeuralODE(iso.Regularised(field, jacobian=True))
    torch.manual_seed(0)
    one, other = (layer(draw(4, 2, seed=2))[1]["jacobian"] for _ in range(2))
    torch.manual_seed(0)
    again = layer(draw(4, 2, seed=2))[1]["jacobian"]
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_a_later_solve_does_not_change_the_gradient_of_an_earlier_one(field: nn.Module) -> None:
    layer = iso.NeuralODE(iso.Regularised(field, jacobian=True), gradient=iso.RecursiveCheckpointAdjoint())

    def gradient(between: Callable[[], object]) -> Tensor:
        torch.manual_seed(0)
        cost = layer(draw(4, 2, seed=2))[1]["jacobian"].sum()
        between()
        return torch.autograd.grad(cost, field.weight)[0]

    assert torch.equal(gradient(lambda: None), gradient(lambda: layer(draw(4, 2, seed=3))))


def test_an_augmented_layer(field: nn.Module) -> None:
    layer = iso.AugmentedNeuralODE(iso.Regularised(field, kinetic=True), channels=1)
    y, more = layer(draw(4, 1, seed=2))
    assert y.shape == (4, 2)
    assert more["kinetic"].shape == (4,)


def test_training_against_the_penalty_straightens_the_path(field: nn.Module) -> None:
    layer = iso.NeuralODE(iso.Regularised(field, kinetic=True), rtol=1e-3, atol=1e-3)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.05)
    energies = []
    for _ in range(20):
        optimiser.zero_grad()
        energy = layer(draw(4, 2, seed=2))[1]["kinetic"].mean()
        energy.backward()
        optimiser.step()
        energies.append(energy.item())
    assert energies[-1] < 0.5 * energies[0]


@pytest.mark.usefixtures("graphs_only")
def test_compiled() -> None:
    field = iso.Regularised(lambda t, y: -(y**3), kinetic=True, jacobian=True)
    layer = iso.NeuralODE(field, method="bosh3", rtol=1e-6, atol=1e-6)
    results, steps = [], []
    for layer.compiled in (False, True):
        torch.manual_seed(0)
        with torch.no_grad():
            results.append(layer(draw(4, 2, seed=2)))
        steps.append(layer.stats.steps)
    assert steps[0] == steps[1]
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-8)


def test_inference_mode_and_copies(field: nn.Module) -> None:
    layer = iso.NeuralODE(iso.Regularised(field, kinetic=True, jacobian=True, derivative=2))
    with torch.inference_mode():
        y, more = layer(draw(4, 2, seed=2))
    assert y.shape == (4, 2)
    assert all(x.isfinite().all() for x in more.values())
    torch.testing.assert_close(copy.deepcopy(layer)(draw(4, 2, seed=2))[0], y)
    assert "kinetic=True, jacobian=True, derivative=2" in repr(layer)


@pytest.mark.parametrize("settings", [{}, {"derivative": 0}, {"derivative": True}])
def test_something_must_be_integrated(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"Regularised needs|derivative must be"):
        iso.Regularised(lambda t, y: y, **settings)
