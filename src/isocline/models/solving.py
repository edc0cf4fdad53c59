"""What modules that solve an ODE share: the settings of their solves."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from isocline.controllers import Controller, Tolerance
from isocline.gradients import Gradient
from isocline.solution import Solution, Stats
from isocline.solve import MAX_STEPS, solve
from isocline.solvers import Solver
from isocline.tree import Tree


class Solving(nn.Module):
    """A module that solves an ODE; abstract. Its settings are attributes, and may be changed at any time.

    Args:
        method: as in ``solve``.
        rtol: as in ``solve``.
        atol: as in ``solve``.
        controller: as in ``solve``; instead of rtol and atol, which must be None then.
        gradient: as in ``solve``.
        batch_dims: as in ``solve``.
        max_steps: as in ``solve``.
        compile: as in ``solve``; the attribute is ``compiled``, because modules have a method ``compile``.

    Attributes:
        stats: counts of the last solve; ``stats.backward`` is filled by its backward pass.
    """

    stats: Stats | None

    def __init__(
        self,
        *,
        method: str | Solver = "tsit5",
        rtol: float | None = None,
        atol: float | None = None,
        controller: Controller | None = None,
        gradient: Gradient | None = None,
        batch_dims: int = 0,
        max_steps: int = MAX_STEPS,
        compile: bool = False,  # noqa: A002
    ) -> None:
        """Store the settings; they are checked when something is solved."""
        super().__init__()
        self.method = method
        self.rtol = rtol
        self.atol = atol
        self.controller = controller
        self.gradient = gradient
        self.batch_dims = batch_dims
        self.max_steps = max_steps
        self.compiled = compile
        self.stats = None

    def solve(
        self,
        field: Callable[..., Tree],
        y0: Tree,
        ts: "Tensor | Sequence[float | Tensor]",
        args: tuple[Any, ...] = (),
        *,
        rtol: Tolerance | None = None,
        atol: Tolerance | None = None,
    ) -> Solution:
        """Solve with the module's settings, but for tolerances that are given here."""
        solution = solve(
            field,
            y0,
            ts,
            args=args,
            method=self.method,
            rtol=self.rtol if rtol is None else rtol,
            atol=self.atol if atol is None else atol,
            controller=self.controller,
            batch_dims=self.batch_dims,
            gradient=self.gradient,
            max_steps=self.max_steps,
            compile=self.compiled,
        )
        self.stats = solution.stats
        return solution

    def extra_repr(self) -> str:
        """Settings for printing."""
        control = f"controller={self.controller}" if self.controller else f"rtol={self.rtol}, atol={self.atol}"
        compiled = ", compile=True" if self.compiled else ""
        return f"method={self.method!r}, {control}, gradient={self.gradient}{compiled}"
