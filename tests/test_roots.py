"""Bracketed roots, one a lane."""

import torch
from torch import Tensor

from isocline.roots import find_roots

TOLERANCE = 1e-14


def solve(function: object, a: Tensor, b: Tensor) -> tuple[Tensor, int]:
    calls = []

    def counted(x: Tensor) -> Tensor:
        calls.append(x)
        value: Tensor = function(x)  # type: ignore[operator]
        return value

    root = find_roots(counted, a, b, function(a), function(b), torch.full_like(a, TOLERANCE))  # type: ignore[operator]
    return root, len(calls)


def test_roots_of_many_kinds_at_once() -> None:
    """Smooth, steep, flat, with a jump, from above and below; each to the tolerance, on the far side."""
    a, b = torch.zeros(6, dtype=torch.float64), torch.tensor([2, 2, 2, 2, 2, 0.7], dtype=torch.float64)

    def function(x: Tensor) -> Tensor:
        return torch.stack(
            [
                x[0] ** 2 - 2,
                torch.expm1(20 * (x[1] - 1.3)),
                (x[2] - 0.7) ** 9,
                torch.where(x[3] < 1.1, -1.0, 5.0),
                1 - x[4] ** 3,
                torch.cos(x[5]) - x[5] - 0.1,
            ]
        )

    roots, calls = solve(function, a, b)
    expected = torch.tensor([2**0.5, 1.3, 0.7, 1.1, 1.0, 0.6], dtype=torch.float64)
    # The flat one is lost in rounding near its root; its sign is right nevertheless.
    assert (roots - expected)[:5].abs().max() < 4 * TOLERANCE
    assert (function(roots).sign() == function(b).sign()).all()
    assert calls <= 50  # bisection needs 48


def test_smooth_functions_take_few_evaluations() -> None:
    c = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    roots, calls = solve(lambda x: torch.tanh(3 * (x - c)), torch.zeros_like(c), torch.ones_like(c))
    torch.testing.assert_close(roots, c, rtol=0, atol=2 * TOLERANCE)
    assert calls < 20


def test_lanes_without_a_bracket_are_left_alone() -> None:
    a, b = torch.zeros(2, dtype=torch.float64), torch.tensor([1.0, 0.0], dtype=torch.float64)
    roots, _ = solve(lambda x: x - 0.3, a, b)
    assert abs(roots[0] - 0.3) < 2 * TOLERANCE
    assert roots[1] == 0
