"""What an evaluation of the planar CNF costs, density included, against its number of hidden units.

    python -m benchmarks.planar_cost     # prints the table and writes benchmarks/results/planar_cost.json

Counted: the multiplications of matrix products, and the numbers that all other operations write, forwards and with the
gradient of the log-likelihood. Seconds, the best of several, are measured beside it. Fails if a count grows faster than
M^1.1 from M = 8 to 512, between any two neighbours.
"""

import json
import platform
from collections.abc import Callable
from itertools import pairwise
from math import log
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from isocline.models.flows import LogDensity, PlanarField
from isocline.tree import leaves

RESULT = Path(__file__).parent / "results" / "planar_cost.json"
UNITS = (8, 16, 32, 64, 128, 256, 512)
BATCH = 512
MOST = 1.1
"""The largest exponent of M."""


class Written(TorchDispatchMode):
    """Counts the numbers that operations write; views write none."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.numbers += sum(x.numel() for x in leaves(result) if isinstance(x, Tensor))
        return result


def evaluation(units: int, dim: int = 2, gradient: bool = True) -> Callable[[], None]:
    """Return one evaluation of the field with its log-density, and of its gradient."""
    torch.manual_seed(0)
    field = LogDensity(PlanarField(dim, units))
    state, _ = field.start(torch.randn(BATCH, dim))
    t = torch.tensor(0.5)

    def run() -> None:
        dz, change, _ = field(t, state, None)
        if gradient:
            torch.autograd.grad(dz.sum() + change.sum(), list(field.parameters()))

    return run


def counts(units: int, **settings: Any) -> dict[str, int]:
    """Return what an evaluation multiplies in matrix products, and writes."""
    run = evaluation(units, **settings)
    with FlopCounterMode(display=False) as flops, Written() as written:
        run()
    return {"flops": flops.get_total_flops(), "written": written.numbers}


def exponents(rows: list[dict[str, Any]], key: str) -> list[float]:
    """Return by which power of M a cost grows, between neighbours."""
    return [log(b[key] / a[key]) / log(b["units"] / a["units"]) for a, b in pairwise(rows)]


def seconds(units: int, repeats: int = 30) -> float:
    """Return the time of an evaluation, the best of several."""
    run, times = evaluation(units), []
    for _ in range(repeats):
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return min(times)


def main() -> None:
    torch.set_num_threads(1)
    rows = [{"units": units, **counts(units), "seconds": seconds(units)} for units in UNITS]
    for row in rows:
        counted = f"{row['flops']:12,} flops {row['written']:12,} written"
        print(f"M = {row['units']:4}: {counted} {row['seconds'] * 1e3:8.3f} ms")
    found = {key: exponents(rows, key) for key in ("flops", "written", "seconds")}
    overall = {key: log(rows[-1][key] / rows[0][key]) / log(UNITS[-1] / UNITS[0]) for key in found}
    print("exponents from the first to the last:", {key: round(value, 3) for key, value in overall.items()})
    RESULT.write_text(
        json.dumps(
            {
                "command": "python -m benchmarks.planar_cost",
                "problem": f"PlanarField(2, M) with its log-density, and their gradient, batch {BATCH}, one thread",
                "torch": torch.__version__,
                "machine": platform.processor() or platform.machine(),
                "exponents": overall,
                "largest": {key: max(values) for key, values in found.items()},
                "rows": rows,
            },
            indent=1,
        )
        + "\n"
    )
    for key in ("flops", "written"):
        if max(found[key]) > MOST:
            raise SystemExit(f"{key} grows like M^{max(found[key]):.2f}")


if __name__ == "__main__":
    main()
