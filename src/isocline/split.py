"""Fields in two parts, for methods that treat one explicitly and the other implicitly."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from isocline.tree import Tree, align, map_leaves


@dataclass(frozen=True)
class Split:
    r"""A vector field ``f = explicit + implicit``, for methods that treat the parts differently (IMEX).

    ``kencarp4`` evaluates the first part explicitly and solves equations with the second only: cheaper where the first
    is expensive and not stiff (advection, reactions) and the second stiff and simple (diffusion, damping). All other
    methods use the sum. An evaluation of either part counts as one evaluation.

    Args:
        explicit: the part that is not stiff, ``(t, y, *args) -> dy``.
        implicit: the stiff part.

    References:
        Kennedy & Carpenter 2003, Appl. Numer. Math. 44, doi:10.1016/S0168-9274(02)00138-1.

    Example:
        >>> import isocline as iso, torch
        >>> f = iso.Split(lambda t, y: torch.cos(t).expand_as(y), lambda t, y: -1000.0 * y)
        >>> sol = iso.solve(f, torch.ones(1, dtype=torch.float64), (0.0, 1.0), method="kencarp4")
        >>> round(sol.ys[-1].item(), 6)  # near cos(1) / 1000
        0.000541
    """

    explicit: Callable[..., Tree]
    implicit: Callable[..., Tree]

    def __post_init__(self) -> None:
        """Check the parts."""
        for part in (self.explicit, self.implicit):
            if not callable(part):
                raise TypeError(f"Split needs two functions f(t, y, *args), got {part!r:.60}")

    def __call__(self, *args: Any) -> Tree:
        """Return the sum of the parts."""
        first, second = self.explicit(*args), self.implicit(*args)
        others = iter(align(first, second))
        return map_leaves(lambda x: x + next(others), first)
