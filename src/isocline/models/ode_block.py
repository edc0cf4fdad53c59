"""An ODE as a layer."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from isocline.controllers import Controller
from isocline.gradients import Gradient
from isocline.models.regularised import Regularised
from isocline.solution import Stats
from isocline.solve import MAX_STEPS, solve
from isocline.solvers import Solver
from isocline.tree import Tree, map_leaves


class NeuralODE(nn.Module):
    """The layer ``y0 -> y(t1)`` of ``dy/dt = field(t, y)``.

    Every setting is an attribute that may be changed at any time, also after training: train accurate and run cheap, or
    the reverse.

    Args:
        field: ``field(t, y, *args) -> dy``, usually a module; its parameters are the layer's. With a ``Regularised``
            field the layer returns ``(y, penalties)``.
        ts: times, the first is the start: (T,) numbers or a tensor.
        method: as in ``solve``.
        rtol: as in ``solve``.
        atol: as in ``solve``.
        controller: as in ``solve``; instead of rtol and atol, which must be None then.
        gradient: as in ``solve``.
        batch_dims: as in ``solve``; 1 gives every sample its own step size.
        max_steps: as in ``solve``.
        compile: as in ``solve``; the attribute is ``compiled``, because modules have a method ``compile``.
        return_all: return the states at all of ts, time axis first, instead of the last.

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

    stats: Stats | None

    def __init__(
        self,
        field: Callable[..., Tree],
        ts: "Tensor | Sequence[float | Tensor]" = (0.0, 1.0),
        *,
        method: str | Solver = "tsit5",
        rtol: float | None = None,
        atol: float | None = None,
        controller: Controller | None = None,
        gradient: Gradient | None = None,
        batch_dims: int = 0,
        max_steps: int = MAX_STEPS,
        compile: bool = False,  # noqa: A002
        return_all: bool = False,
    ) -> None:
        """Store the settings; they are checked when the layer is called."""
        super().__init__()
        self.field = field
        self.ts = ts
        self.method = method
        self.rtol = rtol
        self.atol = atol
        self.controller = controller
        self.gradient = gradient
        self.batch_dims = batch_dims
        self.max_steps = max_steps
        self.compiled = compile
        self.return_all = return_all
        self.stats = None

    def forward(self, y0: Tree, *args: Any) -> Tree:
        """Solve from y0 and return its last state, or all saved ones.

        Raises:
            SolveError: the solve did not arrive.
        """
        if isinstance(self.field, Regularised):
            y0, args = self.field.start(y0, *args, batch_dims=max(1, self.batch_dims))
        solution = solve(
            self.field,
            y0,
            self.ts,
            args=args,
            method=self.method,
            rtol=self.rtol,
            atol=self.atol,
            controller=self.controller,
            batch_dims=self.batch_dims,
            gradient=self.gradient,
            max_steps=self.max_steps,
            compile=self.compiled,
        )
        self.stats = solution.stats
        return solution.ys if self.return_all else map_leaves(lambda y: y[-1], solution.ys)

    def extra_repr(self) -> str:
        """Settings for printing."""
        control = f"controller={self.controller}" if self.controller else f"rtol={self.rtol}, atol={self.atol}"
        compiled = ", compile=True" if self.compiled else ""
        return f"method={self.method!r}, {control}, gradient={self.gradient}{compiled}"
