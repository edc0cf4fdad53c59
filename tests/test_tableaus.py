"""Order conditions of every table, over all rooted trees (Butcher 1963; Hairer, Norsett & Wanner 1993, II.2)."""

from dataclasses import replace

import pytest
import torch

from isocline import METHODS, RungeKutta, Tableau
from isocline.tableaus import TABLEAUS, whole
from rooted_trees import BROKEN, dense_residual, gamma, residual, trees

every_table = pytest.mark.parametrize("table", TABLEAUS.values(), ids=TABLEAUS.keys())


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
    for i, row in enumerate(table.dense):
        if table.basis == "powers":
            first, last = row[0], sum(k * x for k, x in enumerate(row, start=1))
        else:
            first, last = len(row) * row[0], len(row) * (row[-1] - row[-2])
        assert abs(first - (i == 0)) < 1e-13
        assert abs(last - (i == table.end_stage)) < 1e-12


def test_which_methods_reuse_a_stage() -> None:
    assert {name for name, table in TABLEAUS.items() if table.end_stage is not None} == SMOOTH


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


def test_the_estimate_of_dop853_is_at_least_that_of_its_authors() -> None:
    """Theirs: with e and e' of orders 5 and 3, |e|^2 / sqrt(|e|^2 + 0.01 |e'|^2), in the root mean square."""
    table = TABLEAUS["dop853"]
    ks = torch.randn(13, 1, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ks[:, :, -1] = 0.0
    first, *others = ks
    stages = iter(others)
    y0 = torch.zeros(1, 40, dtype=torch.float64)
    error = RungeKutta(table).step(lambda t, y: next(stages), 0.0, 0.5, y0, (first,)).error
    b, embedded, second = torch.tensor([table.b, table.embedded, table.second], dtype=torch.float64)
    e, e2 = (0.5 * (b - weights) @ ks[:, 0] for weights in (embedded, second))
    theirs = e.norm() ** 2 / (e.norm() ** 2 + 0.01 * e2.norm() ** 2).sqrt()
    assert error is not None
    assert error[0, -1] == 0.0
    assert theirs <= error.norm() < 1.5 * theirs


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
