"""Energy of a Kepler orbit over a thousand periods: splitting methods beside Runge-Kutta methods of the same cost.

    python benchmarks/kepler.py     # some minutes; writes benchmarks/results/kepler.json and docs/figures/kepler.png

The orbit has eccentricity 0.2. Steps have a fixed size, such that a method evaluates f about 120 times a period; those
of order six and eight, whose steps are long, 170 and 360 times.
"""

import json
import math
from pathlib import Path

import torch
from torch import Tensor

import isocline as iso

HERE = Path(__file__).parent
RESULT = HERE / "results" / "kepler.json"
FIGURE = HERE.parent / "docs" / "figures" / "kepler.png"
STEPS = {"leapfrog": 60, "yoshida4": 20, "rk4": 30, "tsit5": 20, "yoshida6": 12, "yoshida8": 12}
"""Steps a period."""
PERIODS, WINDOWS, SAMPLES, ECCENTRICITY = 1000, 50, 37, 0.2
F64 = torch.float64


def kepler(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    q, p = state
    return p, -q * (q * q).sum(-1, keepdim=True) ** -1.5


def energy(q: Tensor, p: Tensor) -> Tensor:
    return (p * p).sum(-1) / 2 - 1 / (q * q).sum(-1).sqrt()


def measure(method: str) -> dict[str, object]:
    """Largest error of the energy, relative, in each of the windows, and evaluations of f a period."""
    q = torch.tensor([1 - ECCENTRICITY, 0.0], dtype=F64)
    p = torch.tensor([0.0, math.sqrt((1 + ECCENTRICITY) / (1 - ECCENTRICITY))], dtype=F64)
    step = 2 * math.pi / STEPS[method]
    # Samples at ends of steps, all around the orbit: it is the method that is measured, not its interpolant.
    steps = torch.linspace(0, PERIODS * STEPS[method], WINDOWS * SAMPLES + 1, dtype=F64).round().unique()
    with torch.no_grad():
        sol = iso.solve(
            kepler, (q, p), steps * step, method=method, controller=iso.FixedStep(step), max_steps=10**6, throw=False
        )
    error = (energy(*sol.ys) / energy(q, p) - 1).abs()
    windows = (steps / steps[-1] * WINDOWS).long().clamp(max=WINDOWS - 1)
    largest = [float(error[windows == i].nan_to_num(math.inf).max()) for i in range(WINDOWS)]
    return {"steps_a_period": STEPS[method], "evaluations": sol.stats.evaluations / PERIODS, "energy_error": largest}


def draw(results: dict[str, dict[str, object]]) -> None:
    import matplotlib.pyplot as plt

    plt.figure(figsize=(7, 4))
    periods = [(i + 1) * PERIODS / WINDOWS for i in range(WINDOWS)]
    for method, result in results.items():
        plt.semilogy(
            periods, result["energy_error"], label=method, linestyle="--" if method in ("rk4", "tsit5") else "-"
        )
    plt.xlabel("periods")
    plt.ylabel("largest relative error of the energy")
    plt.legend(ncols=2)
    plt.tight_layout()
    plt.savefig(FIGURE, dpi=150)


def main() -> None:
    results = {}
    print(
        "| method | steps a period | evaluations a period | energy error, first 2 % | last 2 % |\n|---|---|---|---|---|"
    )
    for method in STEPS:
        results[method] = result = measure(method)
        errors = result["energy_error"]
        print(
            f"| {method} | {STEPS[method]} | {result['evaluations']:.0f} | {errors[0]:.1e} | {errors[-1]:.1e} |",
            flush=True,
        )
    RESULT.write_text(
        json.dumps({"eccentricity": ECCENTRICITY, "periods": PERIODS, "methods": results}, indent=1) + "\n"
    )
    draw(results)


if __name__ == "__main__":
    main()
