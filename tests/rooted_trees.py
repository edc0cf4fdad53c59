"""Rooted trees, and how far tables are from the order conditions that belong to them.

Butcher 1963; Hairer, Norsett & Wanner 1993, II.2.
"""

from functools import cache
from itertools import combinations_with_replacement, product
from math import comb, prod

import torch
from torch import Tensor

from isocline.tableaus import ImplicitTableau, Tableau, whole

Tree = tuple["Tree", ...]
"""A rooted tree is the sorted tuple of the trees that hang on its root."""

ROUNDING = 4e-15
"""Residual that counts as zero, beside the sizes of the terms that were summed."""
BROKEN = 1e5
"""Residual that counts as a violated condition, in the same units."""


def partitions(n: int, largest: int) -> list[tuple[int, ...]]:
    """All ways to write n as a sum of numbers, descending."""
    if n == 0:
        return [()]
    return [(k, *rest) for k in range(min(n, largest), 0, -1) for rest in partitions(n - k, k)]


@cache
def trees(n: int) -> list[Tree]:
    """All rooted trees with n vertices."""
    found: list[Tree] = []
    for sizes in partitions(n - 1, n - 1):
        groups = [list(combinations_with_replacement(trees(size), sizes.count(size))) for size in sorted(set(sizes))]
        found += [tuple(tree for group in choice for tree in group) for choice in product(*groups)]
    return found


@cache
def vertices(tree: Tree) -> int:
    return 1 + sum(map(vertices, tree))


@cache
def gamma(tree: Tree) -> int:
    """Density: the exact flow has 1 / gamma(tree) where the method has its elementary weight."""
    return vertices(tree) * prod(map(gamma, tree))


class Weights:
    """Elementary weights of the stages of a method, each of a tree (s,), and how large the terms were in their sums."""

    def __init__(self, table: Tableau | ImplicitTableau) -> None:
        rows = [[*row, *[0.0] * (table.stages - len(row))] for row in table.a]
        self.a = torch.tensor(rows, dtype=torch.float64)
        self.known: dict[Tree, tuple[Tensor, Tensor]] = {}

    def of(self, tree: Tree) -> tuple[Tensor, Tensor]:
        if tree not in self.known:
            weights = sizes = torch.ones(len(self.a), dtype=torch.float64)
            for child in tree:
                inner, size = self.of(child)
                weights, sizes = weights * (self.a @ inner), sizes * (self.a.abs() @ size)
            self.known[tree] = weights, sizes
        return self.known[tree]

    def stack(self, order: int) -> tuple[Tensor, Tensor]:
        """Those of all trees with so many vertices, (trees, s) each."""
        weights, sizes = zip(*map(self.of, trees(order)), strict=True)
        return torch.stack(weights), torch.stack(sizes)


@cache
def weights_of(table: Tableau | ImplicitTableau) -> Weights:
    return Weights(table)


def residual(table: Tableau | ImplicitTableau, weights: tuple[float, ...], order: int) -> float:
    """How far the weights are from the conditions of exactly this order, in units of rounding."""
    b = torch.tensor(weights, dtype=torch.float64)
    exact = torch.tensor([1 / gamma(tree) for tree in trees(order)], dtype=torch.float64)
    found, sizes = weights_of(table).stack(order)
    return float(((found @ b - exact).abs() / (ROUNDING * (sizes @ b.abs() + exact))).max())


def dense_residual(table: Tableau | ImplicitTableau, order: int) -> float:
    """How far the interpolant is from the conditions of this order: the polynomial is theta^order / gamma."""
    table = whole(table) if isinstance(table, Tableau) else table
    dense = torch.tensor(table.dense, dtype=torch.float64)
    degree = dense.shape[1]
    if order > degree:
        return float("inf")
    if isinstance(table, ImplicitTableau) or table.basis == "powers":
        power = [float(k == order) for k in range(1, degree + 1)]
    else:
        power = [comb(k, order) / comb(degree, order) for k in range(1, degree + 1)]
    scale = torch.tensor([[1 / gamma(tree)] for tree in trees(order)], dtype=torch.float64)
    exact = scale * torch.tensor(power, dtype=torch.float64)
    found, sizes = weights_of(table).stack(order)
    return float(((found @ dense - exact).abs() / (ROUNDING * (sizes @ dense.abs() + scale))).max())
