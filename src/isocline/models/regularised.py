"""Fields that integrate what makes them hard to solve."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, nn

from isocline.checks import check_whole
from isocline.layout import make_layout
from isocline.per_lane import PerLane
from isocline.quadrature import Quadrature
from isocline.tree import Tree, align, leaves, map_leaves

OfState = Callable[[Tensor, Tree], Tree]
"""A function of time and state that returns the structure of the state."""


class Regularised(nn.Module):
    r"""A field together with integrals along its solution that say how hard it is to solve, one a sample.

    - ``kinetic``: :math:`\int |f|^2 dt`, kinetic energy: straight paths at an even speed have the least.
    - ``jacobian``: :math:`\int |\epsilon^T \partial f / \partial y|^2 dt`, for signs epsilon drawn once a solve: on
      average the integral of the Jacobian's squared Frobenius norm. It costs one vector-Jacobian product.
    - ``derivative=K``: :math:`\int |d^K y / dt^K|^2 dt` along the solution, which a method of order about K feels. Its
      cost grows like 2^K; K = 1 is the kinetic energy.

    Norms are sums over all numbers of a sample. The integrals are ``Quadrature``, so the steps are those of the field
    alone. Any method and gradient will do. As a layer: ``NeuralODE(Regularised(field, kinetic=True))`` returns
    ``(y, penalties)``, and ``layer.field = layer.field.field`` makes it a plain one when training is over.

    Args:
        field: ``field(t, y, *args) -> dy``.
        kinetic: whether to integrate the kinetic energy.
        jacobian: whether to integrate the estimate of the Jacobian's norm. (If f couples samples, it is the norm of all
            rows in the sample's columns.)
        derivative: K, or None.

    References:
        Finlay, Jacobsen, Nurbekyan & Oberman 2020, arXiv:2002.02798; Kelly, Bettencourt, Johnson & Duvenaud 2020,
        arXiv:2007.04504 (K > 1); Hutchinson 1990, doi:10.1080/03610919008812866 (epsilon).

    Example:
        >>> import isocline as iso, torch
        >>> net = torch.nn.Linear(2, 2)
        >>> f = iso.Regularised(lambda t, y: net(y), kinetic=True, jacobian=True)
        >>> y0, args = f.start(torch.randn(8, 2))
        >>> ys, penalties = iso.solve(f, y0, (0.0, 1.0), args=args).ys
        >>> ys.shape, penalties["kinetic"].shape
        (torch.Size([2, 8, 2]), torch.Size([2, 8]))
        >>> y, penalties = iso.NeuralODE(f)(torch.randn(8, 2))
        >>> loss = y.square().mean() + 0.01 * penalties["kinetic"].mean() + 0.01 * penalties["jacobian"].mean()
        >>> loss.backward()
    """

    def __init__(
        self,
        field: Callable[..., Tree],
        *,
        kinetic: bool = False,
        jacobian: bool = False,
        derivative: int | None = None,
    ) -> None:
        """Choose the penalties."""
        super().__init__()
        if derivative is not None:
            check_whole("derivative", derivative, 1)
        if not (kinetic or jacobian or derivative):
            raise ValueError("Regularised needs something to integrate: kinetic=True, jacobian=True or derivative=2")
        self.field = field
        self.kinetic = kinetic
        self.jacobian = jacobian
        self.derivative = derivative

    def start(
        self, y0: Tree, *args: Any, batch_dims: int = 1, generator: Generator | None = None
    ) -> tuple[Tree, tuple[Any, ...]]:
        """Return the initial state and the arguments for one solve: ``solve(f, state, ts, args=args)``.

        Args:
            y0: the field's initial state.
            args: its further arguments.
            batch_dims: how many leading dimensions count samples, at least those of the solve; 0 for a single sample.
            generator: source of the signs; torch's own if None.

        Returns:
            ``(y0, {name: zeros of the batch's shape})`` and ``(signs in y0's structure or None, *args)``.
        """
        layout = make_layout(y0, batch_dims)
        zeros = torch.zeros(layout.batch_shape, dtype=layout.precision, device=layout.device)
        chosen = {"kinetic": self.kinetic, "jacobian": self.jacobian, "derivative": self.derivative}
        totals = {name: Quadrature(zeros) for name, wanted in chosen.items() if wanted}
        signs = map_leaves(lambda y: PerLane(_signs(y, generator)), y0) if self.jacobian else None
        return (y0, totals), (signs, *args)

    def forward(self, t: Tensor, state: tuple[Tree, dict[str, Tensor]], signs: Tree, *args: Any) -> tuple[Tree, Tree]:
        """Return the field and what it adds to each integral."""
        y, totals = state

        def f(t: Tensor, y: Tree) -> Tree:
            return _like(y, self.field(t, y, *args))

        sources: dict[str, Tree] = {}
        if self.jacobian:
            # Functional transforms leave no leaves of their own in the graph, and may be transformed themselves.
            dy, pull = _vjp(lambda y: f(t, y), y)
            (sources["jacobian"],) = pull(signs)
        else:
            dy = f(t, y)
        sources["kinetic"] = dy
        if self.derivative:
            sources["derivative"] = _along(f, self.derivative - 1)(t, y)
        return dy, {name: _square(sources[name], total.shape) for name, total in totals.items()}

    def extra_repr(self) -> str:
        """Settings for printing."""
        return f"kinetic={self.kinetic}, jacobian={self.jacobian}, derivative={self.derivative}"


def _along(f: OfState, times: int) -> OfState:
    """Return the derivative of f(t, y(t)) with respect to t, so many times, along solutions of y' = f."""
    if not times:
        return f
    before = _along(f, times - 1)

    def derivative(t: Tensor, y: Tree) -> Tree:
        # A pullback is linear; pulled back itself it pushes forward. Not all operations have a forward mode.
        slope, pull = _vjp(before, t, y)
        _, push = _vjp(pull, map_leaves(torch.zeros_like, slope))
        return push((torch.ones_like(t), f(t, y)))[0]

    return derivative


def _vjp(f: Callable[..., Tree], *at: Tree) -> tuple[Tree, Callable[[Tree], tuple[Tree, ...]]]:
    """Return what f gives, and its pullback."""
    return torch.func.vjp(f, *at)  # type: ignore[return-value]


def _signs(y: Tensor, generator: Generator | None) -> Tensor:
    """Return 1 and -1 at random: of all independent numbers of variance 1 their estimate varies least."""
    return torch.randint(0, 2, y.shape, generator=generator, device=y.device).to(y.dtype) * 2 - 1


def _square(tree: Tree, batch_shape: torch.Size) -> Tensor:
    """Return the squared norm of each sample."""
    rows = torch.cat([x.reshape(*batch_shape, -1) for x in leaves(tree)], dim=-1)
    return (rows * rows.conj()).real.sum(-1)


def _like(y: Tree, dy: Tree) -> Tree:
    """Return what f gave in the very structure of y, so that one can be the tangent of the other."""
    parts = iter(align(y, dy))
    return map_leaves(lambda _: next(parts), y)
