"""Measuring orders of convergence."""

from math import log

import torch


def slope(errors: dict[int, float]) -> float:
    """Least-squares order: minus the slope of log(error) over log(number of steps)."""
    x = torch.tensor([log(n) for n in errors], dtype=torch.float64)
    y = torch.tensor([log(e) for e in errors.values()], dtype=torch.float64)
    x, y = x - x.mean(), y - y.mean()
    return -float((x * y).sum() / (x * x).sum())
