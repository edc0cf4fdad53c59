"""Error against evaluations and time, isocline's methods beside SciPy's.

    python -m benchmarks.work_precision                             # everything: about half an hour
    python -m benchmarks.work_precision --problems HIRES Pleiades   # some problems, put in place of earlier ones
    python -m benchmarks.work_precision --page                      # only page and figures, from the results

Writes benchmarks/results/work_precision.json after each problem, then docs/work-precision.md and the figures in
docs/figures.
"""

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers.results import machine, save, versions
from benchmarks.problems import PROBLEMS
from benchmarks.work_precision.figure import draw
from benchmarks.work_precision.measure import TOLERANCES, measure
from benchmarks.work_precision.page import FAMILIES, render, works

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "work_precision.json"
PAGE = ROOT / "docs" / "work-precision.md"


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.work_precision", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", nargs="+", default=[], choices=list(PROBLEMS), metavar="PROBLEM")
    parser.add_argument("--tolerances", nargs="+", type=float, default=TOLERANCES)
    parser.add_argument("--seconds", type=float, default=10.0, help="a method that takes longer goes no further")
    parser.add_argument("--page", action="store_true", help="measure nothing; make page and figures")
    parser.add_argument("--results", type=Path, default=RESULTS, help="another file; the page is made beside it")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    options = parse(arguments)
    torch.set_num_threads(1)
    results = json.loads(options.results.read_text()) if options.results.exists() else {"problems": {}}
    if not options.page:
        run(results, options)
    page = PAGE if options.results == RESULTS else options.results.with_suffix(".md")
    make_page(results, page)


def run(results: dict[str, Any], options: argparse.Namespace) -> None:
    about = {
        "command": " ".join(["python -m benchmarks.work_precision", *sys.argv[1:]]),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": machine("cpu"),
        "versions": {name: v for name, v in versions().items() if name in ("python", "isocline", "torch", "scipy")},
    }
    for name in options.problems or PROBLEMS:
        results["problems"][name] = measure(PROBLEMS[name], tuple(options.tolerances), options.seconds)
        results.update(about)
        results["problems"] = {key: results["problems"][key] for key in PROBLEMS if key in results["problems"]}
        save(results, options.results)
        print(name, {method: len(points) for method, points in results["problems"][name].items()}, flush=True)


def make_page(results: dict[str, Any], page: Path) -> None:
    figures = page.parent / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    for key, (_, problems) in FAMILIES.items():
        measured = {p.name: results["problems"][p.name] for p in problems if p.name in results["problems"]}
        for work in works(key) if measured else ():
            draw(measured, work, figures / f"work-precision-{key}-{work}")
    page.write_text(render(results))


if __name__ == "__main__":
    main(sys.argv[1:])
