"""What a method must provide to be a solver."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from isocline.numbers import Number
from isocline.state import Step

Field = Callable[[Number, Tensor], Tensor]
"""A vector field over lanes: ``f(t, y (L, n)) -> dy (L, n)``."""

Carry = tuple[Tensor, ...]


class Attempt(NamedTuple):
    """The result of trying one step."""

    y1: Tensor
    """(L, n)"""
    error: Tensor | None
    """Estimate of the local error of y1, (L, n), or None if the method has none."""
    stages: tuple[Tensor, ...]
    """Evaluations that ``interpolate`` reads, each (L, n)."""
    carry: Carry
    """For the next step, should this one be accepted; each (L, ...)."""


class Solver(ABC):
    """A one-step method over lanes. Final subclasses are frozen dataclasses and hold no state of a solve.

    A solver neither chooses nor judges step sizes (that is the controller's), and nothing in it branches on values.
    What it needs from step to step is in its carry, through which gradients flow like through the state.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """The name for messages."""

    @property
    @abstractmethod
    def order(self) -> int:
        """Order p of the method."""

    @property
    @abstractmethod
    def error_order(self) -> int | None:
        """Order q of the error estimate, which is O(h^(q+1)); None if the method has none."""

    @property
    @abstractmethod
    def weights(self) -> tuple[float, ...]:
        """Weights w of the stages in ``y1 = y0 + h sum_i w_i k_i``, which also integrate along with the step."""

    @property
    @abstractmethod
    def evaluations(self) -> int:
        """Evaluations of f that a step costs."""

    @abstractmethod
    def init(self, f: Field, t0: Number, y0: Tensor, f0: Callable[[], Tensor]) -> Carry:
        """Return the carry for the first step from (t0, y0); ``f0()`` is f there, evaluated at most once a solve."""

    def slope(self, carry: Carry) -> Tensor | None:
        """Return f at the point reached (L, n) if the carry holds it, else None."""
        return None

    @abstractmethod
    def step(self, f: Field, t0: Number, t1: Number, y0: Tensor, carry: Carry) -> Attempt:
        """Try the step from t0 to t1 (equal in lanes that rest, which must then give y1 = y0 finitely)."""

    @abstractmethod
    def interpolate(self, step: Step, t: Tensor) -> Tensor:
        """Return the state within a step at t (M,) as (M, n); the step's tensors have M rows, or one for all."""
