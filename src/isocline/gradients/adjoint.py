"""The adjoint ODE ``da/dt = -a^T df/dy`` as a field for the solvers, and where the state comes from in it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from isocline.controllers import Controller
from isocline.dense import Interpolant
from isocline.field import Field, Part
from isocline.gradients.captured import Captured
from isocline.solvers.base import Solver


class Trajectory(ABC):
    """Where y(t) comes from on the way back, and so what the solver's state x is made of besides a.

    Attributes:
        solver: whose steps are accurate for y, if they go no farther than ``reach``.
    """

    solver: Solver

    @abstractmethod
    def reach(self, t: Tensor, dt: Tensor) -> Tensor:
        """Return how far (L,) a step from t goes at most if stops are to lie inside it; it would go by dt."""

    @abstractmethod
    def split(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return y and a, (L, n) each, at time t (L,)."""

    @abstractmethod
    def join(self, y: Tensor, a: Tensor) -> Tensor:
        """Return x made of y and a, or its slope made of theirs."""

    @abstractmethod
    def corrected(self, y: Tensor, place: Tensor, arrived: Tensor) -> Tensor:
        """Return the state (L, n) in lanes that have arrived (L,) at the stops with indices ``place`` (L,)."""

    @abstractmethod
    def beside(self, source: Tensor) -> "Trajectory":
        """Return it for lanes put in the place of others."""


class Rebuilt(Trajectory):
    """y is solved for backwards, beside a: x is (y, a).

    Args:
        solver: the method of the way back.
        ys: the states saved at the stops, (S, L, n), which it is set to there.
        judge: knows by how much a state may be off.
    """

    def __init__(self, solver: Solver, ys: Tensor, judge: Controller) -> None:
        """Nothing is known to be off yet."""
        self.solver, self.ys, self.judge = solver, ys, judge
        self.lanes = torch.arange(ys.shape[1], device=ys.device)
        self.size = ys.abs().amax(dim=0)
        """The largest that was saved of each component, (L, n): one that passes zero is not lost there."""
        self.digits = judge.scaled(self.size, self.size)
        """The same, in tolerances, (L,)."""
        self.off = torch.zeros_like(self.digits)
        """How far off the state was where it was worst, in tolerances, (L,)."""

    def reach(self, t: Tensor, dt: Tensor) -> Tensor:
        """As far as it likes: y is under error control."""
        return dt

    def split(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the halves."""
        y, a = x.tensor_split(2, dim=1)
        return y, a

    def join(self, y: Tensor, a: Tensor) -> Tensor:
        """Put them side by side."""
        return torch.cat([y, a], dim=1)

    def corrected(self, y: Tensor, place: Tensor, arrived: Tensor) -> Tensor:
        """Set the state to the one that was saved, and note how far it was off."""
        saved = self.ys[place, self.lanes]
        off = torch.where(arrived, self.judge.scaled(self.size, y - saved), 0.0)
        self.off = torch.maximum(self.off, off)
        return torch.where(arrived.unsqueeze(1), saved, y)

    def beside(self, source: Tensor) -> Trajectory:
        """Return itself: x holds all there is."""
        return self


class LookedUp(Trajectory):
    """y is looked up in the steps of the forward solve: x is a.

    Args:
        states: the steps, of some lanes.
        lanes: which of those each row is, (L,).
    """

    def __init__(self, states: Interpolant, lanes: Tensor) -> None:
        """Look up by a method's interpolant."""
        self.solver, self.states, self.lanes = states.solver, states, lanes

    def reach(self, t: Tensor, dt: Tensor) -> Tensor:
        """As far as the step went that was made there: y is not under error control now, and a may be zero."""
        length = self.states.lengths(t.unsqueeze(0), self.lanes).squeeze(0)
        return torch.minimum(torch.maximum(dt, -length), length)

    def split(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Interpolate."""
        return self.states.evaluate(t.unsqueeze(0), self.lanes).squeeze(0), x

    def join(self, y: Tensor, a: Tensor) -> Tensor:
        """Leave out y."""
        return a

    def corrected(self, y: Tensor, place: Tensor, arrived: Tensor) -> Tensor:
        """Return it as it is: it was never lost."""
        return y

    def beside(self, source: Tensor) -> Trajectory:
        """Take other rows."""
        return LookedUp(self.states, self.lanes.index_select(0, source))


class Evaluation(NamedTuple):
    """One evaluation of the adjoint field, with what is needed for the part of the parameters."""

    k: Tensor
    """What the adjoint field returned; held so that its identity stays its own."""
    a: Tensor
    dy: Tensor | None
    """f with its graph, if lanes may step differently: then their weights must be known before the product."""
    bars: Sequence[Tensor | None]
    """``-a^T df/dtheta``, if there is one lane: its step may be weighed afterwards, and the graph is gone by now."""


class AdjointField:
    """The field of x, which is a with or without y: ``-a^T df/dy``, with or without f.

    Args:
        captured: what f depends on.
        field: f, for the lanes of x.
        trajectory: where y comes from.
        weighed: whether stages will be weighed for the part of the parameters: then evaluations are remembered.
    """

    def __init__(self, captured: Captured, field: Field | Part, trajectory: Trajectory, weighed: bool) -> None:
        """Remember nothing yet."""
        self.captured, self.field, self.trajectory = captured, field, trajectory
        self.weighed = weighed and bool(captured.inner)
        self.shared = isinstance(field, Part)
        """Whether graphs have a part in common: rows of arguments, which were taken once."""
        self.evaluations: dict[int, Evaluation] = {}

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        """Evaluate f once, and its vector-Jacobian product with a."""
        if torch.is_grad_enabled() and (x.requires_grad or t.requires_grad):
            return self._with_history(t, x)
        y, a = self.trajectory.split(t, x)
        dy, y = self._evaluate(t, y)
        inner = self.captured.inner if self.weighed else ()
        da: Tensor | None = None
        bars: Sequence[Tensor | None] = [None] * len(inner)
        if dy.requires_grad:
            self.captured.check([dy], known=[y])
            if len(t) == 1:
                da, *bars = torch.autograd.grad(dy, [y, *inner], -a, allow_unused=True, retain_graph=self.shared)
            else:
                (da,) = torch.autograd.grad(dy, y, -a, retain_graph=bool(inner), allow_unused=True)
        k = self.trajectory.join(dy.detach(), torch.zeros_like(a) if da is None else da)
        if self.weighed:
            self.evaluations[id(k)] = Evaluation(k, a, dy if len(t) > 1 and dy.requires_grad else None, bars)
        return k

    def pull(self, evaluation: Evaluation, weight: Tensor) -> Sequence[Tensor | None]:
        """Return ``sum over lanes of weight (L,) a^T df/dtheta`` for each captured tensor."""
        if len(weight) == 1:
            return [None if bar is None else bar * -weight.to(bar.dtype) for bar in evaluation.bars]
        if evaluation.dy is None:
            return evaluation.bars
        bar = weight.to(evaluation.a.dtype).unsqueeze(1) * evaluation.a
        return torch.autograd.grad(evaluation.dy, self.captured.inner, bar, allow_unused=True, retain_graph=True)

    def by_parameters(self, t: Tensor, x: Tensor, weight: Tensor) -> Sequence[Tensor | None]:
        """Return the same at (t, x), by one more evaluation of f."""
        y, a = self.trajectory.split(t, x)
        dy, y = self._evaluate(t, y)
        if not dy.requires_grad:
            return [None] * len(self.captured.inner)
        self.captured.check([dy], known=[y])
        bar = weight.to(a.dtype).unsqueeze(1) * a
        return torch.autograd.grad(dy, self.captured.inner, bar, allow_unused=True, retain_graph=self.shared)

    def beside(self, source: Tensor) -> "AdjointField":
        """Return it for lanes put in the place of others, remembering what this one does."""
        with torch.enable_grad():
            field = self.field.beside(source)
        other = AdjointField(self.captured, field, self.trajectory.beside(source), self.weighed)
        other.evaluations = self.evaluations
        return other

    def apply(self, function: Callable[..., Any], t: Tensor, x: Tensor) -> Tensor:
        """Return the Jacobian ``-(df/dy)^T`` of a (L, n, n), given the user's function for df/dy."""
        y, a = self.trajectory.split(t, x)
        found: Tensor = self.field.apply(function, t, y)
        return -found.reshape(*a.shape, -1).mT

    def count_jacobian(self) -> None:
        """Count a Jacobian of f."""
        self.captured.field.count_jacobian()

    def _evaluate(self, t: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return f with its graph, and the leaf y of it."""
        with torch.enable_grad():
            y = y.detach().requires_grad_()
            return self.field(t, y), y

    def _with_history(self, t: Tensor, x: Tensor) -> Tensor:
        """Evaluate so that the result can be differentiated by t and x: for methods that linearise their field."""
        y, a = self.trajectory.split(t, x)
        y = y if y.requires_grad else y.requires_grad_()
        dy = self.field(t, y)
        da: Tensor | None = None
        if dy.requires_grad:
            self.captured.check([dy], known=[t, x, y])
            (da,) = torch.autograd.grad(dy, y, -a, create_graph=True, allow_unused=True)
        return self.trajectory.join(dy, torch.zeros_like(a) if da is None else da)
