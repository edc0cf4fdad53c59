"""Roots of continuous functions, one a lane, between two points where the signs differ."""

from collections.abc import Callable
from math import ceil, log2

import torch
from torch import Tensor

KAPPA = 0.2
"""How far an estimate is moved towards the middle, relative to the square of the bracket; as in the paper."""


def find_roots(
    function: Callable[[Tensor], Tensor], a: Tensor, b: Tensor, fa: Tensor, fb: Tensor, tolerance: Tensor
) -> Tensor:
    """Return, for each lane, the end of a bracket no wider than the tolerance that lies on b's side of the root.

    The ITP method: never more than one evaluation beyond bisection's number, and superlinear where f is smooth. A lane
    that is to be left alone has a == b.

    Args:
        function: one value for each lane's point, (L,) -> (L,).
        a: one end of each bracket, (L,).
        b: the other end, a <= b.
        fa: what stands for the values at a; their signs differ from those at b (zero counts as a's side).
        fb: the values at b.
        tolerance: width to reach, (L,), positive.

    References:
        Oliveira & Takahashi 2020, ACM Trans. Math. Softw. 47, doi:10.1145/3423597.
    """
    side = fb.sign()
    fa, fb = fa * side, fb * side
    width = (b - a) / tolerance
    most = ceil(log2(max(float(width.max()), 2.0))) + 1
    kappa = KAPPA / torch.where(a == b, 1.0, b - a)
    for k in range(most):
        if not bool((b - a > tolerance).any()):
            break
        middle, half = (a + b) / 2, (b - a) / 2
        slope = fb - fa
        estimate = torch.where(slope > 0, (fb * a - fa * b) / torch.where(slope > 0, slope, 1.0), middle)
        towards = (middle - estimate).sign()
        # At least so far that an estimate that is right brings the other end close, too.
        shift = torch.maximum(kappa * (b - a).square(), tolerance / 2)
        moved = torch.where(shift <= (middle - estimate).abs(), estimate + towards * shift, middle)
        # So near the middle that bisection could still finish in the steps that are left.
        reach = (tolerance / 2 * 2.0 ** (most - k) - half).clamp(min=0)
        x = torch.where((moved - middle).abs() <= reach, moved, middle - towards * reach)
        fx = function(x) * side
        beyond = fx > 0
        active = b - a > tolerance
        b, fb = torch.where(active & beyond, x, b), torch.where(active & beyond, fx, fb)
        a, fa = torch.where(active & ~beyond, x, a), torch.where(active & ~beyond, fx, fa)
    return b
