"""SciPy's `solve_ivp` with RK45, which is the same method. It computes in float64 whatever it is given."""

from typing import Any

import numpy as np

from benchmarks.peers.case import Case, canonical, map_state, pack, to_numpy, unpack
from benchmarks.peers.contender import Answer, Contender, Counts, Job

MOST_SAMPLES = 300
"""One by one, more samples than this take too long."""


def solve_all(case: Case, method: str, rtol: float, atol: float) -> tuple[np.ndarray, list[Any]]:
    """Solve jointly, or sample by sample; return packed states (times, batch, numbers) and SciPy's own results."""
    from scipy.integrate import solve_ivp

    y0, ts = pack(np, map_state(to_numpy, case.y0)), to_numpy(case.ts)
    weights = {name: to_numpy(weight) for name, weight in case.field.state_dict().items()}
    args = [to_numpy(arg) for arg in case.args]

    def solve(start: np.ndarray, args: list[Any]) -> Any:
        def f(t: float, y: np.ndarray) -> Any:
            if start.ndim == 1:
                return case.field.array(np, weights, t, y, *args)
            return pack(np, case.field.array(np, weights, t, unpack(case, y.reshape(start.shape)), *args)).ravel()

        return solve_ivp(f, (ts[0], ts[-1]), start.ravel(), method, t_eval=ts, rtol=rtol, atol=atol)

    if not case.per_sample:
        found = solve(y0, args)
        return found.y.T.reshape(len(ts), *y0.shape), [found]
    each = [solve(start, [arg[i] for arg in args]) for i, start in enumerate(y0)]
    return np.stack([found.y.T for found in each], axis=1), each


def build(case: Case, device: str) -> Job:
    def call() -> tuple[np.ndarray, list[Any]]:
        return solve_all(case, "RK45", case.rtol, case.atol)

    def count() -> Counts:
        evaluations = [found.nfev for found in call()[1]]
        if case.per_sample:
            return {"evaluations": max(evaluations), "rows": sum(evaluations)}
        return {"evaluations": evaluations[0]}

    return Job(call, lambda found: Answer(canonical(case, found[0])), count)


def suits(case: Case) -> bool:
    few = not case.per_sample or case.batch <= MOST_SAMPLES
    return few and not case.overhead


CONTENDERS = [Contender("scipy", "scipy", build, suits=suits)]
