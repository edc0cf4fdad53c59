"""Points in the plane as plain numbers, for results."""

from torch import Tensor

Points = tuple[tuple[float, float], ...]


def points(x: Tensor) -> Points:
    """Points (N, 2), rounded to four digits behind the point."""
    return tuple((round(a, 4), round(b, 4)) for a, b in x.tolist())
