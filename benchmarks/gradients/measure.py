"""Error, evaluations, memory and time of every gradient method with every solver that suits it."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

import isocline as iso
from benchmarks.gradients.cases import Case, solver_called
from benchmarks.peers.timing import in_turns
from isocline.experiments.memory import peak_memory
from isocline.gradients import GRADIENTS

Record = dict[str, Any]
TOLERANCES = (1e-4, 1e-6, 1e-8)
MIDDLE = 1e-6
"""The tolerance at which work, memory and time are compared."""

MOST_STEPS = 5_000
MOST_OF_REFERENCE = 50_000
METHODS: dict[str, iso.Gradient] = {**GRADIENTS, "checkpoint-8": iso.RecursiveCheckpointAdjoint(8)}


def differentiate(
    case: Case, solver: str, gradient: iso.Gradient, rtol: float, max_steps: int = MOST_STEPS
) -> tuple[Tensor, iso.Stats]:
    """Solve, and return the flat gradient with respect to y0 and theta."""
    y0, *theta = inputs = case.inputs
    sol = iso.solve(
        case.f,
        y0,
        case.ts,
        args=tuple(theta),
        method=solver_called(solver),
        rtol=rtol,
        atol=rtol * case.atol,
        batch_dims=case.batch_dims,
        gradient=gradient,
        max_steps=max_steps,
    )
    return flat(torch.autograd.grad(case.loss(sol.ys), inputs)), sol.stats


def flat(parts: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([part.flatten() for part in parts])


def reference(case: Case) -> tuple[Tensor, Record]:
    """Return the reference gradient, and where it comes from."""
    if case.exact is not None:
        inputs = case.inputs
        return flat(torch.autograd.grad(case.loss(case.exact(case.ts, *inputs)), inputs)), {"by": "closed form"}
    found, other = (
        differentiate(case, name, iso.DirectAdjoint(), rtol, MOST_OF_REFERENCE)[0] for name, rtol in case.judges
    )
    (name, rtol), (second, loose) = case.judges
    by = f"`{name}` at {rtol:g}, through its steps; `{second}` at {loose:g} differs by {distance(other, found):.0e}"
    return found, {"by": by}


def distance(gradient: Tensor, exact: Tensor) -> float:
    """Relative error, all components in one norm."""
    return float((gradient - exact).norm() / exact.norm())


def measure(case: Case, tolerances: tuple[float, ...]) -> Record:
    """Return errors and counts at all tolerances, and peak memory at the middle one; no times."""
    exact, source = reference(case)
    solvers = {
        solver: {
            name: {"points": [point(case, solver, gradient, rtol, exact) for rtol in tolerances]}
            for name, gradient in METHODS.items()
            if gradient.suits(solver_called(solver))
        }
        for solver in case.solvers
    }
    sizes = {"unknowns": case.y0.numel(), "parameters": sum(x.numel() for x in case.theta)}
    return {"about": case.about, **sizes, "reference": source["by"], "solvers": solvers}


def point(case: Case, solver: str, gradient: iso.Gradient, rtol: float, exact: Tensor) -> Record:
    """Return what one tolerance gives, or why it gives nothing."""
    call = partial(differentiate, case, solver, gradient, rtol)
    with warnings.catch_warnings(record=True) as warned:
        try:
            found, stats = call()
        except RuntimeError as error:
            return {"tolerance": rtol, "failed": str(error).splitlines()[0][:200]}
    backward = stats.backward
    entry = {
        "tolerance": rtol,
        "error": distance(found, exact),
        "warned": bool(warned),
        "forward": stats.evaluations,
        "backward": backward.evaluations if backward else 0,
        "steps": int(stats.accepted.max()),
    }
    return {**entry, "bytes": peak_memory(call)} if rtol == MIDDLE else entry


def add_times(case: Case, record: Record, rounds: int, least: float) -> None:
    """Time both passes at the middle tolerance, the methods of a solver in turns, where they gave a gradient."""
    for solver, entries in record["solvers"].items():
        calls: dict[str, Callable[[], Any]] = {
            name: partial(differentiate, case, solver, METHODS[name], MIDDLE)
            for name, entry in entries.items()
            if all("error" in found for found in entry["points"] if found["tolerance"] == MIDDLE)
        }
        for name, found in in_turns(calls, rounds, least).items():
            entries[name]["time"] = found
