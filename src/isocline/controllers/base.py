"""What a controller must provide."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from copy import copy
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from isocline.layout import Layout
from isocline.numbers import Number, time_dtype
from isocline.solvers.base import Attempt, Field, Solver

Memory = tuple[Number, ...]
"""What a controller remembers from step to step."""


class Verdict(NamedTuple):
    """What is known about an attempt when it is judged."""

    h: Number
    """Its signed size."""
    error: Number
    """What ``measure`` said; inf if the state is not finite."""
    finite: Number
    """Whether the state is finite."""
    error_order: "Number | None"
    """Order of the error estimate."""
    growth: "Number | None" = None
    """By how much the solver wants the next step to be longer, if it decides."""


class Controller(ABC):
    """Chooses step sizes. Final subclasses are frozen dataclasses; what they remember is in the state's memory."""

    @property
    @abstractmethod
    def tunable(self) -> tuple[str, ...]:
        """Names of the settings that a compiled program takes as tensors, so that it is not compiled for each value."""

    @property
    @abstractmethod
    def evaluations(self) -> int:
        """How often ``init`` evaluates f, besides f(t0, y0)."""

    def fitted(self, layout: Layout) -> "Controller":
        """Return the controller for states of this layout."""
        return self

    @abstractmethod
    def check(self, solver: Solver, t0: Tensor, t1: Tensor, max_steps: int, dtype: torch.dtype) -> None:
        """Raise ValueError at once if this controller cannot work with the solver, interval or dtype."""

    @abstractmethod
    def init(
        self, f: Field, solver: Solver, t0: Number, t1: Number, y0: Tensor, f0: Callable[[], Tensor]
    ) -> tuple[Number, Memory]:
        """Return the signed first step and the memory; ``f0()`` is f(t0, y0), evaluated at most once a solve."""

    @abstractmethod
    def measure(self, y0: Tensor, attempt: Attempt) -> Tensor:
        """Return one number a lane (L,), that tells how good an attempt from y0 (L, n) was."""

    @property
    @abstractmethod
    def rtol(self) -> float:
        """Relative tolerance, for methods that iterate or choose their order."""

    @abstractmethod
    def scaled(self, y: Tensor, x: Tensor) -> Tensor:
        """Return the size of x (L, n) beside what is tolerated at y (L, n): (L,)."""

    @abstractmethod
    def adapt(self, verdict: "Verdict", memory: Memory) -> tuple[Number, Number, Memory]:
        """Judge an attempt: accept, size of the next step, memory."""


def replaced(controller: Controller, values: Sequence[Tensor]) -> Controller:
    """Return a copy with other values of its tunable settings."""
    changed = copy(controller)
    for name, value in zip(controller.tunable, values, strict=True):
        object.__setattr__(changed, name, value)
    return changed


@lru_cache(maxsize=256)
def compilable(controller: Controller, device: torch.device) -> tuple[Controller, Hashable]:
    """Return the controller with tensors for its tunable settings, and all others as something to compare."""
    values = [torch.as_tensor(getattr(controller, name), dtype=time_dtype(device)) for name in controller.tunable]
    changed = replaced(controller, [value.to(device) for value in values])
    return changed, fixed_settings(controller)


def fixed_settings(controller: Controller) -> Hashable:
    """Return all that is not tunable as something to compare."""
    fixed = ((name, value) for name, value in vars(controller).items() if name not in (*controller.tunable, "given"))
    return (type(controller), *fixed)


def rms(x: Tensor) -> Tensor:
    """Return the root mean square of x (L, n) in each lane, (L,)."""
    mean: Tensor = torch.linalg.vector_norm(x, dim=1) / x.shape[1] ** 0.5
    return mean
