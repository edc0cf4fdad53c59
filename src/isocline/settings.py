"""What the user chose in a call of ``solve``: checked, and defaults filled in."""

from collections.abc import Iterable

from torch import Tensor

from isocline.checks import check_whole
from isocline.controllers import PID, Controller, Tolerance
from isocline.gradients import BacksolveAdjoint, DirectAdjoint, Gradient
from isocline.restart import SolverState
from isocline.solvers import METHODS, Solver
from isocline.solvers.base import BlackBox
from isocline.tableaus import Tableau
from isocline.tree import describe

DEFAULT_GRADIENT = DirectAdjoint()
DEFAULT_OF_BLACK_BOX = BacksolveAdjoint()


def check_call(f: object, args: object, batch_dims: object, max_steps: object) -> None:
    """Check what is called and how."""
    if not callable(f):
        raise TypeError(f"f must be callable as f(t, y, *args), got {describe(f)}")
    if not isinstance(args, tuple):
        raise TypeError(f"args must be a tuple, got {describe(args)}; write args=(value,)")
    check_whole("batch_dims", batch_dims, 0)
    check_whole("max_steps", max_steps, 1)


def chosen_solver(method: object) -> Solver:
    """Return the solver of a name, or the solver itself."""
    if isinstance(method, Solver):
        return method
    if isinstance(method, str) and method in METHODS:
        return METHODS[method]
    if isinstance(method, Tableau):
        raise TypeError(f"a tableau is not yet a method: write method=RungeKutta(tableau) (got {method.name!r})")
    raise ValueError(
        f"unknown method {method!r}; use one of {', '.join(METHODS)}, or a solver such as RungeKutta(tableau)"
    )


def chosen_controller(controller: object, rtol: Tolerance | None, atol: Tolerance | None) -> Controller:
    """Return the controller, or one with these tolerances."""
    if controller is None:
        return PID(PID.rtol if rtol is None else rtol, PID.atol if atol is None else atol)
    if rtol is not None or atol is not None:
        raise ValueError(
            "give either a controller or rtol and atol, not both; a PID takes them: PID(rtol=..., atol=...)"
        )
    if not isinstance(controller, Controller):
        raise TypeError(f"controller must be FixedStep(dt) or PID(...), got {describe(controller)}")
    return controller


def check_black_box(solver: Solver, **given: object) -> None:
    """Refuse what needs steps, if the solver does not show its own."""
    wanted = [name for name, value in given.items() if value]
    if isinstance(solver, BlackBox) and wanted:
        raise ValueError(
            f"{solver.name} does not show its steps, so it cannot take {wanted[0]}; use one of isocline's own methods, "
            "such as 'tsit5', or 'kvaerno5' for stiff problems"
        )


def checked_state(state: object) -> SolverState:
    """Return the state of an earlier solve."""
    if not isinstance(state, SolverState):
        raise TypeError(f"state must be the state of a solution, state=sol.state, got {describe(state)}")
    return state


def chosen_gradient(gradient: object, solver: Solver) -> Gradient:
    """Return the gradient method, or the default for the solver."""
    whole = isinstance(solver, BlackBox)
    if gradient is None:
        return DEFAULT_OF_BLACK_BOX if whole else DEFAULT_GRADIENT
    if not isinstance(gradient, Gradient):
        raise TypeError(f"gradient must be a gradient method such as DirectAdjoint(), got {describe(gradient)}")
    if whole and not gradient.suits(solver):
        raise ValueError(
            f"{solver.name} does not show its steps, which {type(gradient).__name__} would differentiate; leave out "
            "gradient, or write gradient=BacksolveAdjoint()"
        )
    return gradient


def listed_parameters(params: Iterable[Tensor] | None) -> tuple[Tensor, ...] | None:
    """Return the tensors to differentiate, or None to find them."""
    if params is None:
        return None
    if isinstance(params, Tensor):
        return (params,)
    listed = tuple(params) if isinstance(params, Iterable) else (params,)
    for p in listed:
        if not isinstance(p, Tensor):
            raise TypeError(f"params must be tensors, got {describe(p)}; write params=list(net.parameters())")
    return listed
