"""Order conditions of every table, over all rooted trees (Butcher 1963; Hairer, Norsett & Wanner 1993, II.2)."""

from dataclasses import replace
from functools import cache
from itertools import combinations_with_replacement, product
from math import comb, prod

import pytest
import torch
from torch import Tensor

from isocline import METHODS, RungeKutta, Tableau
from isocline.tableaus import TABLEAUS, whole

Tree = tuple["Tree", ...]
"""A rooted tree is the sorted tuple of the trees that hang on its root."""

ROUNDING = 4e-15
"""Residual that counts as zero, beside the sizes of the terms that were summed."""
BROKEN = 1e5
"""Residual that counts as a violated condition, in the same units."""

every_table = pytest.mark.parametrize("table", TABLEAUS.values(), ids=TABLEAUS.keys())


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

    def __init__(self, table: Tableau) -> None:
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
def weights_of(table: Tableau) -> Weights:
    return Weights(table)


def residual(table: Tableau, weights: tuple[float, ...], order: int) -> float:
    """How far the weights are from the conditions of exactly this order, in units of rounding."""
    b = torch.tensor(weights, dtype=torch.float64)
    exact = torch.tensor([1 / gamma(tree) for tree in trees(order)], dtype=torch.float64)
    found, sizes = weights_of(table).stack(order)
    return float(((found @ b - exact).abs() / (ROUNDING * (sizes @ b.abs() + exact))).max())


def dense_residual(table: Tableau, order: int) -> float:
    """How far the interpolant is from the conditions of this order: the polynomial is theta^order / gamma."""
    table = whole(table)
    dense = torch.tensor(table.dense, dtype=torch.float64)
    degree = dense.shape[1]
    if order > degree:
        return float("inf")
    if table.basis == "powers":
        power = [float(k == order) for k in range(1, degree + 1)]
    else:
        power = [comb(k, order) / comb(degree, order) for k in range(1, degree + 1)]
    scale = torch.tensor([[1 / gamma(tree)] for tree in trees(order)], dtype=torch.float64)
    exact = scale * torch.tensor(power, dtype=torch.float64)
    found, sizes = weights_of(table).stack(order)
    return float(((found @ dense - exact).abs() / (ROUNDING * (sizes @ dense.abs() + scale))).max())


def test_the_trees_are_all_the_trees() -> None:
    counts = [1, 1, 2, 4, 9, 20, 48, 115, 286]
    assert [len(trees(n)) for n in range(1, 10)] == counts
    assert [len(set(trees(n))) for n in range(1, 10)] == counts
    assert sorted(gamma(tree) for tree in trees(4)) == [4, 8, 12, 24]


@every_table
def test_weights_have_their_order(table: Tableau) -> None:
    for order in range(1, table.order + 1):
        assert residual(table, table.b, order) < 1
    assert residual(table, table.b, table.order + 1) > BROKEN


@every_table
def test_embedded_weights_have_their_order(table: Tableau) -> None:
    pairs = [(table.embedded, table.embedded_order), (table.second, table.second_order)]
    for weights, last in pairs:
        if weights is not None and last is not None:
            for order in range(1, last + 1):
                assert residual(table, weights, order) < 1
            assert residual(table, weights, last + 1) > BROKEN


@every_table
def test_rows_sum_to_the_nodes(table: Tableau) -> None:
    for row, c in zip(table.a + table.late_a, table.c + table.late_c, strict=True):
        assert abs(sum(row) - c) < 1e-14 * max(1.0, sum(map(abs, row)))


@every_table
def test_the_interpolant_has_its_order_at_every_point(table: Tableau) -> None:
    for order in range(1, table.dense_order + 1):
        assert dense_residual(table, order) < 1
    assert dense_residual(table, table.dense_order + 1) > BROKEN


@every_table
def test_dense_output_has_the_methods_order(table: Tableau) -> None:
    assert table.dense_order + 1 >= table.order


@every_table
def test_the_interpolant_ends_at_the_step(table: Tableau) -> None:
    table = whole(table)
    for row, b in zip(table.dense, table.b, strict=True):
        assert abs((sum(row) if table.basis == "powers" else row[-1]) - b) < 1e-13


SMOOTH = {"bosh3", "dopri5", "tsit5", "vern7", "vern8", "vern9", "dopri8", "dop853"}
"""Methods whose interpolant has the slopes f at the ends of a step."""


@pytest.mark.parametrize("name", sorted(SMOOTH))
def test_the_interpolant_is_smooth_where_it_reads_the_slopes_at_both_ends(name: str) -> None:
    """b_i'(0) = [i is first], b_i'(1) = [i is at the end]."""
    table = whole(TABLEAUS[name])
    assert table.end_stage is not None
    for i, row in enumerate(table.dense):
        if table.basis == "powers":
            first, last = row[0], sum(k * x for k, x in enumerate(row, start=1))
        else:
            first, last = len(row) * row[0], len(row) * (row[-1] - row[-2])
        assert abs(first - (i == 0)) < 1e-13
        assert abs(last - (i == table.end_stage)) < 1e-12


def test_which_methods_reuse_a_stage() -> None:
    assert {name for name, table in TABLEAUS.items() if table.end_stage is not None} == {"bosh3", "dopri5", "tsit5"}
    assert {name for name, table in TABLEAUS.items() if whole(table).end_stage is not None} == SMOOTH


def test_late_stages_among_the_others_make_the_same_method() -> None:
    for table in TABLEAUS.values():
        other = whole(table)
        assert other.stages == len(other.dense) == len(table.dense)
        assert (other.order, other.error_order, other.sum) == (table.order, table.error_order, table.sum)
        assert other.rows[: table.stages] == table.rows
        assert (other == table) is not bool(table.late_a)


def test_orders_of_error_estimates() -> None:
    estimates = {"euler": None, "heun": 1, "bosh3": 2, "tsit5": 4, "vern7": 6, "vern8": 7, "vern9": 8, "dop853": 7}
    assert {name: TABLEAUS[name].error_order for name in estimates} == estimates


@every_table
def test_every_table_says_where_it_is_from(table: Tableau) -> None:
    assert any(character.isdigit() for character in table.citation)
    assert len(table.citation) > 10
    assert TABLEAUS[table.name] is table
    assert METHODS[table.name] == RungeKutta(table)


@pytest.mark.parametrize("name", ["dopri5", "vern9", "dop853"])
def test_a_wrong_digit_would_be_seen(name: str) -> None:
    """The residuals above are not small for want of looking."""
    table = TABLEAUS[name]
    i = max(i for i, weight in enumerate(table.b) if weight)
    wrong = replace(table, a=(*table.a[:i], (table.a[i][0] * (1 + 1e-9), *table.a[i][1:]), *table.a[i + 1 :]))
    assert max(residual(wrong, wrong.b, order) for order in range(1, table.order + 1)) > 10
    if table.late_a:
        i = len(table.late_a) - 1
        wrong = replace(table, late_a=(*table.late_a[:i], (table.late_a[i][0] * (1 + 1e-9), *table.late_a[i][1:])))
        assert max(dense_residual(wrong, order) for order in range(1, table.dense_order + 1)) > 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": ((), (1.0, 0.0))}, "rows of length 0..1"),
        ({"a": ((),)}, "rows of length 0..1"),
        ({"c": (0.0,)}, "c 2 entries"),
        ({"late_a": ((1.0,),)}, "late_a goes on with rows of length 2"),
        ({"late_c": (0.5,)}, "late_c has as many entries"),
        ({"dense": ((1.0, -0.5),)}, "dense needs 2 entries"),
        ({"late_a": ((0.5, 0.0),), "late_c": (0.5,)}, "dense needs 3 entries"),
        ({"basis": "chebyshev"}, "'powers' or 'bernstein'"),
        ({"embedded": None}, "embedded needs 2 weights and embedded_order"),
        ({"embedded_order": None}, "embedded needs 2 weights and embedded_order"),
        ({"embedded": (1.0,)}, "embedded needs 2 weights"),
        ({"second": (1.0, 0.0)}, "second needs 2 weights and second_order"),
        ({"second": (1.0, 0.0), "second_order": 1, "embedded": None, "embedded_order": None}, "second needs embedded"),
        ({"b": ()}, "rows of length"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_table_that_does_not_fit_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TABLEAUS["heun"], **change)  # type: ignore[arg-type]
