"""Operations that are better written out in a compiled loop: the compiler then fuses them with their neighbours."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten

LARGEST, TINY, THIN = 2**14, 2**11, 2**20
"""Most multiplications of a small product, which costs less than calling a library; of one for which that holds without
vectors, too; and of one with an inner or outer size up to ``UNROLLED``, which moves more numbers than it computes."""

UNROLLED, VECTOR = 8, 16
"""Sums over so few terms are unrolled by the compiler; and so many numbers are computed at once."""


def product(a: Tensor, b: Tensor) -> Any:
    """Return a (M, K) b (K, N), if it is small; else NotImplemented leaves it to the library."""
    if not _is_small(a, b):
        return NotImplemented
    return (_once(a).unsqueeze(1) * b.t().unsqueeze(0)).sum(dim=2)


def product_with_bias(bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Any:
    """Return the product plus a bias."""
    return bias + product(a, b) if beta == alpha == 1 and _is_small(a, b) else NotImplemented


def tanh(x: Tensor) -> Any:
    """Return tanh in float32 as a quotient of polynomials, to a few units of rounding: the library's costs far more.

    Minimax coefficients of Eigen's ``generic_fast_tanh_float``.
    """
    if x.dtype != torch.float32:
        return NotImplemented
    bounded = x.clamp(-7.90531110763549805, 7.90531110763549805)
    square = bounded * bounded
    return bounded * _polynomial(square, NUMERATOR) / _polynomial(square, DENOMINATOR)


NUMERATOR = (
    *(-2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08),
    *(1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03),
)
DENOMINATOR = 1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03
"""Coefficients of x^2, the highest power first."""

CHEAPER: dict[Any, Callable[..., Any]] = {
    aten.mm.default: product,
    aten.addmm.default: product_with_bias,
    aten.tanh.default: tanh,
}
"""By the operation that they stand for."""


def _polynomial(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    first, second, *rest = coefficients
    value = x * first + second
    for c in rest:
        value = value * x + c
    return value


def _once(a: Tensor) -> Tensor:
    """Return a, so that the compiler stores it: it would compute it anew for each column of the product."""
    return a.clone(memory_format=torch.contiguous_format).as_strided(a.shape, (a.shape[1], 1))


def _is_small(a: Tensor, b: Tensor) -> bool:
    """Whether a product has few multiplications, in an order that vectorises; sizes that vary are not known to."""
    sizes = (*a.shape, b.shape[1])
    if not all(isinstance(size, int) for size in sizes):
        return False
    m, k, n = sizes
    by_rows = a.stride(1) == b.stride(0) == 1
    by_columns = b.stride(1) == 1 and n >= VECTOR
    most = THIN if min(k, n) <= UNROLLED else LARGEST
    return bool(m * k * n <= (most if k <= UNROLLED or by_rows or by_columns else TINY))
