"""What a method must provide to be a solver."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple, Protocol

from torch import Tensor

from isocline.layout import Layout
from isocline.numbers import Number
from isocline.state import Status, Step

Field = Callable[[Number, Tensor], Tensor]
"""A vector field over lanes: ``f(t, y (L, n)) -> dy (L, n)``."""

Carry = tuple[Tensor, ...]


class Attempt(NamedTuple):
    """The result of trying one step."""

    y1: Tensor
    """(L, n); inf in lanes where an iteration did not converge."""
    error: Tensor | None
    """Estimate of the local error of y1, (L, n), or None if the method has none."""
    stages: tuple[Tensor, ...]
    """Evaluations that ``interpolate`` reads, each (L, n)."""
    carry: Carry
    """For the next step, should this one be accepted; each (L, ...)."""
    plan: "Plan | None" = None
    """What a method of variable order wants; None: the controller goes by the error and ``Solver.error_order``."""


class Plan(NamedTuple):
    """The step size wanted by a method that chooses it together with its order; each (L,)."""

    error_order: Tensor
    """Order of this attempt's error estimate."""
    growth: Tensor
    """By how much the next step should be longer, should this one be accepted."""


class Accuracy(Protocol):
    """What methods that iterate, or choose their order, know of the tolerances: a controller has it."""

    @property
    def rtol(self) -> "float | Tensor":
        """Relative tolerance."""

    def scaled(self, y: Tensor, x: Tensor) -> Tensor:
        """Return the size of x (L, n) beside what is tolerated at y (L, n): (L,), 1 where it is just tolerable."""


class Solver(ABC):
    """A method over lanes. Final subclasses are frozen dataclasses and hold no state of a solve.

    A solver neither chooses nor judges step sizes (that is the controller's), and nothing in it branches on values.
    What it needs from step to step is in its carry, through which gradients flow like through the state.

    What is the same for all instances of a subclass is written there as a constant: ``order: ClassVar[int] = 5``.
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
    def weights(self) -> tuple[float, ...] | None:
        """Weights w of the stages in ``y1 = y0 + h sum_i w_i k_i``, which also integrate along with the step.

        None: the step is not made of its own stages alone.
        """

    @property
    @abstractmethod
    def evaluations(self) -> int:
        """Evaluations of f that a step costs."""

    @property
    def kind(self) -> str:
        """The family of methods it belongs to, in a few words."""
        return ""

    @property
    def dense_order(self) -> int:
        """Order of the interpolant, whose own error is O(h^(dense_order+1))."""
        return self.order

    @property
    def citation(self) -> str:
        """Where the method comes from: author, year, where."""
        return ""

    @property
    def compilable(self) -> bool:
        """Whether a step is free of branches on values, so that a loop of them can be compiled."""
        return True

    @property
    def integrates(self) -> bool:
        """Whether ``weights`` over the stages integrate f along with a step: BacksolveAdjoint's way back needs it."""
        return True

    @property
    def late_stages(self) -> int:
        """Evaluations that only interpolation needs, made by ``complete`` for the steps that are interpolated."""
        return 0

    @property
    def completes(self) -> bool:
        """Whether ``complete`` must be called before a step is interpolated."""
        return self.late_stages > 0

    @property
    def dense_stages(self) -> int:
        """How many tensors ``interpolate`` reads in a step's stages."""
        return len(self.weights or ())

    def check(self, layout: Layout) -> None:  # noqa: B027
        """Raise ValueError at once if the method does not suit a state of this structure."""

    def tuned(self, accuracy: Accuracy) -> "Solver":
        """Return the method for these tolerances, if it goes by them."""
        return self

    def completing(self) -> "Solver":
        """Return the method with late stages evaluated in each step, for when all steps are to be interpolated."""
        return self

    def complete(self, f: Field, step: Step) -> Step:
        """Return the step with the late stages, too."""
        return step

    @abstractmethod
    def init(self, f: Field, t0: Number, y0: Tensor, f0: Callable[[], Tensor]) -> Carry:
        """Return the carry for the first step from (t0, y0); ``f0()`` is f there, evaluated at most once a solve."""

    def slope(self, carry: Carry) -> Tensor | None:
        """Return f at the point reached (L, n) if the carry holds it, else None."""
        return None

    def start_of(self, y: Tensor, carry: Carry) -> Tensor | None:
        """Return the state at which the first stage was evaluated, (L, n), if the carry holds that stage, else None."""
        return None if self.slope(carry) is None else y

    @abstractmethod
    def step(self, f: Field, t0: Number, t1: Number, y0: Tensor, carry: Carry) -> Attempt:
        """Try the step from t0 to t1 (equal in lanes that rest, which must then give y1 = y0 finitely)."""

    @abstractmethod
    def interpolate(self, step: Step, t: Tensor) -> Tensor:
        """Return the state within a completed step at t (M,), (M, n); the step has M rows, or one for all."""


class Table(Protocol):
    """What all tables of coefficients say of their method."""

    @property
    def name(self) -> str:
        """The lower-case name users write."""

    @property
    def order(self) -> int:
        """Order p."""

    @property
    def dense_order(self) -> int:
        """Order of the interpolant."""

    @property
    def citation(self) -> str:
        """Author, year, where."""


class Tabled(Solver):
    """A method that is given by a table."""

    @property
    @abstractmethod
    def table(self) -> Table:
        """The table."""

    @property
    def name(self) -> str:
        """The table's name."""
        return self.table.name

    @property
    def order(self) -> int:
        """Order p of the method."""
        return self.table.order

    @property
    def dense_order(self) -> int:
        """The table's."""
        return self.table.dense_order

    @property
    def citation(self) -> str:
        """The table's."""
        return self.table.citation


class Invertible(Solver):
    """A method whose steps can be undone to rounding errors, whatever their size."""

    @abstractmethod
    def reverse(self, f: Field, t0: Number, t1: Number, y1: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        """Return y0 and carry before the step from t0 to t1 that ended at y1 with this carry."""


class Limits(NamedTuple):
    """What a black box is told of accuracy and effort."""

    rtol: float | Tensor
    """A number, or one for each component, (n,) on the CPU."""
    atol: float | Tensor
    dt0: float | None
    """Size of the first step; None chooses it."""
    dt_max: float
    max_steps: int


class Trace(NamedTuple):
    """What a black box made of one lane of n numbers; float64 on the CPU."""

    ys: Tensor
    """States at the save times, (T, n); nan where it did not get."""
    t: float
    """How far it came."""
    status: Status
    steps: int
    pieces: "Sequence[Piece]"
    """All steps, if asked for."""


class Piece(NamedTuple):
    """One step of a black box."""

    t0: float
    t1: float
    samples: Tensor
    """What ``interpolate`` gets as stages, (s, n); the first is the state at t0, the last that at t1."""


class BlackBox(Solver):
    """A method that runs a whole solve by itself, one lane at a time: it has no steps for the loop or for autograd."""

    weights: ClassVar[tuple[float, ...]] = ()  # not known
    evaluations: ClassVar[int] = 0  # not known
    compilable: ClassVar[bool] = False  # it runs outside of torch

    @abstractmethod
    def trace(
        self,
        f: Callable[[float, Tensor], Tensor],
        y0: Tensor,
        f0: Tensor,
        ts: Sequence[float],
        limits: Limits,
        dense: bool,
    ) -> Trace:
        """Solve one lane.

        Args:
            f: the field of the lane: ``f(t, y (n,)) -> (n,)`` in the user's dtype and on the user's device.
            y0: state at ts[0], float64 on the CPU.
            f0: f there.
            ts: save times, the last differs from the first.
            limits: tolerances and limits.
            dense: whether all steps are wanted.
        """

    def init(self, f: Field, t0: Number, y0: Tensor, f0: Callable[[], Tensor]) -> Carry:
        """There are no steps to be taken one by one."""
        raise TypeError(f"{self.name} solves as a whole: its steps cannot be taken one by one")

    def step(self, f: Field, t0: Number, t1: Number, y0: Tensor, carry: Carry) -> Attempt:
        """There are no steps to be taken one by one."""
        raise TypeError(f"{self.name} solves as a whole: its steps cannot be taken one by one")
