"""Steps of one size."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from isocline.checks import check_numbers
from isocline.controllers.base import Controller, Memory, Verdict, rms
from isocline.numbers import Number, sign, where
from isocline.solvers.base import Attempt, BlackBox, Field, Solver
from isocline.transforms import plain

ITERATED = 1e-9
"""How far methods iterate with steps of a fixed size, absolutely and relatively."""


@dataclass(frozen=True)
class FixedStep(Controller):
    """Steps of one size; the last is shortened to end exactly at the end time.

    Args:
        dt: size of a step, positive, in the units of time.

    Example:
        >>> import isocline as iso, torch
        >>> sol = iso.solve(lambda t, y: -y, torch.ones(1), (0.0, 1.0), method="rk4", controller=iso.FixedStep(0.1))
        >>> sol.stats.steps.item()
        10
    """

    dt: float

    @property
    def tunable(self) -> tuple[str, ...]:
        """The step size."""
        return ("dt",)

    @property
    def evaluations(self) -> int:
        """None."""
        return 0

    def __post_init__(self) -> None:
        """Check dt."""
        check_numbers("FixedStep's dt must be a number", self.dt)
        if not 0 < self.dt < float("inf"):
            raise ValueError(f"FixedStep needs a positive finite dt, got {self.dt}; the direction comes from ts")

    def check(self, solver: Solver, t0: Tensor, t1: Tensor, max_steps: int, dtype: torch.dtype) -> None:
        """Refuse at once what could not end within max_steps, and methods that choose their own steps."""
        if isinstance(solver, BlackBox):
            raise ValueError(
                f"{solver.name} chooses its own steps, so FixedStep cannot be had with it: give rtol and atol, or "
                "controller=PID(rtol=..., atol=...)"
            )
        needed = (plain(t1 - t0).abs().max() / self.dt).item()
        if needed > max_steps * (1 + 1e-6):
            raise ValueError(
                f"FixedStep(dt={self.dt}) needs {int(needed)} steps for this interval, but max_steps={max_steps}; pass "
                f"max_steps={int(needed) + 1} or a larger dt"
            )

    def init(
        self, f: Field, solver: Solver, t0: Number, t1: Number, y0: Tensor, f0: Callable[[], Tensor]
    ) -> tuple[Number, Memory]:
        """Start with dt in the direction of the interval."""
        return sign(t1 - t0) * self.dt, ()

    def measure(self, y0: Tensor, attempt: Attempt) -> Tensor:
        """Return nothing of interest."""
        return y0.new_zeros(y0.shape[0])

    @property
    def rtol(self) -> float:
        """How far methods iterate."""
        return ITERATED

    def scaled(self, y: Tensor, x: Tensor) -> Tensor:
        """Return what is left to iterate beside a fixed tolerance: with steps of a fixed size there is no other."""
        tolerance = max(ITERATED, 10 * torch.finfo(y.dtype).eps)
        return rms(x / (tolerance * (1 + y.abs())))

    def adapt(self, verdict: Verdict, memory: Memory) -> tuple[Number, Number, Memory]:
        """Accept everything finite; a step size of 0 says that a smaller step will not be tried."""
        return verdict.finite, where(verdict.finite, sign(verdict.h) * self.dt, 0.0), memory
