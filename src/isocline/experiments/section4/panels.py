"""Densities in the plane, as pictures that are kept as whole numbers."""

from collections.abc import Callable

import torch
from matplotlib.axes import Axes
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
