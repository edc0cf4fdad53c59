"""Going on from where another solve ended, as if it had not been interrupted."""

from dataclasses import dataclass

from torch import Tensor

from isocline.controllers import Controller
from isocline.field import Field
from isocline.numbers import Number, everywhere, spread
from isocline.solvers.base import Solver
from isocline.state import State, ended_well
from isocline.times import Times
from isocline.transforms import transforming
from isocline.tree import describe


@dataclass(frozen=True)
class SolverState:
    """Where a solve stands: time, state, what the method carries, step size, and what the controller remembers.

    ``Solution.state`` is one; give it to the next solve as ``solve(f, sol.ys[-1], (t1, t2), state=sol.state)``. It has
    no history for autograd.

    Args:
        state: the loop's state.
        solver: the method.
        controller: it may have other tolerances later.

    Example:
        >>> import isocline as iso, torch
        >>> first = iso.solve(lambda t, y: -y, torch.ones(1), (0.0, 1.0))
        >>> second = iso.solve(lambda t, y: -y, first.ys[-1], (1.0, 2.0), state=first.state)
        >>> round(second.ys[-1].item(), 4)
        0.1353
    """

    state: State
    solver: Solver
    controller: Controller

    def __repr__(self) -> str:
        """Say where it stands."""
        return f"SolverState(t={self.state.t}, method={self.solver.name!r})"

    def fit(self, solver: Solver, controller: Controller, field: Field, y0: Tensor, times: Times) -> State:
        """Return the state for going on from y0 (L, n); raise ValueError if it belongs elsewhere."""
        if solver != self.solver:
            raise ValueError(f"state is one of method {self.solver.name!r}, but this solve is by {solver.name!r}")
        if _fixed(controller) != _fixed(self.controller):
            raise ValueError("state comes from another kind of controller; only tolerances and step sizes may differ")
        before = self.state
        if before.y.shape != y0.shape or before.y.dtype != y0.dtype or before.y.device != y0.device:
            raise ValueError(
                f"state is one of {describe(before.y)} (lanes, numbers), but y0 makes {describe(y0)}; give it "
                "y0=sol.ys[-1] and the same batch_dims"
            )
        t = spread(before.t, times.values)
        same = (t == times.values[0]).all() & (before.y == y0).all()
        if not everywhere(same & ended_well(spread(before.status, t)).all()):
            raise ValueError(
                "state belongs to the end of the solve it came from: go on from its last time and state, "
                "solve(f, sol.ys[-1], (t1, t2), state=sol.state), and only if all lanes arrived"
            )
        ahead = (times.values[-1] - times.values[0]) * spread(before.dt, t).to(t.device)
        if not everywhere(ahead >= 0):
            raise ValueError("state comes from a solve in the other direction of time; begin a new one without state")
        bare = len(before.carry) > 1 or (before.carry and solver.slope(before.carry) is None)
        if bare and (transforming() or times.differentiable or field.has_history(times.number(0), y0)):
            raise ValueError(
                f"method {solver.name!r} cannot go on from a state with gradients, which would not know what it "
                "carries; solve under torch.no_grad(), or in one solve, with step_ts for steps that end between"
            )
        return before


def of_end(state: State, solver: Solver, controller: Controller) -> SolverState:
    """Return what another solve can go on from."""
    t, dt, status = (_detached(x) for x in (state.t, state.dt, state.status))
    carry, memory = tuple(part.detach() for part in state.carry), tuple(map(_detached, state.memory))
    return SolverState(
        State(t, state.y.detach(), carry, dt, memory, status, status * 0, status * 0), solver, controller
    )


def _detached(x: Number) -> Number:
    return x.detach() if isinstance(x, Tensor) else x


def _fixed(controller: Controller) -> tuple[object, ...]:
    varying = (*controller.tunable, "given", "dt0", "dt_max", "dt_min")
    return (type(controller), *((k, v) for k, v in vars(controller).items() if k not in varying))
