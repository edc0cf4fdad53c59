"""Who is compared with whom, and one solve by each."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.integrate import ode, solve_ivp
from torch import Tensor

import isocline as iso
from benchmarks.problems import Problem

EXPLICIT = ("bosh3", "dopri5", "tsit5", "vern7", "vern8", "vern9", "dopri8", "dop853", "adams", "auto")
IMPLICIT = (
    *("trbdf2", "kvaerno3", "kvaerno5", "kencarp4", "rosenbrock23", "rodas4", "rodas5p"),
    *("radau", "bdf", "auto"),
)
SCIPY = {False: ("RK45", "DOP853", "LSODA", "VODE Adams"), True: ("Radau", "BDF", "LSODA")}
"""SciPy's methods for problems that are not stiff, and that are."""

SAME_FAMILY = {
    "dopri5": ("RK45",),
    "tsit5": ("RK45",),
    "dop853": ("DOP853",),
    "radau": ("Radau",),
    "bdf": ("BDF",),
    "adams": ("LSODA", "VODE Adams"),
    "auto": ("LSODA",),
}
MOST_STEPS = 200_000


class Run(NamedTuple):
    """One solve."""

    end: Tensor | None
    """The state at the end, or None if it was not reached."""
    counts: dict[str, int]


def names(problem: Problem) -> tuple[str, ...]:
    """Return the methods for a problem, SciPy's at the end; those of isocline that do not exist are left out."""
    ours = IMPLICIT if problem.stiff else EXPLICIT
    return (*(name for name in ours if name in iso.METHODS), *(f"scipy {name}" for name in SCIPY[problem.stiff]))


def solver(problem: Problem, name: str, tolerance: float) -> Callable[[], Run]:
    """Return the solve as something to call and time."""
    atol = tolerance * problem.atol
    if not name.startswith("scipy "):
        return lambda: by_isocline(problem, name, tolerance, atol)
    name = name.removeprefix("scipy ")
    if name == "VODE Adams":
        return lambda: by_vode(problem, tolerance, atol)
    return lambda: by_scipy(problem, name, tolerance, atol)


@torch.no_grad()
def by_isocline(problem: Problem, name: str, rtol: float, atol: float) -> Run:
    span = problem.t0, problem.t1
    sol = iso.solve(
        problem.f, problem.start, span, method=name, rtol=rtol, atol=atol, throw=False, max_steps=MOST_STEPS
    )
    counts = {"evaluations": sol.stats.evaluations, "steps": int(sol.stats.steps)}
    return Run(sol.ys[-1] if bool(sol.success) else None, counts)


def by_scipy(problem: Problem, name: str, rtol: float, atol: float) -> Run:
    """SciPy is given the Jacobian, so that none of its evaluations go into differences."""
    more: dict[str, Any] = {"jac": problem.numpy_jacobian} if problem.stiff else {}
    start = np.array(problem.y0)
    span = problem.t0, problem.t1
    with torch.no_grad():
        found = solve_ivp(problem.numpy_field, span, start, name, rtol=rtol, atol=atol, **more)
    counts = {"evaluations": int(found.nfev), "jacobians": int(found.njev), "steps": len(found.t) - 1}
    return Run(torch.from_numpy(found.y[:, -1].copy()) if found.success else None, counts)


def by_vode(problem: Problem, rtol: float, atol: float) -> Run:
    """VODE's Adams methods with functional iteration."""
    evaluations = 0

    def f(t: float, y: Any) -> Any:
        nonlocal evaluations
        evaluations += 1
        return problem.numpy_field(t, y.copy())

    with torch.no_grad():
        stepper = ode(f).set_integrator("vode", method="adams", rtol=rtol, atol=atol, nsteps=MOST_STEPS)
        stepper.set_initial_value(np.array(problem.y0), problem.t0)
        end = stepper.integrate(problem.t1)
    return Run(torch.from_numpy(end.copy()) if stepper.successful() else None, {"evaluations": evaluations})
