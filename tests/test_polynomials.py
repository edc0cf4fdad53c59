"""Polynomials on nodes of any spacing, against NumPy's."""

import numpy as np
import pytest
import torch

from isocline.polynomials import chebyshev, evaluate, gauss, newton, through_chebyshev

F64 = torch.float64


def nodes_and_polynomials(count: int, lanes: int = 3) -> tuple[torch.Tensor, list[np.polynomial.Polynomial]]:
    generator = np.random.default_rng(0)
    nodes = -np.cumsum(generator.uniform(0.1, 0.4, (lanes, count)), axis=1)
    return torch.tensor(nodes), [np.polynomial.Polynomial(generator.normal(size=count)) for _ in range(lanes)]


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_newtons_form_is_the_polynomial_through_the_first_values(count: int) -> None:
    nodes, polynomials = nodes_and_polynomials(count)
    # Further nodes that are not valid, equal to others: nothing may come of them.
    nodes = torch.cat([nodes, nodes[:, :1].expand(-1, 3)], dim=1)
    valid = torch.arange(count + 3).expand(len(nodes), -1) < count
    values = torch.stack([torch.tensor(p(x.numpy())) for p, x in zip(polynomials, nodes, strict=True)])
    form = newton(nodes, valid)
    points = torch.tensor([-1.3, 0.0, 0.7], dtype=F64)
    weights = form.weights(form.basis(points)[:, :, :-1] * valid.unsqueeze(1))
    assert weights.isfinite().all()
    found = (weights @ values.unsqueeze(2)).squeeze(2)
    expected = torch.stack([torch.tensor(p(points.numpy())) for p in polynomials])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("count", [1, 4, 7])
def test_gauss_is_exact_to_its_degree_and_no_further(count: int) -> None:
    points, weights = map(np.array, gauss(count))
    for degree in range(2 * count):
        assert (weights @ points**degree).item() == pytest.approx(1 / (degree + 1), abs=1e-15)
    assert abs(weights @ points ** (2 * count) - 1 / (2 * count + 1)) > 1e-9


@pytest.mark.parametrize("count", [2, 6, 13])
@pytest.mark.parametrize("integrated", [False, True])
def test_values_at_chebyshevs_points_give_the_polynomial_or_its_integral(count: int, integrated: bool) -> None:
    p = np.polynomial.Polynomial(np.random.default_rng(1).normal(size=count))
    p = p if integrated else p - p(0.0)
    points = chebyshev(count)
    values = torch.tensor(p(np.array(points if integrated else points[:-1])))
    theta = torch.tensor([0.0, 0.1, 0.5, 0.97, 1.0], dtype=F64)
    weights = evaluate(through_chebyshev(count, integrated), theta)
    assert (weights[0] == 0).all()
    expected = torch.tensor((p.integ() if integrated else p)(theta.numpy()))
    torch.testing.assert_close(weights @ values, expected, rtol=1e-12, atol=1e-12)
