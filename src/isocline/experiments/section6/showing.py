"""How measured numbers are shown: lines in figures, the worst in words."""

from collections.abc import Iterable, Sequence
from math import inf, isfinite

from matplotlib.axes import Axes

MARKERS = "os^vDP<>X*"


def draw(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    *,
    label: str | None,
    index: int,
    failed: bool = False,
    linestyle: str = "-",
) -> None:
    """Draws points in the order given, joined by lines; those that are not finite are left out.

    Args:
        axes: Where.
        points: (x, y) each.
        label: For the legend; None for none.
        index: Chooses colour and marker.
        failed: Whether to mark points that are not finite, on the upper edge.
        linestyle: Matplotlib's.
    """
    colour = f"C{index % 10}"
    kept = [(x, y) if isfinite(y) else (x, float("nan")) for x, y in points]
    axes.plot(
        *zip(*kept, strict=True),
        color=colour,
        marker=MARKERS[index % len(MARKERS)],
        markersize=max(9.0 - index, 4.0),  # so that points of the same value are all seen
        linestyle=linestyle,
        alpha=0.8,
        label=label,
    )
    lost = [x for x, y in points if not isfinite(y)]
    if failed and lost:
        heights = [1.0 - 0.03 * index] * len(lost)
        axes.scatter(lost, heights, color=colour, marker="x", transform=axes.get_xaxis_transform(), clip_on=False)


def worst(errors: Iterable[float]) -> float:
    """The largest error; one that is no number, because something failed, counts as infinite."""
    return max(error if isfinite(error) else inf for error in errors)


def in_words(errors: dict[str, float]) -> str:
    """Errors, or factors, by name."""
    return ", ".join(f"{name} {error:.1e}" if isfinite(error) else f"{name} fails" for name, error in errors.items())
