"""End states of the problems that have no closed form, kept in references.json.

    python -m benchmarks.problems.reference                    # all: about ten minutes
    python -m benchmarks.problems.reference HIRES POLLU        # some of them

Each is solved by SciPy at rtol 1e-13, by Radau (stiff) or DOP853, and again by LSODA, and compared with values that
were published, if any; ``digits`` says to how many significant digits they agree in the worst component
(measured as the problem measures errors). Where values were published, from quadruple precision, those are kept.

``condition`` is the largest factor by which a small error made somewhere on the way has grown at the end, both in units
of what is tolerated there.
"""

import json
import sys
from dataclasses import replace
from itertools import pairwise
from math import log10
from typing import Any

import numpy as np
import scipy
from scipy.integrate import solve_ivp

from benchmarks.problems import PROBLEMS, Problem
from benchmarks.problems.problem import REFERENCES

RTOL = 1e-13

# Mazzia & Magherini 2008, Test Set for Initial Value Problem Solvers, release 2.4: the reference solutions.
PUBLISHED: dict[str, tuple[float, ...]] = {
    "Arenstorf": PROBLEMS["Arenstorf"].y0,  # the orbit is closed
    "Pleiades": (
        *(0.3706139143970502, 0.3237284092057233e1, -0.3222559032418324e1, 0.6597091455775310),
        *(0.3425581707156584, 0.1562172101400631e1, -0.7003092922212495),
        *(-0.3943437585517392e1, -0.3271380973972550e1, 0.5225081843456543e1, -0.2590612434977470e1),
        *(0.1198213693392275e1, -0.2429682344935824, 0.1091449240428980e1),
        *(0.3417003806314313e1, 0.1354584501625501e1, -0.2590065597810775e1, 0.2025053734714242e1),
        *(-0.1155815100160448e1, -0.8072988170223021, 0.5952396354208710),
        *(-0.3741244961234010e1, 0.3773459685750630, 0.9386858869551073, 0.3667922227200571),
        *(-0.3474046353808490, 0.2344915448180937e1, -0.1947020434263292e1),
    ),
    "Robertson": (0.2083340149701255e-07, 0.8333360770334713e-13, 0.9999999791665050),
    "van der Pol, mu=1e3": (0.1706167732170483e1, -0.8928097010247975),
    "HIRES": (
        0.7371312573325668e-3,
        0.1442485726316185e-3,
        0.5888729740967575e-4,
        0.1175651343283149e-2,
        0.2386356198831331e-2,
        0.6238968252742796e-2,
        0.2849998395185769e-2,
        0.2850001604814231e-2,
    ),
    "Oregonator": (0.1000814870318523e1, 0.1228178521549917e4, 0.1320554942846706e3),
    "POLLU": (
        0.5646255480022769e-1,
        0.1342484130422339,
        0.4139734331099427e-8,
        0.5523140207484359e-2,
        0.2018977262302196e-6,
        0.1464541863493966e-6,
        0.7784249118997964e-1,
        0.3245075353396018,
        0.7494013383880406e-2,
        0.1622293157301561e-7,
        0.1135863833257075e-7,
        0.2230505975721359e-2,
        0.2087162882798630e-3,
        0.1396921016840158e-4,
        0.8964884856898295e-2,
        0.4352846369330103e-17,
        0.6899219696263405e-2,
        0.1007803037365946e-3,
        0.1772146513969984e-5,
        0.5682943292316392e-4,
    ),
}


RESTARTS = {"van der Pol, mu=1e6": (0.8, 1.6)}
"""Times before jumps so fast that float64 cannot resolve steps of theirs; the clock starts from 0 again there."""

LOOSER = {"van der Pol, mu=1e6": 1e-10}
"""Where LSODA does not end in reasonable time at 1e-13."""


BY_STEPS = ("Robertson", "Brusselator")
"""Problems too long or too large to solve the adjoint equation."""


def solve(problem: Problem, method: str, rtol: float, **more: Any) -> Any:
    """Return SciPy's solution."""
    if method in ("Radau", "BDF", "LSODA"):
        more["jac"] = problem.numpy_jacobian
    span, start = (problem.t0, problem.t1), np.array(problem.y0)
    found = solve_ivp(problem.numpy_field, span, start, method, rtol=rtol, atol=rtol * problem.atol, **more)
    if not found.success:
        raise RuntimeError(f"{problem.name}: {method} failed: {found.message}")
    return found


def end(problem: Problem, method: str, rtol: float = RTOL) -> Any:
    """Return the state at t1."""
    if problem.name not in RESTARTS:
        return solve(problem, method, rtol).y[:, -1]
    y: Any = problem.y0
    for start, stop in pairwise((problem.t0, *RESTARTS[problem.name], problem.t1)):
        y = solve(replace(problem, t0=0.0, t1=stop - start, y0=tuple(y)), method, rtol).y[:, -1]
    return y


def digits(problem: Problem, a: Any, b: Any) -> float:
    """Return to how many significant digits two states agree."""
    apart = float(np.max(np.abs(a - b) / (problem.atol + np.abs(b))))
    return round(min(-log10(max(apart, 1e-16)), 16.0), 1)


def condition(problem: Problem) -> float:
    """Return the largest growth of an error up to the end; 1 where the steps are too short for the clock."""
    if problem.name in RESTARTS:
        return 1.0
    states, growth = along_steps(problem) if problem.name in BY_STEPS else along_variation(problem)
    tolerated = problem.atol + np.abs(states)
    largest = np.abs(growth * tolerated[:, None, :] / tolerated[-1][:, None]).sum(2).max()
    return float(f"{largest:.2g}")


def along_variation(problem: Problem) -> tuple[Any, Any]:
    """Return states (S, n) at the steps, and the derivatives of the last with respect to each (S, n, n)."""
    n = len(problem.y0)
    method = "Radau" if problem.stiff else "DOP853"
    found = solve(problem, method, 1e-10 if problem.stiff else 1e-9, dense_output=True)

    def jacobian(t: float) -> Any:
        return problem.numpy_jacobian(t, found.sol(t).copy())

    def f(t: float, growth: Any) -> Any:
        return -(growth.reshape(n, n) @ jacobian(t)).ravel()

    more = {"jac": lambda t, growth: -np.kron(np.eye(n), jacobian(t).T)} if problem.stiff else {}
    span = problem.t1, problem.t0
    growth = solve_ivp(f, span, np.eye(n).ravel(), method, rtol=1e-5, atol=1e-8, t_eval=found.t[::-1], **more)
    return found.y.T, growth.y.T[::-1].reshape(-1, n, n)


def along_steps(problem: Problem) -> tuple[Any, Any]:
    """Return the same, roughly: the inverse of I - z + z^2/2 stands for exp(z), being 0 for the stiff parts."""
    found = solve(problem, "Radau", 1e-7)
    times, states = found.t, found.y.T
    one, root = np.eye(states.shape[1]), (1 + 1j) / 2
    growth = [one]
    for i in reversed(range(len(times) - 1)):
        middle = problem.numpy_jacobian((times[i] + times[i + 1]) / 2, (states[i] + states[i + 1]) / 2)
        z = (times[i + 1] - times[i]) * middle
        step = np.linalg.solve(one - root * z, np.linalg.inv(one - root.conjugate() * z)).real
        growth.append(growth[-1] @ step)
    return states, np.stack(growth[::-1])


def reference(problem: Problem) -> dict[str, Any]:
    """Return the end state, how it was found, and how many digits are sure."""
    method = "Radau" if problem.stiff else "DOP853"
    main, other = end(problem, method), end(problem, "LSODA", LOOSER.get(problem.name, RTOL))
    about: dict[str, Any] = {"method": method, "digits": {"LSODA": digits(problem, main, other)}}
    if problem.name in PUBLISHED:
        published = np.array(PUBLISHED[problem.name])
        about["digits"]["published"] = digits(problem, main, published)
        main, about["method"] = published, "published"
    return {"end": main.tolist(), **about}


def main(names: list[str]) -> None:
    for name in names or list(PROBLEMS):
        problem = PROBLEMS[name]
        entry = {} if problem.exact else reference(problem)
        entry["condition"] = condition(problem)
        print(name, {key: value for key, value in entry.items() if key != "end"}, flush=True)
        kept = json.loads(REFERENCES.read_text())["problems"] if REFERENCES.exists() else {}
        kept[name] = entry
        ordered = {name: kept[name] for name in PROBLEMS if name in kept}
        about = {"command": "python -m benchmarks.problems.reference", "scipy": scipy.__version__, "rtol": RTOL}
        REFERENCES.write_text(json.dumps({**about, "problems": ordered}, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
