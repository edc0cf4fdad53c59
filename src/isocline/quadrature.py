"""Parts of the state that are integrals along the solution."""

from dataclasses import dataclass

from torch import Tensor

from isocline.tree import Tree, describe, leaves, map_leaves


@dataclass(frozen=True)
class Quadrature:
    r"""Marks a tensor of y0 as an integral along the solution: ``solve(f, (y0, Quadrature(q0)), ts)``.

    Its derivative is integrated by the method like any other, but it is not under error control, forwards or backwards:
    the steps are those of the other tensors alone. f gets and returns plain tensors, and must not depend on this one,
    whose errors nobody watches. To have it under error control do not mark it.

    Args:
        values: the integral at the start, usually zeros.

    References:
        Hindmarsh et al. 2005, SUNDIALS, ACM Trans. Math. Softw. 31, doi:10.1145/1089014.1089020: quadrature variables.

    Example:
        >>> import isocline as iso, torch
        >>> f = lambda t, state: (-state[0], state[0].square().sum())  # and the integral of |y|^2
        >>> sol = iso.solve(f, (torch.ones(2), iso.Quadrature(torch.zeros(()))), (0.0, 1.0))
        >>> round(sol.ys[1][-1].item(), 3)  # 1 - exp(-2)
        0.865
    """

    values: Tensor

    def __post_init__(self) -> None:
        """Check the type."""
        if not isinstance(self.values, Tensor):
            raise TypeError(f"Quadrature needs a tensor, got {describe(self.values)}; such as torch.zeros(())")


def unmarked(y0: Tree) -> tuple[Tree, tuple[bool, ...]]:
    """Return the state in plain tensors, and which of its leaves were marked."""
    marks = tuple(isinstance(x, Quadrature) for x in leaves(y0))
    return map_leaves(lambda x: x.values if isinstance(x, Quadrature) else x, y0), marks
