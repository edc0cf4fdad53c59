"""What stands for operations in compiled loops."""

import pytest
import torch

from isocline.compiled.cheaper import CHEAPER, product, product_with_bias, tanh

from .problems import draw


def test_tanh_is_right_to_some_units_of_rounding() -> None:
    x = torch.cat([torch.logspace(-30, 1.5, 4001), torch.linspace(0, 12, 4001)])
    x = torch.cat([x, -x])
    exact = torch.tanh(x.double())
    error = ((tanh(x).double() - exact) / exact.abs().clamp(min=1e-38)).abs()
    assert error.max() <= 8 * torch.finfo(torch.float32).eps


def test_tanh_at_the_edges() -> None:
    x = torch.tensor([0.0, float("inf"), -float("inf"), float("nan")])
    torch.testing.assert_close(tanh(x), torch.tanh(x), equal_nan=True)


def test_tanh_in_float64_is_left_alone() -> None:
    assert tanh(draw(3)) is NotImplemented


@pytest.mark.parametrize("sizes", [(1, 50, 50), (128, 2, 64), (128, 64, 2), (2, 128, 64), (5, 1, 7), (64, 50, 2)])
@pytest.mark.parametrize("transposed", [False, True])
def test_small_products(sizes: tuple[int, int, int], transposed: bool) -> None:
    m, k, n = sizes
    a, b, bias = draw(m, k), draw(n, k).t() if transposed else draw(k, n), draw(n)
    found = product(a, b)
    if found is NotImplemented:
        assert not transposed
        assert m * k * n > 2**11
        assert n < 16
        return
    torch.testing.assert_close(found, a @ b)
    torch.testing.assert_close(product_with_bias(bias, a, b), torch.addmm(bias, a, b))


def test_other_products_are_left_to_the_library() -> None:
    a, b, bias = draw(128, 64), draw(64, 64), draw(64)
    assert product(a, b) is NotImplemented
    assert product_with_bias(bias, a, b) is NotImplemented
    assert product_with_bias(bias, a[:1], b, beta=0.5) is NotImplemented
    assert product_with_bias(bias, a[:1], b, alpha=2) is NotImplemented


def test_they_stand_for_operations_that_exist() -> None:
    assert {str(operation) for operation in CHEAPER} == {"aten.mm.default", "aten.addmm.default", "aten.tanh.default"}
