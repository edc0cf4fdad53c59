"""docs/gradients-table.md, made from the results alone."""

import re
from collections import Counter
from typing import Any

from benchmarks.gradients.measure import METHODS, MIDDLE
from benchmarks.peers.page import milliseconds, table

Results = dict[str, Any]

HEAD = """# Gradients: errors, evaluations, memory, time

Made by `python -m benchmarks.gradients`. All numbers: `benchmarks/results/gradients.json`. What follows from them:
[Which gradient?](gradients.md)

A weighted sum of the saved states is differentiated by the initial state and all parameters, in float64. The error is
that of the whole gradient in the Euclidean norm, relative, against a reference; with the gradient methods that
differentiate the steps it is the error of the solution, not of the method. Counts are calls of the field, forwards +
backwards; a Jacobian counts as one. Memory is the peak of all tensors alive at once beyond the parameters, over both
passes. Times are those of both passes: the median of samples taken in turns. "Warned": the method said itself that its
gradient may be wrong; "failed": it raised an error.
"""


def render(results: Results) -> str:
    """Return the page."""
    return "\n".join([HEAD, *(section(name, record) for name, record in results["problems"].items()), run(results)])


def section(name: str, record: dict[str, Any]) -> str:
    """Return the table of one problem: a row a solver and gradient method."""
    tolerances = [p["tolerance"] for p in next(iter(next(iter(record["solvers"].values())).values()))["points"]]
    errors = [f"error at {tolerance:g}" for tolerance in tolerances]
    head = ["solver", "gradient", *errors, "steps", "evaluations", "memory (kB)", "time (ms)"]
    rows = [
        [f"`{solver}`", label(key), *cells(entry)]
        for solver, entries in record["solvers"].items()
        for key, entry in entries.items()
    ]
    about = f"{record['about']}. Unknowns: {record['unknowns']}, parameters: {record['parameters']}."
    work = f"Steps, evaluations, memory and time at {MIDDLE:g}."
    return f"## {name}\n\n{about} Reference: {record['reference']}. {work}\n\n{table(head, rows)}"


def label(key: str) -> str:
    """Return a gradient method as one writes it."""
    budget = key.removeprefix("checkpoint-")
    return f"`{type(METHODS[key]).__name__}({budget if budget.isdigit() else ''})`"


def cells(entry: dict[str, Any]) -> list[str]:
    points = {p["tolerance"]: p for p in entry["points"]}
    errors = [f"{p['error']:.1e}{' (warned)' * p['warned']}" if "error" in p else "failed" for p in points.values()]
    middle = points.get(MIDDLE, {})
    if "error" not in middle:
        return [*errors, *["–"] * 4]
    time = milliseconds(entry["time"]["median"]) if "time" in entry else "–"
    work = f"{middle['forward']} + {middle['backward']}"
    return [*errors, str(middle["steps"]), work, f"{middle['bytes'] / 1e3:.0f}", time]


def run(results: Results) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    failures = Counter(
        re.sub(r"t=\S+ of", "t=... of", found["failed"])
        for record in results["problems"].values()
        for entries in record["solvers"].values()
        for entry in entries.values()
        for found in entry["points"]
        if "failed" in found
    )
    said = "".join(f"- {message}... ({count} times)\n" for message, count in sorted(failures.items()))
    what = f"## The run\n\n`{results['command']}`, {results['date']}, {results['machine']}, one thread; {versions}.\n"
    return f"{what}\nWhat failed said:\n\n{said}" if said else what
