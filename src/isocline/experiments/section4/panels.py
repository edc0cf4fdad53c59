"""Densities in the plane, as pictures that are kept as whole numbers, and points."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from matplotlib.animation import PillowWriter
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

Picture = tuple[tuple[int, ...], ...]
"""Rows from the bottom, each number a density in percent of the picture's largest."""


@torch.no_grad()
def pictured(log_density: Callable[[Tensor], Tensor], reach: float, size: int) -> Picture:
    """The density on a grid of `size` by `size` points in the square from -reach to reach."""
    line = torch.linspace(-reach, reach, size)
    y, x = torch.meshgrid(line, line, indexing="ij")
    density = log_density(torch.stack([x, y], dim=-1).reshape(-1, 2)).reshape(size, size)
    percent = 100 * (density - density.max()).exp()
    return tuple(tuple(row) for row in percent.round().int().tolist())


def show(axes: Axes, picture: Picture, reach: float, title: str) -> None:
    """Draws it."""
    axes.imshow(
        picture, origin="lower", extent=(-reach, reach, -reach, reach), cmap="viridis", interpolation="bilinear"
    )
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize="medium")


def scatter(
    axes: Axes, points: Sequence[Sequence[float]], reach: float, title: str, hues: Sequence[float] | None = None
) -> None:
    """Draws points in the square from -reach to reach; `hues` are angles on a circle of colours."""
    x, y = zip(*points, strict=True)
    if hues is None:
        axes.scatter(x, y, s=2, linewidths=0)
    else:
        axes.scatter(x, y, s=6, linewidths=0, c=hues, cmap="hsv", vmin=-math.pi, vmax=math.pi)
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
    axes.set_title(title, fontsize="medium")


def animated(ways: Tensor, reach: float) -> bytes:
    """A GIF of points that move, (T, B, 2), a frame for each of T times; the last one is shown for a second.

    Each point keeps the colour of the direction in which it starts, so that one sees where it goes.
    """
    hues = ways[0, :, 1].atan2(ways[0, :, 0]).tolist()
    figure = Figure(figsize=(3, 3), layout="constrained")
    axes = figure.subplots()
    rate = 20
    writer = PillowWriter(fps=rate)
    with TemporaryDirectory() as folder:  # it writes to files only
        path = Path(folder) / "animation.gif"
        with writer.saving(figure, str(path), dpi=100):
            for points in [*ways, *[ways[-1]] * rate]:
                axes.clear()
                scatter(axes, points.tolist(), reach, "", hues)
                writer.grab_frame()
        return path.read_bytes()
