"""docs/work-precision.md, made from the results alone."""

from typing import Any

import numpy as np

from benchmarks.peers.page import table
from benchmarks.problems import DETEST, NONSTIFF, PROBLEMS, STIFF
from benchmarks.work_precision.compare import curve, mean, ratio, smallest_error
from benchmarks.work_precision.methods import SAME_FAMILY

Results = dict[str, Any]
FAMILIES = {
    "detest": ("DETEST", DETEST),
    "nonstiff": ("Other non-stiff problems", NONSTIFF),
    "stiff": ("Stiff problems", STIFF),
}

HEAD = """# Work and precision

Made by `python -m benchmarks.work_precision`. All numbers: `benchmarks/results/work_precision.json`.

Every method solves every problem of its kind at some tolerances, in float64. The error is that of the state at the end
against closed forms or references (`benchmarks/problems`), the worst component, over `atol / rtol + |y|`; where the
figures are grey, the reference or rounding decides. Evaluations are calls of f. SciPy's
implicit methods are given the Jacobian, as SciPy's count leaves out the evaluations for numerical ones; isocline counts
one evaluation for each Jacobian that it makes. Both call the same torch function; SciPy's time includes the conversion
from NumPy, so times are those of a user who has f in torch, and say little about SciPy itself.
"""


def render(results: Results) -> str:
    """Return the page."""
    parts = [HEAD, ratio_section(results["problems"])]
    for key, (title, problems) in FAMILIES.items():
        measured = {p.name: results["problems"][p.name] for p in problems if p.name in results["problems"]}
        if not measured:
            continue
        parts += [f"## {title}\n"]
        parts += [f"![Error against {work}](figures/work-precision-{key}-{work}.png)\n" for work in works(key)]
        parts += [problem_table(measured), work_table(measured)]
    return "\n".join([*parts, run_section(results)])


def works(family: str) -> tuple[str, ...]:
    """Return against which kinds of work a family is drawn."""
    return ("evaluations",) if family == "detest" else ("evaluations", "seconds")


def ratio_section(measured: dict[str, Any]) -> str:
    """Return evaluations over those of SciPy's method of the same family, at equal error."""
    pairs = [(ours, theirs) for ours, others in SAME_FAMILY.items() for theirs in others]
    pairs = [(a, b) for a, b in pairs if any(a in methods and f"scipy {b}" in methods for methods in measured.values())]
    found = {pair: ratios(measured, *pair) for pair in pairs}
    rows = [[name, *(cell(found[pair].get(name)) for pair in pairs)] for name in measured]
    means = [cell(mean(list(found[pair].values())) if found[pair] else None) for pair in pairs]
    title = (
        "## Evaluations beside SciPy's method of the same family\n\n"
        "Ours over SciPy's at equal error: interpolated between the tolerances in the logarithms, the geometric mean "
        "over the errors that both reach. Below 1: fewer.\n"
    )
    head = ["problem", *(f"`{a}` / {b}" for a, b in pairs)]
    return f"{title}\n{table(head, [*rows, ['**geometric mean**', *means]])}"


def ratios(measured: dict[str, Any], ours: str, theirs: str) -> dict[str, float]:
    """Return the ratio for each problem that both solve."""
    found = {
        name: ratio(methods[ours], methods[f"scipy {theirs}"], smallest_error(name))
        for name, methods in measured.items()
        if ours in methods and f"scipy {theirs}" in methods
    }
    return {name: value for name, value in found.items() if value is not None}


def cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def problem_table(measured: dict[str, Any]) -> str:
    head = ["problem", "what", "unknowns", "end", "atol / rtol", "condition", "source"]
    rows = []
    for name in measured:
        p = PROBLEMS[name]
        rows.append([name, p.about, str(len(p.y0)), f"{p.t1:g}", f"{p.atol:g}", f"{p.condition:g}", p.source])
    title = (
        "Condition: how much a small error made on the way can have grown at the end, in units of what is tolerated."
    )
    return f"{title}\n\n{table(head, rows)}"


def work_table(measured: dict[str, Any], error: float = 1e-6) -> str:
    """Return what an error of so much costs each method."""
    methods = list(dict.fromkeys(name for entry in measured.values() for name in entry))
    rows = [
        [name, *(cost(entry.get(method, []), smallest_error(name), error) for method in methods)]
        for name, entry in measured.items()
    ]
    return f"Evaluations / milliseconds for an error of {error:g}:\n\n{table(['problem', *methods], rows)}"


def cost(points: list[dict[str, Any]], smallest: float, error: float) -> str:
    (x, evaluations), (_, seconds) = (curve(points, smallest, work) for work in ("evaluations", "seconds"))
    at = np.log(error)
    if len(x) < 2 or not x[0] <= at <= x[-1]:
        return "–"
    count, time = (float(np.exp(np.interp(at, x, values))) for values in (evaluations, seconds))
    return f"{count:.0f} / {1e3 * time:.3g}"


def run_section(results: Results) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    measured = results["problems"].values()
    tolerances = sorted({point["tolerance"] for methods in measured for points in methods.values() for point in points})
    asked = ", ".join(f"{tolerance:g}" for tolerance in reversed(tolerances))
    what = f"{len(measured)} of {len(PROBLEMS)} problems, tolerances {asked}"
    return f"## The run\n\n{what}. {results['date']}, {results['machine']}, one thread; {versions}.\n"
