"""One panel a problem: error at the end against work."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.problems import PROBLEMS
from benchmarks.work_precision.compare import LARGEST_ERROR, smallest_error

STYLES = {
    "bosh3": ("tab:gray", "o"),
    "dopri5": ("tab:blue", "o"),
    "tsit5": ("tab:orange", "s"),
    "vern7": ("tab:green", "^"),
    "vern8": ("tab:olive", "v"),
    "vern9": ("tab:cyan", "<"),
    "dopri8": ("tab:pink", ">"),
    "dop853": ("tab:red", "D"),
    "adams": ("tab:purple", "P"),
    "auto": ("black", "*"),
    "trbdf2": ("tab:gray", "o"),
    "kvaerno3": ("tab:olive", "v"),
    "kvaerno5": ("tab:green", "^"),
    "kencarp4": ("tab:cyan", "<"),
    "rosenbrock23": ("tab:pink", ">"),
    "rodas4": ("tab:brown", "X"),
    "rodas5p": ("tab:orange", "s"),
    "radau": ("tab:red", "D"),
    "bdf": ("tab:blue", "P"),
    "scipy RK45": ("tab:blue", "o"),
    "scipy DOP853": ("tab:red", "D"),
    "scipy LSODA": ("tab:brown", "p"),
    "scipy VODE Adams": ("tab:purple", "P"),
    "scipy Radau": ("tab:red", "D"),
    "scipy BDF": ("tab:blue", "P"),
}
"""Colour and marker; SciPy's methods have those of ours that are the same, dashed and hollow."""

WORK = {"evaluations": "evaluations of f (number)", "seconds": "time (s)"}
COLUMNS = 5


def draw(measured: dict[str, dict[str, list[dict[str, Any]]]], work: str, path: Path) -> None:
    """Write PATH.png and PATH.svg for the problems measured."""
    columns = min(COLUMNS, len(measured))
    rows = -(-len(measured) // columns)
    figure = Figure(figsize=(3.1 * columns + 0.3, 2.7 * rows + 1.0), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes, (name, methods) in zip(panels.flat, measured.items(), strict=False):
        panel(axes, name, methods, work)
    for axes in panels.flat[len(measured) :]:
        axes.remove()
    figure.supxlabel(WORK[work], fontsize=9)
    figure.supylabel("scaled relative error at the end", fontsize=9)
    entries: dict[str, Any] = {}
    for axes in panels.flat[: len(measured)]:
        entries.update(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    ordered = [name for name in STYLES if name in entries]
    figure.legend(
        [entries[name] for name in ordered], ordered, loc="outside upper center", ncols=min(7, 2 * columns), fontsize=8
    )
    for kind in ("png", "svg"):
        metadata = {"Date": None} if kind == "svg" else {}
        figure.savefig(path.with_suffix(f".{kind}"), dpi=110, metadata=metadata)


def panel(axes: Axes, name: str, methods: dict[str, list[dict[str, Any]]], work: str) -> None:
    for method, points in methods.items():
        shown = [p for p in points if p["error"] is not None and 1e-16 < p["error"] < 10 * LARGEST_ERROR]
        if not shown:
            continue
        colour, marker = STYLES[method]
        theirs = method.startswith("scipy")
        axes.loglog(
            [p[work] for p in shown],
            [p["error"] for p in shown],
            color=colour,
            marker=marker,
            markersize=3.5,
            linewidth=1.0,
            linestyle="--" if theirs else "-",
            markerfacecolor="white" if theirs else colour,
            label=method,
        )
    axes.axhspan(1e-16, smallest_error(name), color="0.92")
    bottom = min(smallest_error(name) / 3, 1e-11)
    axes.set(ylim=(bottom, 2 * LARGEST_ERROR))
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 30 * low else (1.0,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_title(f"{name}: {PROBLEMS[name].about}" if len(PROBLEMS[name].about) < 30 else name, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
