"""Error, evaluations, memory and time of gradients: problem by solver by gradient method.

    python -m benchmarks.gradients                        # everything: some ten minutes
    python -m benchmarks.gradients --problems Lorenz MLP  # some problems, put in place of earlier ones
    python -m benchmarks.gradients --no-times             # for a machine that is not quiet,
    python -m benchmarks.gradients --times-only           # and when it is
    python -m benchmarks.gradients --page                 # only the page, from the results

Writes benchmarks/results/gradients.json after each problem, then docs/gradients-table.md.
"""

import argparse
import json
import shlex
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.gradients.cases import CASES
from benchmarks.gradients.measure import TOLERANCES, add_times, measure
from benchmarks.gradients.page import render
from benchmarks.peers.results import machine, save, versions

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "gradients.json"
PAGE = ROOT / "docs" / "gradients-table.md"


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.gradients", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", nargs="+", default=[], choices=list(CASES), metavar="PROBLEM")
    parser.add_argument("--solvers", nargs="+", metavar="SOLVER", help="only these, where a problem has them")
    parser.add_argument("--tolerances", nargs="+", type=float, default=TOLERANCES, help="default 1e-4 1e-6 1e-8")
    parser.add_argument("--rounds", type=int, default=11, help="samples of each time (default 11)")
    parser.add_argument("--quick", action="store_true", help="3 rounds of short samples: to see that it works")
    times = parser.add_mutually_exclusive_group()
    times.add_argument("--no-times", action="store_true", help="measure no times")
    times.add_argument("--times-only", action="store_true", help="add times to what was measured before")
    parser.add_argument("--page", action="store_true", help="measure nothing; make the page")
    parser.add_argument("--results", type=Path, default=RESULTS, help="another file; the page is made beside it")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    options = parse(arguments)
    torch.set_num_threads(1)
    results = json.loads(options.results.read_text()) if options.results.exists() else {"problems": {}}
    if not options.page:
        run(results, options, shlex.join(["python", "-m", "benchmarks.gradients", *arguments]))
    page = PAGE if options.results == RESULTS else options.results.with_suffix(".md")
    page.write_text(render(results))


def run(results: dict[str, Any], options: argparse.Namespace, command: str) -> None:
    about = {
        "command": command,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": machine("cpu"),
        "versions": {name: v for name, v in versions().items() if name in ("python", "isocline", "torch")},
    }
    rounds, least = (3, 0.005) if options.quick else (options.rounds, 0.02)
    for name in options.problems or CASES:
        case = CASES[name]
        if options.solvers:
            case = replace(case, solvers=tuple(solver for solver in case.solvers if solver in options.solvers))
        record = results["problems"][name] if options.times_only else measure(case, tuple(options.tolerances))
        if not options.no_times:
            add_times(case, record, rounds, least)
        results["problems"][name] = record
        results.update(about)
        results["problems"] = {key: results["problems"][key] for key in CASES if key in results["problems"]}
        save(results, options.results)
        print(name, {solver: len(entries) for solver, entries in record["solvers"].items()}, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
