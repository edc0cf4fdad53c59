"""Peak memory of a solve with its backward pass, against the number of steps.

    python benchmarks/memory.py            # prints the table and writes benchmarks/results/memory.json

Takes some minutes. Only the end is saved. Counted: every tensor that is alive at once beyond the parameters. Not
counted: Python's own objects, among them the tape of accepted times (16 bytes a step and lane). (A budget K so large
that 100 steps do not fill it is not full yet at 100 steps, and grows until it is.)
"""

import json
import platform
from functools import partial
from pathlib import Path

import torch

import isocline as iso
from isocline.experiments.memory import peak_memory
from isocline.gradients import GRADIENTS

RESULT = Path(__file__).parent / "results" / "memory.json"
CASES: dict[str, iso.Gradient] = {
    "RecursiveCheckpointAdjoint(8)": iso.RecursiveCheckpointAdjoint(8),
    "RecursiveCheckpointAdjoint(16)": iso.RecursiveCheckpointAdjoint(16),
    "ReversibleAdjoint(1)": iso.ReversibleAdjoint(1),
    **{f"{type(gradient).__name__}()": gradient for gradient in GRADIENTS.values()},
}
BOUNDED = (
    "RecursiveCheckpointAdjoint(8)",
    "RecursiveCheckpointAdjoint(16)",
    "ReversibleAdjoint(1)",
    "ReversibleAdjoint()",
    "BacksolveAdjoint()",
)
STEPS = (100, 1_000, 10_000)
UNBOUNDED_STEPS = (100, 1_000)


def training_step(gradient: iso.Gradient, steps: int) -> iso.Stats:
    torch.manual_seed(0)
    field = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Tanh()).double()
    controller = iso.FixedStep(1.0 / steps)
    euler = iso.METHODS["euler"]
    sol = iso.solve(
        lambda t, y: field(y),
        torch.randn(1024, 64, dtype=torch.float64),
        (0.0, 1.0),
        method=euler if gradient.suits(euler) else iso.Reversible("euler"),
        controller=controller,
        gradient=gradient,
    )
    sol.ys[-1].square().mean().backward()
    return sol.stats


def main() -> None:
    rows = []
    for name, gradient in CASES.items():
        counts = STEPS if name in BOUNDED else UNBOUNDED_STEPS
        peaks = {steps: peak_memory(partial(training_step, gradient, steps)) for steps in counts}
        growth = peaks[counts[-1]] / peaks[counts[0]] - 1
        rows.append({"gradient": name, "peak_bytes": peaks, "growth": growth, "bounded": name in BOUNDED})
        print(
            f"{name:32}",
            *(f"{steps:>6} steps {peak / 2**20:8.2f} MiB" for steps, peak in peaks.items()),
            f"{growth:+.1%}",
        )
    RESULT.write_text(
        json.dumps(
            {
                "command": "python benchmarks/memory.py",
                "problem": "tanh(Linear(64, 64)), batch 1024, float64, euler with fixed steps (its reversible form for "
                "ReversibleAdjoint), only the end saved",
                "torch": torch.__version__,
                "machine": platform.processor() or platform.machine(),
                "rows": rows,
            },
            indent=1,
        )
        + "\n"
    )
    for row in rows:
        if row["bounded"] and row["growth"] >= 0.05:
            raise SystemExit(f"{row['gradient']}: grew by {row['growth']:.1%} from {STEPS[0]} to {STEPS[-1]} steps")


if __name__ == "__main__":
    main()
