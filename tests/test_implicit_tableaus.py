"""Order conditions and stability of the diagonally implicit tables."""

from dataclasses import replace
from itertools import product
from math import prod
from operator import mul

import pytest
import torch
from torch import Tensor

import isocline as iso
from isocline.tableaus import IMPLICIT, ImplicitTableau
from rooted_trees import BROKEN, Tree, dense_residual, gamma, residual, trees

every_table = pytest.mark.parametrize("table", IMPLICIT.values(), ids=IMPLICIT.keys())


@every_table
def test_weights_have_their_order(table: ImplicitTableau) -> None:
    for order in range(1, table.order + 1):
        assert residual(table, table.b, order) < 1
    assert residual(table, table.b, table.order + 1) > BROKEN


@every_table
def test_embedded_weights_have_their_order(table: ImplicitTableau) -> None:
    for order in range(1, table.embedded_order + 1):
        assert residual(table, table.embedded, order) < 1
    assert residual(table, table.embedded, table.embedded_order + 1) > BROKEN


@every_table
def test_rows_sum_to_the_nodes(table: ImplicitTableau) -> None:
    for row, c in zip(table.a, table.c, strict=True):
        assert abs(sum(row) - c) < 1e-14
    for row, c in zip(table.explicit or (), table.c, strict=False):
        assert abs(sum(row) - c) < 1e-14


@every_table
def test_the_interpolant_has_its_order_at_every_point_and_ends_at_the_step(table: ImplicitTableau) -> None:
    for order in range(1, table.dense_order + 1):
        assert dense_residual(table, order) < 1
    assert dense_residual(table, table.dense_order + 1) > BROKEN
    for row, b in zip(table.dense, table.b, strict=True):
        assert abs(sum(row) - b) < 1e-13


@pytest.mark.parametrize("name", ["trbdf2", "kvaerno3", "kvaerno5"])
def test_the_interpolant_is_smooth(name: str) -> None:
    table = IMPLICIT[name]
    for i, row in enumerate(table.dense):
        assert abs(row[0] - (i == 0)) < 1e-13
        assert abs(sum(k * x for k, x in enumerate(row, start=1)) - (i == table.stages - 1)) < 1e-12


def mixed_weights(table: ImplicitTableau, tree: Tree) -> list[list[float]]:
    """Elementary weights of the stages for all ways in which either part of f may stand at the vertices."""
    assert table.explicit is not None
    rows_of = (table.a, table.explicit)
    inner = [
        [[sum(map(mul, row, weights)) for row in rows] for rows in rows_of for weights in mixed_weights(table, child)]
        for child in tree
    ]
    return [[prod(parts) for parts in zip([1.0] * table.stages, *chosen, strict=True)] for chosen in product(*inner)]


def mixed_residuals(table: ImplicitTableau, order: int) -> list[float]:
    return [
        abs(sum(b * w for b, w in zip(table.b, weights, strict=True)) - 1 / gamma(tree))
        for tree in trees(order)
        for weights in mixed_weights(table, tree)
    ]


def test_the_two_parts_of_kencarp4_have_its_order_together() -> None:
    """Trees whose vertices have two colours (Kennedy & Carpenter 2003, section 2)."""
    table = IMPLICIT["kencarp4"]
    assert [len(mixed_residuals(table, order)) for order in (1, 2, 3)] == [1, 2, 8]
    for order in range(1, 5):
        assert max(mixed_residuals(table, order)) < 2e-13
    assert max(mixed_residuals(table, 5)) > 1e-4


def growth(table: ImplicitTableau, z: Tensor, weights: tuple[float, ...]) -> Tensor:
    """``R(z) = 1 + z b (I - z A)^-1 1``."""
    s = table.stages
    a = torch.tensor([[*row, *[0.0] * (s - len(row))] for row in table.a], dtype=torch.complex128)
    matrix = torch.eye(s, dtype=a.dtype) - z.reshape(-1, 1, 1) * a
    inner = torch.linalg.solve(matrix, torch.ones(s, 1, dtype=a.dtype).expand(len(z), s, 1)).squeeze(2)
    return 1 + z * (inner @ torch.tensor(weights, dtype=a.dtype))


@every_table
def test_they_are_a_stable(table: ImplicitTableau) -> None:
    """No growth on the imaginary axis, and no pole to its left."""
    axis = 1j * torch.logspace(-3, 6, 4001, dtype=torch.float64)
    assert growth(table, axis, table.b).abs().max() < 1 + 1e-9
    assert table.gamma > 0


@every_table
def test_they_are_l_stable(table: ImplicitTableau) -> None:
    far = torch.tensor([-1e7, 1e7j, -1e7 + 1e7j], dtype=torch.complex128)
    assert growth(table, far, table.b).abs().max() < 1e-5


def test_growth_is_that_of_the_methods() -> None:
    """The function above says what a step does."""
    z = torch.tensor([-3.7], dtype=torch.float64)
    for name, table in IMPLICIT.items():
        sol = iso.solve(
            lambda t, y: z * y, torch.ones(1, dtype=z.dtype), (0, 1.0), method=name, controller=iso.FixedStep(1)
        )
        assert sol.ys[-1].item() == pytest.approx(growth(table, z + 0j, table.b).real.item(), abs=1e-9)


@every_table
def test_every_table_says_where_it_is_from(table: ImplicitTableau) -> None:
    assert any(character.isdigit() for character in table.citation)
    assert IMPLICIT[table.name] is table
    assert iso.METHODS[table.name] == iso.ESDIRK(table)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": ((0.0,), (1.0,))}, "rows of length 1..2"),
        ({"c": (0.0,)}, "c, dense and embedded 2 entries"),
        ({"embedded": (1.0,)}, "c, dense and embedded 2 entries"),
        ({"a": ((1.0,), (0.0, 1.0))}, "diagonal must be 0, gamma"),
        ({"a": ((0.0,), (1.0, 0.0))}, "diagonal must be 0, gamma"),
        ({"explicit": ((0.0,), (1.0,))}, "explicit needs rows of length 0..1"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_table_that_does_not_fit_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(IMPLICIT["implicit_euler"], **change)  # type: ignore[arg-type]
