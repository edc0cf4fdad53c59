"""An ODE as a layer."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from isocline.models.regularised import Regularised
from isocline.models.solving import Solving
from isocline.tree import Tree, map_leaves


class NeuralODE(Solving):
    """The layer ``y0 -> y(t1)`` of ``dy/dt = field(t, y)``.

    Every setting is an attribute that may be changed at any time, also after training: train accurate and run cheap, or
    the reverse.

    Args:
        field: ``field(t, y, *args) -> dy``, usually a module; its parameters are the layer's. With a ``Regularised``
            field the layer returns ``(y, penalties)``.
        ts: times, the first is the start: (T,) numbers or a tensor.
        return_all: return the states at all of ts, time axis first, instead of the last.
        settings: ``method``, ``rtol``, ``atol``, ``controller``, ``gradient``, ``batch_dims``, ``max_steps`` and
            ``compile`` as in ``solve``: attributes of the same names, but for ``compile``, which is ``compiled``,
            because modules have a method ``compile``. ``batch_dims=1`` gives every sample its own step size.

    Attributes:
        stats: counts of the last call; ``stats.backward`` is filled by its backward pass.

    References:
        Chen, Rubanova, Bettencourt & Duvenaud 2018, arXiv:1806.07366.

    Example:
        >>> import isocline as iso, torch
        >>> class Field(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.linear = torch.nn.Linear(2, 2)
        ...     def forward(self, t, y):
        ...         return torch.tanh(self.linear(y))
        >>> layer = iso.NeuralODE(Field(), method="dopri5", rtol=1e-3, atol=1e-3)
        >>> layer(torch.randn(8, 2)).shape
        torch.Size([8, 2])
        >>> layer.rtol = 1e-6
        >>> layer.stats.evaluations > 0
        True
    """

    def __init__(
        self,
        field: Callable[..., Tree],
        ts: "Tensor | Sequence[float | Tensor]" = (0.0, 1.0),
        *,
        return_all: bool = False,
        **settings: Any,
    ) -> None:
        """Store the settings; they are checked when the layer is called."""
        super().__init__(**settings)
        self.field = field
        self.ts = ts
        self.return_all = return_all

    def forward(self, y0: Tree, *args: Any) -> Tree:
        """Solve from y0 and return its last state, or all saved ones.

        Raises:
            SolveError: the solve did not arrive.
        """
        if isinstance(self.field, Regularised):
            y0, args = self.field.start(y0, *args, batch_dims=max(1, self.batch_dims))
        solution = self.solve(self.field, y0, self.ts, args)
        return solution.ys if self.return_all else map_leaves(lambda y: y[-1], solution.ys)
