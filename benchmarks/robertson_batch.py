"""A stiff batch: 1,000 Robertson problems, each with its own rate constants, spread over four decades.

    python -m benchmarks.robertson_batch            # the table, also in benchmarks/results/robertson_batch.json
    python -m benchmarks.robertson_batch --methods rodas5p --samples 100

Stiff methods of high order solve all of them per sample, in float64. SciPy's BDF solves them in a Python loop, with f
and its Jacobian in NumPy; it is timed on 50 of them, and the time scaled to all. Errors are over atol / rtol + |y|
against SciPy's LSODA at 1e-12 on the same 50. Gradients of ``sum(log y)``, y being the first reactant at the end, with
respect to the logarithms of all rate constants are compared with central differences of LSODA at 1e-12 on 5 of them:
the largest deviation over the largest of a sample's three derivatives.
"""

import argparse
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

import isocline as iso
from benchmarks.peers.results import machine
from benchmarks.problems.stiff import robertson

RESULT = Path(__file__).parent / "results" / "robertson_batch.json"
METHODS = ("rodas5p", "rodas4", "kvaerno5", "bdf", "radau")
"""Of order 4 and above; the others of them need too many steps for the gradients' tolerance."""
RATES = (0.04, 3e7, 1e4)
DECADES = 4.0
ATOL = 1e-6
"""Absolute tolerance over the relative one."""


def rates(samples: int) -> Tensor:
    """Return rate constants (samples, 3): the usual ones times independent factors from 1e-2 to 1e2."""
    spread = torch.rand(samples, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.5
    return torch.tensor(RATES, dtype=torch.float64) * 10 ** (DECADES * spread)


def f(t: Tensor, y: Tensor, k: Tensor) -> Tensor:
    return robertson(t, y, *k.unbind(-1))


def solve(method: str, k: Tensor, end: float, rtol: float, gradient: iso.Gradient | None = None) -> iso.Solution:
    start = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64).expand(len(k), 3)
    args = (iso.PerLane(k),)
    return iso.solve(
        f, start, (0.0, end), args=args, method=method, rtol=rtol, atol=rtol * ATOL, batch_dims=1, gradient=gradient
    )


def by_scipy(method: str, k: Any, end: float, rtol: float) -> Any:
    """Return the state at the end, of one problem, in plain NumPy."""
    k1, k2, k3 = map(float, k)

    def field(t: float, y: Any) -> list[float]:
        a, b, c = y
        slow, fast = k1 * a - k3 * b * c, k2 * b * b
        return [-slow, slow - fast, fast]

    def jacobian(t: float, y: Any) -> Any:
        _, b, c = y
        return np.array(
            [[-k1, k3 * c, k3 * b], [k1, -k3 * c - 2 * k2 * b, -k3 * b], [0.0, 2 * k2 * b, 0.0]], dtype=float
        )

    start = [1.0, 0.0, 0.0]
    found = solve_ivp(field, (0.0, end), start, method, rtol=rtol, atol=rtol * ATOL, jac=jacobian)
    if not found.success:
        raise RuntimeError(f"SciPy's {method} failed: {found.message}")
    return found.y[:, -1]


def differences(k: Any, end: float, h: float = 1e-3) -> Any:
    """Return d log y1 / d log k (3,) by central differences of the fourth order."""
    result = []
    for i in range(3):
        change = 0.0
        for steps, weight in ((-2, 1 / 12), (-1, -2 / 3), (1, 2 / 3), (2, -1 / 12)):
            factor = np.ones(3)
            factor[i] = np.exp(steps * h)
            change += weight * np.log(by_scipy("LSODA", k * factor, end, 1e-12)[0]) / h
        result.append(change)
    return np.array(result)


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    start = perf_counter()
    value = call()
    return value, perf_counter() - start


def error(y: Any, end: Any) -> float:
    return float(np.max(np.abs(y - end) / (ATOL + np.abs(end))))


def gradients(method: str, k: Tensor, end: float, rtol: float) -> tuple[Tensor, float]:
    """Return d sum(log y1) / d log k for every sample, and the time of both passes."""
    log_k = k.log().requires_grad_()

    def call() -> Tensor:
        sol = solve(method, log_k.exp(), end, rtol, iso.RecursiveCheckpointAdjoint())
        return torch.autograd.grad(sol.ys[-1][:, 0].log().sum(), log_k)[0]

    return timed(call)


def measure(method: str, k: Tensor, options: argparse.Namespace, truth: dict[str, Any]) -> dict[str, Any]:
    """Return time, counts, errors, and those of the gradient, of one method."""
    end, rtol = options.end, options.rtol
    with torch.no_grad():
        solve(method, k[:2], end, rtol)  # warms up
        sol, seconds = timed(lambda: solve(method, k, end, rtol))
    found, gradient_seconds = gradients(method, k, end, options.gradient_rtol)
    few = truth["few"]
    apart = np.abs(found[few].numpy() - truth["gradients"]).max(1) / np.abs(truth["gradients"]).max(1)
    return {
        "seconds": seconds,
        "times_faster": truth["scipy_seconds"] / seconds,
        "error": error(sol.ys[-1][truth["chosen"]].numpy(), truth["ends"]),
        "evaluations": sol.stats.evaluations,
        "rows": sol.stats.rows,
        "steps": [int(sol.stats.steps.min()), int(sol.stats.steps.max())],
        "gradient_seconds": gradient_seconds,
        "gradient_error": float(apart.max()),
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=[name for name in METHODS if name in iso.METHODS])
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--timed", type=int, default=50, help="samples that SciPy solves")
    parser.add_argument("--end", type=float, default=1e5, help="SciPy's BDF gives up on the way to 1e11")
    parser.add_argument("--rtol", type=float, default=1e-6)
    parser.add_argument("--gradient-rtol", type=float, default=1e-8)
    return parser.parse_args()


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", RuntimeWarning)
    k = rates(options.samples)
    chosen = torch.linspace(0, options.samples - 1, min(options.timed, options.samples)).long()
    few = chosen[:: max(len(chosen) // 5, 1)][:5]
    some, end = k[chosen].numpy(), options.end
    bdf, seconds = timed(lambda: np.stack([by_scipy("BDF", each, end, options.rtol) for each in some]))
    ends = np.stack([by_scipy("LSODA", each, end, 1e-12) for each in some])
    truth = {
        "chosen": chosen,
        "ends": ends,
        "few": few,
        "gradients": np.stack([differences(each, end) for each in k[few].numpy()]),
        "scipy_seconds": seconds * options.samples / len(chosen),
    }
    print(f"scipy BDF      {truth['scipy_seconds']:8.1f} s (scaled)   error {error(bdf, ends):.1e}", flush=True)
    rows = {}
    for method in options.methods:
        row = rows[method] = measure(method, k, options, truth)
        print(
            f"{method:14} {row['seconds']:8.2f} s {row['times_faster']:6.1f} times faster   error {row['error']:.1e}   "
            f"gradient {row['gradient_seconds']:6.1f} s, error {row['gradient_error']:.1e}",
            flush=True,
        )
    about = {
        "command": "python -m benchmarks.robertson_batch",
        "settings": vars(options),
        "machine": machine("cpu"),
        "torch": torch.__version__,
        "scipy_seconds": truth["scipy_seconds"],
        "scipy_error": error(bdf, ends),
    }
    RESULT.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
