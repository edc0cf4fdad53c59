"""Traces of Jacobians: exact ones against each other, estimates against the exact ones."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import isocline as iso
from isocline.models.flows import (
    ExactTrace,
    FFJORDField,
    HamiltonianField,
    Hutchinson,
    HutchPlusPlus,
    PlanarField,
    Trace,
    conv3x3,
    trace_of,
)
from isocline.models.flows.trace import sum_along
from models.flows.fields import FIELDS, double, draw

T = torch.tensor(0.3, dtype=torch.float64)

ESTIMATES: dict[str, Trace] = {
    "rademacher": Hutchinson(),
    "gaussian": Hutchinson("gaussian"),
    "5 probes": Hutchinson(probes=5),
    "Hutch++": HutchPlusPlus(),
    "Hutch++ of 2 and 3": HutchPlusPlus(sketch=2, probes=3),
}
every_estimate = pytest.mark.parametrize("trace", ESTIMATES.values(), ids=ESTIMATES)


def bent(n: int) -> Callable[[Tensor], Tensor]:
    first, second = draw(n, n, seed=0), draw(n, n, seed=1)
    return lambda z: torch.tanh(z @ first) @ second


def by_jacobians(f: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Row by row, from whole Jacobians."""
    rows = [torch.func.jacrev(lambda row: f(row.unsqueeze(0)).flatten())(row) for row in z]
    return torch.stack([row.flatten(1).trace() for row in rows])


@pytest.mark.parametrize("name", FIELDS)
def test_the_exact_trace(name: str) -> None:
    field, z = FIELDS[name](), draw(7, 2, seed=2)
    found = trace_of(lambda z: field(T, z), z)
    torch.testing.assert_close(found, by_jacobians(lambda z: field(T, z), z), rtol=1e-12, atol=1e-12)


def test_the_exact_trace_of_a_field_on_images() -> None:
    field = double(lambda: FFJORDField(2, (4,), layer=conv3x3))
    z = draw(3, 2, 3, 4, seed=2)
    found = trace_of(lambda z: field(T, z), z)
    torch.testing.assert_close(found, by_jacobians(lambda z: field(T, z), z), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dim", [1, 2, 5])
@pytest.mark.parametrize("context", [0, 3])
def test_the_closed_form_of_the_planar_field(dim: int, context: int) -> None:
    field = double(lambda: PlanarField(dim, units=9, context=context))
    z, extra = draw(7, dim, seed=2), (draw(7, context, seed=3),) if context else ()
    dz, trace = field.with_divergence(T, z, *extra)
    torch.testing.assert_close(dz, field(T, z, *extra), rtol=1e-12, atol=0)
    torch.testing.assert_close(trace, trace_of(lambda z: field(T, z, *extra), z), rtol=1e-12, atol=1e-12)


def test_a_hamiltonian_field_has_a_trace_of_exactly_zero() -> None:
    field = double(lambda: HamiltonianField(FFJORDField(2, (16,)), FFJORDField(2, (16,))))
    z, zeros = draw(50, 4, seed=2), torch.zeros(50, dtype=torch.float64)
    assert torch.equal(field.with_divergence(T, z)[1], zeros)
    assert torch.equal(trace_of(lambda z: field(T, z), z), zeros)
    assert field(T, z).abs().min() > 1e-6


@every_estimate
def test_estimates_are_unbiased(trace: Trace) -> None:
    f, count = bent(4), 40_000
    z = draw(1, 4, seed=2)
    samples = trace_of(f, z.expand(count, 4), trace, torch.Generator().manual_seed(0))
    spread = samples.std() / count**0.5
    exact = trace_of(f, z).item()
    assert spread < 0.05 * abs(exact)
    assert abs(samples.mean() - exact) < 4 * spread
    assert len(samples.unique()) > 2  # drawn for each sample


@pytest.mark.parametrize("probes", [1, 4])
def test_the_variance_of_hutchinsons_estimate(probes: int) -> None:
    a, count = draw(3, 3, seed=0), 100_000
    z = torch.zeros(count, 3, dtype=torch.float64)
    both = (a + a.mT) / 2
    off_diagonal = both.square().sum() - both.diagonal().square().sum()
    for noise, expected in {"rademacher": 2 * off_diagonal, "gaussian": 2 * both.square().sum()}.items():
        found = trace_of(lambda z: z @ a, z, Hutchinson(noise, probes), torch.Generator().manual_seed(0)).var()  # type: ignore[arg-type]
        assert found.item() == pytest.approx(expected.item() / probes, rel=0.05)


def test_hutch_plus_plus_is_exact_in_its_subspace() -> None:
    z = draw(20, 6, seed=2)
    u, w = draw(2, 6, seed=0), draw(2, 6, seed=1)
    low_rank = lambda z: torch.tanh(z @ w.mT) @ u  # noqa: E731
    found = trace_of(low_rank, z, HutchPlusPlus(sketch=2, probes=1))
    torch.testing.assert_close(found, trace_of(low_rank, z), rtol=1e-9, atol=1e-9)
    f = bent(6)
    torch.testing.assert_close(trace_of(f, z, HutchPlusPlus(sketch=6)), trace_of(f, z), rtol=1e-9, atol=1e-9)


def test_hutch_plus_plus_varies_less_where_few_directions_matter() -> None:
    u, w = draw(1, 20, seed=0), draw(1, 20, seed=1)
    f = lambda z: 3 * torch.tanh(z @ w.mT) @ u + 0.1 * torch.sin(z @ bent_matrix)  # noqa: E731
    bent_matrix, z = draw(20, 20, seed=3), draw(2000, 20, seed=2)
    exact = trace_of(f, z)
    errors = {
        name: (trace_of(f, z, trace) - exact).square().mean()
        for name, trace in {"Hutchinson": Hutchinson(probes=2), "Hutch++": HutchPlusPlus(1, 1)}.items()
    }
    assert errors["Hutch++"] < 0.1 * errors["Hutchinson"]


@every_estimate
def test_gradients_are_those_of_the_estimate(trace: Trace) -> None:
    """The vectors are drawn once, so finite differences of a seeded estimate are its gradient."""
    weight, z = draw(3, 3, seed=0).requires_grad_(), draw(4, 3, seed=1)
    vectors = trace.vectors(lambda z: torch.tanh(z @ weight), z, torch.Generator().manual_seed(0))

    def estimate(weight: Tensor) -> Tensor:
        _, pull = torch.func.vjp(lambda z: torch.tanh(z @ weight), z)
        return sum_along(pull, vectors).sum()

    assert not vectors.requires_grad
    assert torch.autograd.gradcheck(estimate, (weight,))


def test_a_jacobian_of_zeros() -> None:
    layer = nn.Linear(3, 3, dtype=torch.float64)
    nn.init.zeros_(layer.weight)
    z = draw(4, 3, seed=0)
    for trace in (ExactTrace(), *ESTIMATES.values()):
        assert trace_of(layer, z, trace).abs().max() == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Hutchinson(probes=0), "probes must be a whole number >= 1"),
        (lambda: Hutchinson("uniform"), "noise must be"),  # type: ignore[arg-type]
        (lambda: HutchPlusPlus(sketch=0), "sketch must be"),
        (lambda: HutchPlusPlus(probes=True), "probes must be"),
        (
            lambda: trace_of(torch.sin, torch.zeros(1, 2), HutchPlusPlus(sketch=3)),
            r"sketch=3 is more than the 2 numbers",
        ),
    ],
)
def test_settings_are_checked(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_traces_compare_by_value() -> None:
    assert iso.Hutchinson() == Hutchinson("rademacher", 1)
    assert ExactTrace() != Hutchinson()
