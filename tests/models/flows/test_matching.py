"""Flow matching: its paths, its minimum, and the flows that it trains."""

import math
from itertools import permutations
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

import isocline as iso
from isocline.models.flows import (
    CNF,
    FFJORDField,
    LinearPath,
    Path,
    TrigonometricPath,
    flow_matching_loss,
    minibatch_optimal_transport,
)
from models.flows.fields import double, draw

PATHS: dict[str, Path] = {"linear": LinearPath(), "of width 0.2": LinearPath(0.2), "circular": TrigonometricPath()}
every_path = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)


@every_path
def test_paths_go_from_noise_to_data_at_their_velocity(path: Path) -> None:
    x0, x1 = draw(5, 3, seed=0), draw(5, 3, seed=1)
    zero, one = (torch.tensor(t, dtype=torch.float64) for t in (0.0, 1.0))
    torch.testing.assert_close(path.at(zero, x0, x1)[0], x0)
    end = x1 + (0.2 * x0 if path == LinearPath(0.2) else 0)
    torch.testing.assert_close(path.at(one, x0, x1)[0], end)
    t, eps = torch.rand(5, 1, dtype=torch.float64), 1e-5
    difference = path.at(t + eps, x0, x1)[0] - path.at(t - eps, x0, x1)[0]
    torch.testing.assert_close(path.at(t, x0, x1)[1], difference / (2 * eps), rtol=1e-8, atol=1e-8)


@every_path
def test_the_minimum_is_the_mean_velocity(path: Path) -> None:
    """For data N(m, s^2) all is normal: the best field is linear in x, and the flow ends at the data's distribution."""
    m, s = torch.tensor([1.0, -2.0], dtype=torch.float64), 0.5

    def mean_velocity(t: Tensor, x: Tensor) -> Tensor:
        # x = a z + b (m + s e), its velocity a' z + b' (m + s e): normal together.
        zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
        (a, da), (b, db) = path.at(t, one, zero), path.at(t, zero, one)
        slope = (a * da + b * db * s**2) / (a**2 + b**2 * s**2)
        return db * m + slope * (x - b * m)

    width = math.hypot(s, 0.2) if path == LinearPath(0.2) else s
    flow = CNF(mean_velocity, 2, rtol=1e-8, atol=1e-8).double()
    exact = torch.distributions.Independent(torch.distributions.Normal(m, torch.full((2,), width).double()), 1)
    x = draw(6, 2, seed=0)
    torch.testing.assert_close(flow.log_prob(x), exact.log_prob(x), rtol=1e-6, atol=1e-6)

    data = m + s * draw(100_000, 2, seed=1)
    losses = []
    for shift in (0.0, 0.1, -0.1):
        shifted = lambda t, x, shift=shift: mean_velocity(t, x) + shift  # noqa: E731
        losses.append(flow_matching_loss(shifted, data, path=path, generator=Generator().manual_seed(0)).item())
    # A constant error adds its square, 0.01 in each of two components.
    assert losses[1] + losses[2] - 2 * losses[0] == pytest.approx(0.04, abs=1e-8)
    assert abs(losses[1] - losses[2]) < 0.01


@pytest.mark.parametrize("pairing", [None, minibatch_optimal_transport])
def test_a_flow_trained_by_matching(pairing: Any) -> None:
    torch.manual_seed(0)
    field = FFJORDField(2, (32, 32))
    optimiser = torch.optim.Adam(field.parameters(), lr=1e-2)
    centres = torch.tensor([[2.0, 0.0], [-2.0, 0.0]])

    def data(n: int) -> Tensor:
        return centres[torch.randint(2, (n,))] + 0.5 * torch.randn(n, 2)

    for _ in range(150):
        optimiser.zero_grad()
        flow_matching_loss(field, data(128), pairing=pairing).backward()
        optimiser.step()
    flow = iso.CNF(field, 2, rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        entropy = math.log(2) + 1 + math.log(2 * math.pi * 0.25)
        assert -flow.log_prob(data(1000)).mean().item() == pytest.approx(entropy, abs=0.3)
        samples = flow.sample((1000,))
    assert (samples[:, 0] > 0).float().mean().item() == pytest.approx(0.5, abs=0.1)
    assert samples[:, 0].abs().mean().item() == pytest.approx(2.0, abs=0.2)


def test_the_best_pairs() -> None:
    x0, x1 = draw(6, 2, 1, seed=0), draw(6, 2, 1, seed=1)
    found = minibatch_optimal_transport(x0, x1)
    costs = [(x0[list(order)] - x1).square().sum().item() for order in permutations(range(6))]
    assert (found - x1).square().sum().item() == pytest.approx(min(costs), rel=1e-12)
    assert torch.equal(found.flatten(1).sort(0).values, x0.flatten(1).sort(0).values)


def test_best_pairs_cross_less() -> None:
    """The mean velocity of paired paths varies less around its mean, so the loss at its best is smaller."""
    field = lambda t, x: torch.zeros_like(x)  # noqa: E731
    x1 = draw(256, 2, seed=5)
    losses = [
        flow_matching_loss(field, x1, pairing=pairing, generator=Generator().manual_seed(0)).item()
        for pairing in (None, minibatch_optimal_transport)
    ]
    assert losses[1] < 0.1 * losses[0]


def test_contexts_noise_and_shapes() -> None:
    field = double(lambda: FFJORDField(2, (8,), context=3))
    x1, x0, context = draw(8, 2, seed=0), draw(8, 2, seed=1), draw(8, 3, seed=2)
    loss = flow_matching_loss(field, x1, context, x0=x0)
    assert loss.shape == ()
    loss.backward()
    images = draw(4, 1, 3, 3, seed=0)
    seen = []
    flow_matching_loss(lambda t, x: seen.append((t.shape, x.shape)) or x, images)
    assert seen == [((4, 1, 1, 1), (4, 1, 3, 3))]
    one, same, other = (
        flow_matching_loss(lambda t, x: x, x1, generator=Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert one == same != other


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x1": torch.zeros(3)}, r"x1 must be data of shape \(B, \*event\)"),
        ({"x1": torch.zeros(3, 2), "x0": torch.zeros(4, 2)}, r"one shape, got \(4, 2\) and \(3, 2\)"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        flow_matching_loss(lambda t, x: x, **arguments)


def test_widths_are_checked() -> None:
    with pytest.raises(ValueError, match="sigma must be"):
        LinearPath(1.0)


def test_without_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "scipy.optimize", None)
    with pytest.raises(ImportError, match=r"isocline\[scipy\]"):
        minibatch_optimal_transport(torch.zeros(2, 1), torch.zeros(2, 1))
