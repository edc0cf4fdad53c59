"""docs/benchmarks.md, made from the results alone, below a page head that says what they mean."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.peers.ratios import MODES, PEERS, overhead, ratio_to_default, ratio_to_same_kind, timed

Results = dict[str, Any]
SERIES = (
    ("saves-", "steps", 1e6, "What a step costs with so many save times (µs, together)"),
    (
        "lorenz-",
        "rows",
        1e9,
        "What it costs to evaluate the field for one sample and use it, with so many samples (ns, together)",
    ),
)
"""Cases that differ in one size: their prefix, what their time is divided by, in which units, and what that says."""

HEAD = Path(__file__).with_name("page.md")
DEVICES = {
    "cpu": "## On the CPU\n\nAll numbers: `benchmarks/results/peers.json`.\n",
    "cuda": "## On a GPU\n\nAll numbers: `benchmarks/results/peers_cuda.json`.\n",
}


def render(by_device: dict[str, Results]) -> str:
    """Return the page of the results of one or more devices."""
    parts = [HEAD.read_text()]
    for device, results in by_device.items():
        parts.append(DEVICES[device])
        parts += [summary(results, mode) for mode in MODES if was_measured(results, mode)]
        parts += [scaling_section(results, *series) for series in SERIES]
        parts += [case_section(name, case) for name, case in results["cases"].items()]
        parts.append(runs_section(results))
    return "\n".join(parts)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def was_measured(results: Results, mode: str) -> bool:
    return any(mode in entry for case in results["cases"].values() for entry in case["contenders"].values())


def summary(results: Results, mode: str) -> str:
    """Every case in a line: isocline over each peer, each with its default gradient."""
    rows = []
    for name, case in results["cases"].items():
        cells = [
            " / ".join(ratio_to_default(case["contenders"], peer, how, mode) for how in ("eager", "compiled"))
            for peer in PEERS
        ]
        if any(cell != "– / –" for cell in cells):
            rows.append([f"`{name}`", *cells])
    title = (
        f"Isocline's time over the other's, *{mode}*, eager / compiled. With a gradient: the default of each. "
        "Of torchode the quicker of eager and compiled.\n"
    )
    return f"{title}\n{table(['case', *PEERS], rows)}"


def scaling_section(results: Results, prefix: str, count: str, units: float, title: str) -> str:
    """Return how the cost of a step, or of a row, goes with the size of a series of cases."""
    cases = {name: case["contenders"] for name, case in results["cases"].items() if name.startswith(prefix)}
    names = list(dict.fromkeys(name for entries in cases.values() for name in entries))
    rows = []
    for name in names:
        cells = []
        for entries in cases.values():
            entry = entries.get(name, {})
            known = count in entry and timed(entry.get("together"))
            cells.append(f"{units * entry['together']['median'] / entry[count]:.3g}" if known else "–")
        if any(cell != "–" for cell in cells):
            rows.append([name, *cells])
    return f"{title}:\n\n{table(['contender', *(f'`{name}`' for name in cases)], rows)}" if rows else ""


def case_section(name: str, case: dict[str, Any]) -> str:
    entries = case["contenders"]
    parts = [f"### `{name}`\n", description(case), times_table(entries), counts_table(entries)]
    if any(contender.startswith("bare:") for contender in entries):
        parts.append(overhead_lines(entries))
    alone = entries.get("isocline:eager", {}).get("rows_alone")
    if alone is not None:
        parts.append(f"Rows, were every sample solved alone: {alone}.\n")
    return "\n".join(parts)


def description(case: dict[str, Any]) -> str:
    what = case["what"]
    bounds = f"Right is an error up to {case['bound']:g}"
    if case["gradient_bound"] is not None:
        bounds += f", of the gradient up to {case['gradient_bound']:g}"
    text = f"{what[0].upper()}{what[1:]}. rtol {case['rtol']:g}, atol {case['atol']:g}. {bounds}."
    if case["reference_disagreement"] is not None:
        text += f" SciPy's DOP853 differs from the reference by {case['reference_disagreement']:.0e}."
    return text + "\n"


def times_table(entries: dict[str, Any]) -> str:
    head = ["contender"]
    for mode in MODES:
        head += [f"{mode} (ms)", "quartiles", "eager ÷ it", "compiled ÷ it"]
    rows = []
    for name, entry in entries.items():
        row = [name]
        for mode in MODES:
            row += [*time_cells(entry.get(mode)), ratio_to_same_kind(entries, name, "eager", mode)]
            row.append(ratio_to_same_kind(entries, name, "compiled", mode))
        rows.append([*row, first_call(entry)])
    return table([*head, "first call (s)"], rows)


def time_cells(timing: dict[str, Any] | None) -> list[str]:
    """Return median and quartiles, or why there are none."""
    if timing is None:
        return ["–", "–"]
    if not timed(timing):
        return [timing["status"] + (f": {timing['message']}" if "message" in timing else ""), "–"]
    lower, upper = timing["quartiles"]
    return [milliseconds(timing["median"]), f"{milliseconds(lower)} to {milliseconds(upper)}"]


def milliseconds(seconds: float) -> str:
    """Return three digits, without an exponent."""
    value = 1e3 * seconds
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def first_call(entry: dict[str, Any]) -> str:
    """Return the first call's time: alone if that was measured, where nothing was compiled before it."""
    times = [entry[mode]["first_call"] for mode in reversed(MODES) if "first_call" in entry.get(mode, {})]
    return f"{times[0]:.2f}" if times else "–"


def counts_table(entries: dict[str, Any]) -> str:
    """Return errors and counts; only columns in which somebody has something."""
    columns = {
        "error": lambda value: f"{value:.1e}",
        "gradient_error": lambda value: f"{value:.1e}",
        "evaluations": str,
        "backward": str,
        "steps": str,
        "rows": str,
    }
    shown = [column for column in columns if any(column in entry for entry in entries.values())]
    rows = (
        [name, *(columns[column](entry[column]) if column in entry else "–" for column in shown)]
        for name, entry in entries.items()
    )
    return table(["contender", *(column.replace("_", " ") for column in shown)], rows)


def overhead_lines(entries: dict[str, Any]) -> str:
    rows = [[how, *(overhead(entries, how, mode) for mode in MODES)] for how in ("eager", "compiled")]
    title = "Time of a solve over that of as many bare calls of the field, eager or compiled likewise:\n"
    return f"{title}\n{table(['', *MODES], rows)}"


def runs_section(results: Results) -> str:
    """Return how each number came about."""
    lines = ["### Runs\n"]
    for number, run in results["runs"].items():
        versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
        where = f"{run['machine']}, {run['cores']} cores, threads: {run['threads']}"
        lines.append(f"{number}. `{run['command']}`, {run['date']}, {where}; {versions}.")
    return "\n".join(lines) + "\n"
