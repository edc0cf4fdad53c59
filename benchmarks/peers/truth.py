"""The answers that contenders are checked against, and how far off one is."""

from dataclasses import replace

import numpy as np
import torch

import isocline as iso
from benchmarks.peers.case import Case, canonical, leaves, map_state, to_numpy
from benchmarks.peers.contender import Answer
from benchmarks.peers.scipy_ import solve_all

TIGHT = {"rtol": 1e-10, "atol": 1e-12}
CHEAP = 10_000
"""States of at most so many numbers are solved by SciPy's DOP853, too."""


def truth_of(case: Case) -> Answer:
    """Solve in float64 with tight tolerances. The gradient is by checkpoints: exact, in little memory."""
    case = case.double()
    y0 = map_state(lambda leaf: leaf.requires_grad_(case.gradient), case.y0)
    settings = {"gradient": iso.RecursiveCheckpointAdjoint(), "batch_dims": int(case.per_sample), **TIGHT}
    with torch.set_grad_enabled(case.gradient):
        ys = iso.solve(case.field, y0, case.ts, args=case.args, method="dopri5", max_steps=10**6, **settings).ys
    states = canonical(case, ys)
    if not case.gradient:
        return Answer(states)
    loss = sum(leaf[-1].square().sum() for leaf in leaves(ys))
    wanted = [*leaves(y0), *case.field.parameters()]
    parts = torch.autograd.grad(loss, wanted, materialize_grads=True)
    return Answer(states, np.concatenate([to_numpy(part).ravel() for part in parts]))


def disagreement(case: Case, truth: Answer) -> float | None:
    """Return how far SciPy's DOP853 is from the truth, or None where that would take long."""
    if truth.states[0].size > CHEAP:
        return None
    try:
        # All samples at once, which numpy does quickly; at these tolerances it makes no difference.
        states, _ = solve_all(replace(case, per_sample=False), "DOP853", 1e-11, 1e-12)
    except ImportError:
        return None
    return relative_error(canonical(case, states), truth.states)


def relative_error(found: np.ndarray, truth: np.ndarray) -> float:
    """Return the size of the difference in units of the truth's: inf for what is not finite."""
    error = float(np.linalg.norm(found - truth) / np.linalg.norm(truth))
    return error if np.isfinite(error) else float("inf")


def errors(case: Case, answer: Answer | None, truth: Answer) -> tuple[dict[str, float], bool]:
    """Return the errors of an answer, and whether they are within the case's bounds."""
    if answer is None:
        return {}, True
    found = {"error": relative_error(answer.states, truth.states)}
    right = found["error"] <= case.bound
    if answer.gradient is not None and truth.gradient is not None:
        found["gradient_error"] = relative_error(answer.gradient, truth.gradient)
        right = right and found["gradient_error"] <= case.gradient_bound
    return found, right
