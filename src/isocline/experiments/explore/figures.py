"""The page's two figures."""

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from isocline.experiments.explore.subject import Subject
from isocline.experiments.explore.work import Cost, Plane, slopes

ARROWS = 17
"""Along a side of the slope field."""


def by_tolerance(costs: Sequence[Cost], chosen: Cost) -> Figure:
    """Error and evaluations against tolerance, the chosen one marked."""
    figure = Figure(figsize=(5.6, 5.6), layout="constrained")
    error, work = figure.subplots(2, 1, sharex=True)
    tolerances = [cost.tolerance for cost in costs]
    error.plot(tolerances, [cost.error for cost in costs], marker="o")
    error.plot(tolerances, tolerances, color="0.6", linestyle=":", label="error = tolerance")
    error.plot(chosen.tolerance, chosen.error, marker="o", markersize=12, color="C3", label="chosen")
    error.set(ylabel="relative error at the end", yscale="log")
    error.legend()
    work.plot(tolerances, [cost.evaluations for cost in costs], marker="o")
    work.plot(chosen.tolerance, chosen.evaluations, marker="o", markersize=12, color="C3")
    work.set(xlabel="tolerance (rtol = atol), tight to loose", xscale="log", ylim=(0, None))
    work.set_ylabel("field evaluations (NFE)")
    return figure


def phase_plane(subject: Subject, ways: Tensor, plane: Plane, t: float) -> Figure:
    """Paths (T, N, n) in the plane, and the field in it at time t."""
    figure = Figure(figsize=(5.6, 5.6), layout="constrained")
    axes = figure.subplots()
    drawn = plane.on(ways)
    low, high = (drawn.amin((0, 1)), drawn.amax((0, 1)))
    margin = 0.08 * (high - low)
    x, y = (torch.linspace(a, b, ARROWS) for a, b in zip(low - margin, high + margin, strict=True))
    points = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2)
    arrows = slopes(subject, plane, t, points.to(ways.dtype))
    arrows = arrows / arrows.norm(dim=1, keepdim=True).clamp(min=1e-12)
    axes.quiver(*points.T.tolist(), *arrows.T.tolist(), color="0.75", angles="xy", pivot="middle")
    names = sorted(set(subject.groups))
    for lane, way in enumerate(drawn.unbind(1)):
        colour = f"C{names.index(subject.groups[lane]) % 10}" if names else "C0"
        axes.plot(*way.T.tolist(), color=colour, linewidth=0.9, alpha=0.7)
        axes.plot(*way[-1].tolist(), color=colour, marker=".", markersize=4)
    for i, name in enumerate(names):
        axes.plot([], [], color=f"C{i % 10}", label=name)
    if names:
        figure.legend(loc="outside lower center", ncols=5)
    flat = plane.axes.shape[1] == 2
    what = ("first number", "second number") if flat else ("first direction", "second direction")
    axes.set(title=f"paths from t = {subject.ts[0]:.3g} to {subject.ts[1]:.3g}; arrows: the field at t = {t:.3g}")
    axes.set(xlabel=f"{what[0]} of the state", ylabel=f"{what[1]} of the state")
    return figure
