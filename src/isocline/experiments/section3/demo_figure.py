"""The demo's figure: an ODE-Net's accuracy and cost by tolerance, and a slope field with two solvers."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import isocline as iso
from isocline.experiments.section3.tolerance import ADAPTIVE, FIXED, Point

_COLOURS = {"tsit5": "C0", "dopri5": "C1", "bosh3": "C2", "euler": "C3", "rk4": "C4"}
_MARKERS = {"tsit5": "o", "dopri5": "s", "bosh3": "^", "euler": "v", "rk4": "D"}


def demo_figure(points: Sequence[Point], trained_at: float) -> Figure:
    """Draws the figure.

    Args:
        points: From `isocline.experiments.section3.tolerance.sweep`.
        trained_at: The tolerance in training, marked.
    """
    figure = Figure(figsize=(11, 8.5), layout="constrained")
    error, cost, work, slopes = figure.subplots(2, 2).flat
    _by_tolerance(error, points, lambda p: p.test_error, trained_at, legend="upper left")
    _by_steps(error, points, lambda p: p.test_error)
    worst = max(p.test_error for p in points)
    title = "(a) one trained ODE-Net, solved in many ways"
    error.set(title=title, ylabel="test error (%)", ylim=(0, 1.25 * worst + 0.1))
    _by_tolerance(cost, points, lambda p: p.nfe, trained_at, legend="lower left")
    cost.set(title="(b) what the tolerance costs", ylabel="field evaluations (NFE)", yscale="log")
    _work_precision(work, points)
    _slope_field(slopes)
    return figure


def _by_tolerance(
    axes: Axes,
    points: Sequence[Point],
    value: Callable[[Point], float],
    trained_at: float,
    legend: Literal["upper left", "lower left"],
) -> None:
    for method in ADAPTIVE:
        chosen = [(p.tolerance, value(p)) for p in points if p.method == method and p.tolerance is not None]
        axes.plot(
            *zip(*chosen, strict=True),
            color=_COLOURS[method],
            marker=_MARKERS[method],
            label=method,
            alpha=0.8,
        )
    axes.axvline(trained_at, color="0.6", linestyle=":", label="in training")
    axes.set(xscale="log", xlabel="tolerance (rtol = atol), tight to loose")
    axes.legend(loc=legend)


def _by_steps(axes: Axes, points: Sequence[Point], value: Callable[[Point], float]) -> None:
    """Adds the fixed-step methods on a top axis of their own; the accurate end is at the left here too."""
    top = axes.twiny()
    for method in FIXED:
        chosen = [(p.steps, value(p)) for p in points if p.method == method and p.steps is not None]
        colour, marker = _COLOURS[method], _MARKERS[method]
        top.plot(*zip(*chosen, strict=True), color=colour, marker=marker, linestyle="--", label=method, alpha=0.8)
    counts = sorted({p.steps for p in points if p.steps is not None})
    top.set_xscale("log", base=2)
    top.set(xlabel="fixed steps (dashed), many to few", xticks=counts, xticklabels=counts)
    top.invert_xaxis()
    top.legend(loc="upper center")


def _work_precision(axes: Axes, points: Sequence[Point]) -> None:
    for method in ADAPTIVE + FIXED:
        chosen = [p for p in points if p.method == method and p.deviation > 0]
        nfe, deviation = [p.nfe for p in chosen], [p.deviation for p in chosen]
        label = f"{method}, fixed steps" if method in FIXED else method
        axes.plot(nfe, deviation, color=_COLOURS[method], marker=_MARKERS[method], label=label, alpha=0.8)
        for p in chosen:
            if p.steps:
                axes.annotate(f"{p.steps}", (p.nfe, p.deviation), xytext=(5, 5), textcoords="offset points", size=8)
    axes.set(
        title="(c) precision for work; numbers count fixed steps",
        xlabel="field evaluations (NFE)",
        ylabel="relative error of the state at t = 1",
        xscale="log",
        yscale="log",
    )
    axes.legend(loc="lower left")


def _lotka_volterra(t: Tensor, y: Tensor) -> Tensor:
    prey, predators = y
    return torch.stack([prey - prey * predators, prey * predators - predators])


@torch.no_grad()
def _slope_field(axes: Axes) -> None:
    """Euler leaves a closed orbit of Lotka and Volterra's equations, which an adaptive solver keeps."""
    grid = torch.stack(torch.meshgrid(torch.linspace(0, 3, 19), torch.linspace(0, 3, 19), indexing="xy"))
    slopes = _lotka_volterra(torch.zeros(()), grid)
    arrows = slopes / slopes.norm(dim=0).clamp_min(1e-12)
    axes.quiver(*grid.numpy(), *arrows.numpy(), color="0.75", angles="xy", scale=28, width=0.003, pivot="mid")
    start, end, dt = torch.tensor([1.0, 2.0]), 6.6, 0.1
    euler_times, times = torch.arange(0, end, dt), torch.linspace(0, end, 200)
    euler = iso.solve(_lotka_volterra, start, euler_times, method="euler", controller=iso.FixedStep(dt))
    tsit5 = iso.solve(_lotka_volterra, start, times, method="tsit5", rtol=1e-3, atol=1e-3)
    label = f"Euler, steps of {dt}: {int(euler.stats.evaluations)} evaluations"
    axes.plot(*euler.ys.T.numpy(), color=_COLOURS["euler"], marker=".", linewidth=1, label=label)
    label = f"tsit5, tolerance 1e-3: {int(tsit5.stats.evaluations)} evaluations"
    axes.plot(*tsit5.ys.T.numpy(), color=_COLOURS["tsit5"], linewidth=2, label=label)
    axes.plot(*start.numpy(), color="black", marker="o", linestyle="", label="start")
    axes.set(
        xlabel="prey (in units of the fixed point)",
        ylabel="predators (likewise)",
        xlim=(0, 3.2),
        ylim=(0, 3.2),
    )
    axes.set_title("(d) slope field: Lotka–Volterra over one period")
    axes.legend(loc="upper right")
