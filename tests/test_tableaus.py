"""Order conditions of every table, over all rooted trees (Butcher 1963; Hairer, Norsett & Wanner 1993, II.2)."""

from dataclasses import replace
from itertools import combinations_with_replacement, product
from math import prod

import pytest

from isocline import METHODS, RungeKutta, Tableau
from isocline.tableaus import TABLEAUS

Tree = tuple["Tree", ...]
"""A rooted tree is the sorted tuple of the trees that hang on its root."""

ROUNDING = 2e-13
"""Residual that counts as zero: a few rounding errors of products of coefficients up to about 90."""
BROKEN = 1e-4
"""Residual that counts as a violated condition."""

every_table = pytest.mark.parametrize("table", TABLEAUS.values(), ids=TABLEAUS.keys())


def partitions(n: int, largest: int) -> list[tuple[int, ...]]:
    """All ways to write n as a sum of numbers, descending."""
    if n == 0:
        return [()]
    return [(k, *rest) for k in range(min(n, largest), 0, -1) for rest in partitions(n - k, k)]


def trees(n: int) -> list[Tree]:
    """All rooted trees with n vertices."""
    found: list[Tree] = []
    for sizes in partitions(n - 1, n - 1):
        groups = [list(combinations_with_replacement(trees(size), sizes.count(size))) for size in sorted(set(sizes))]
        found += [tuple(tree for group in choice for tree in group) for choice in product(*groups)]
    return found


def vertices(tree: Tree) -> int:
    return 1 + sum(map(vertices, tree))


def gamma(tree: Tree) -> int:
    """Density: the exact flow has 1 / gamma(tree) where the method has its elementary weight."""
    return vertices(tree) * prod(map(gamma, tree))


def stage_weights(table: Tableau, tree: Tree) -> list[float]:
    """Elementary weight of each stage."""
    inner = [stage_weights(table, child) for child in tree]
    return [prod(_dot(row, child) for child in inner) for row in table.a]


def _dot(x: tuple[float, ...], y: list[float]) -> float:
    return sum(a * b for a, b in zip(x, y, strict=False))


def residuals(table: Tableau, weights: tuple[float, ...], order: int) -> list[float]:
    """How far the weights are from each condition of exactly this order."""
    return [abs(_dot(weights, stage_weights(table, tree)) - 1 / gamma(tree)) for tree in trees(order)]


def dense_residuals(table: Tableau, order: int) -> list[float]:
    """How far the interpolant is from each condition of this order: the polynomial is theta^order / gamma."""
    columns = list(zip(*table.dense, strict=True))
    worst = []
    for tree in trees(order):
        weights = stage_weights(table, tree)
        polynomial = [_dot(column, weights) for column in columns]
        target = [1 / gamma(tree) if power == order else 0.0 for power in range(1, len(columns) + 1)]
        missing = [1 / gamma(tree)] if order > len(columns) else []
        worst.append(max([abs(p - q) for p, q in zip(polynomial, target, strict=True)] + missing))
    return worst


def test_the_trees_are_all_the_trees() -> None:
    assert [len(trees(n)) for n in range(1, 7)] == [1, 1, 2, 4, 9, 20]
    assert [len(set(trees(n))) for n in range(1, 7)] == [1, 1, 2, 4, 9, 20]
    assert sorted(gamma(tree) for tree in trees(4)) == [4, 8, 12, 24]


@every_table
def test_weights_have_their_order(table: Tableau) -> None:
    for order in range(1, table.order + 1):
        assert max(residuals(table, table.b, order)) < ROUNDING
    assert max(residuals(table, table.b, table.order + 1)) > BROKEN


@pytest.mark.parametrize("table", [t for t in TABLEAUS.values() if t.embedded], ids=lambda t: t.name)
def test_embedded_weights_have_their_order(table: Tableau) -> None:
    assert table.embedded is not None
    assert table.embedded_order is not None
    for order in range(1, table.embedded_order + 1):
        assert max(residuals(table, table.embedded, order)) < ROUNDING
    assert max(residuals(table, table.embedded, table.embedded_order + 1)) > BROKEN


@every_table
def test_rows_sum_to_the_nodes(table: Tableau) -> None:
    for row, c in zip(table.a, table.c, strict=True):
        assert abs(sum(row) - c) < 1e-14


@every_table
def test_the_interpolant_has_its_order_at_every_point(table: Tableau) -> None:
    for order in range(1, table.dense_order + 1):
        assert max(dense_residuals(table, order)) < ROUNDING
    assert max(dense_residuals(table, table.dense_order + 1)) > BROKEN


@every_table
def test_the_interpolant_ends_at_the_step(table: Tableau) -> None:
    for row, b in zip(table.dense, table.b, strict=True):
        assert abs(sum(row) - b) < 1e-13


@pytest.mark.parametrize("name", ["bosh3", "dopri5", "tsit5"])
def test_the_interpolant_is_smooth_where_the_last_stage_is_the_next_first(name: str) -> None:
    """b_i'(0) = [i is first], b_i'(1) = [i is last]: the slopes at a step's ends are f there."""
    table = TABLEAUS[name]
    for i, row in enumerate(table.dense):
        assert abs(row[0] - (i == 0)) < 1e-13
        assert abs(sum(k * x for k, x in enumerate(row, start=1)) - (i == table.stages - 1)) < 1e-12


def test_which_methods_reuse_their_last_stage() -> None:
    assert {name for name, table in TABLEAUS.items() if table.first_same_as_last} == {
        "bosh3",
        "dopri5",
        "tsit5",
    }


@every_table
def test_every_table_says_where_it_is_from(table: Tableau) -> None:
    assert any(character.isdigit() for character in table.citation)
    assert len(table.citation) > 10
    assert TABLEAUS[table.name] is table
    assert METHODS[table.name] == RungeKutta(table)


def test_a_wrong_digit_would_be_seen() -> None:
    """The residuals above are not small for want of looking."""
    table = TABLEAUS["dopri5"]
    a = (*table.a[:4], (*table.a[4][:3], table.a[4][3] + 1e-6), *table.a[5:])
    assert max(max(residuals(replace(table, a=a), table.b, order)) for order in range(1, 6)) > 1e-8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": ((), (1.0, 0.0))}, "rows of length 0..1"),
        ({"a": ((),)}, "rows of length 0..1"),
        ({"c": (0.0,)}, "c and dense 2 entries"),
        ({"dense": ((1.0, -0.5),)}, "c and dense 2 entries"),
        ({"embedded": None}, "embedded needs 2 weights and embedded_order"),
        ({"embedded_order": None}, "embedded needs 2 weights and embedded_order"),
        ({"embedded": (1.0,)}, "embedded needs 2 weights"),
        ({"b": ()}, "rows of length"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_table_that_does_not_fit_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TABLEAUS["heun"], **change)  # type: ignore[arg-type]
