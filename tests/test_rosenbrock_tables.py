"""Order conditions and stability of every Rosenbrock table (Hairer & Wanner 1996, IV.7)."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from isocline import METHODS, Rosenbrock, RosenbrockTableau
from isocline.tableaus import ROSENBROCK
from rooted_trees import Tree, gamma, trees

Matrix = NDArray[np.float64]

ROUNDING = 3e-12
"""Residual that counts as zero: coefficients are up to about 150."""
BROKEN = 1e-3

EMBEDDED = {"rosenbrock23": 3, "rodas4": 3, "rodas5p": 4}

every_table = pytest.mark.parametrize("table", ROSENBROCK.values(), ids=ROSENBROCK.keys())


def full(rows: tuple[tuple[float, ...], ...], s: int) -> Matrix:
    return np.array([[*row, *[0.0] * (s - len(row))] for row in rows])


def stage_form(table: RosenbrockTableau) -> tuple[Matrix, Matrix]:
    """The matrices alpha and Gamma of the form with stages ``k_i`` and products with the Jacobian."""
    s = table.stages
    gammas = np.linalg.inv(np.eye(s) / table.gamma - full(table.coupling, s))
    return full(table.a, s) @ gammas, gammas


def stage_weights(table: RosenbrockTableau, tree: Tree) -> Matrix:
    """Elementary weight of each stage: where a vertex has one child only, the Jacobian adds Gamma to alpha."""
    alpha, gammas = stage_form(table)
    inner = [stage_weights(table, child) for child in tree]
    if len(inner) == 1:
        return (alpha + gammas) @ inner[0]
    return np.prod([alpha @ x for x in inner], axis=0) if inner else np.ones(table.stages)


def residual(table: RosenbrockTableau, weights: tuple[float, ...], order: int) -> float:
    """How far the weights of u are from the conditions of exactly this order."""
    over_k = np.array(weights) @ stage_form(table)[1]
    return max(abs(over_k @ stage_weights(table, tree) - 1 / gamma(tree)) for tree in trees(order))


def dense_residual(table: RosenbrockTableau, order: int) -> float:
    columns = np.array(table.dense).T @ stage_form(table)[1]
    worst = 0.0
    for tree in trees(order):
        polynomial = columns @ stage_weights(table, tree)
        target = np.zeros(max(len(polynomial), order))
        target[order - 1] = 1 / gamma(tree)
        worst = max(worst, np.abs(np.pad(polynomial, (0, len(target) - len(polynomial))) - target).max())
    return worst


@every_table
def test_weights_have_their_order(table: RosenbrockTableau) -> None:
    assert max(residual(table, table.b, order) for order in range(1, table.order + 1)) < ROUNDING
    assert residual(table, table.b, table.order + 1) > BROKEN


@every_table
def test_embedded_weights_have_their_order(table: RosenbrockTableau) -> None:
    embedded = tuple(b - e for b, e in zip(table.b, table.error, strict=True))
    order = EMBEDDED[table.name]
    assert max(residual(table, embedded, q) for q in range(1, order + 1)) < ROUNDING
    assert residual(table, embedded, order + 1) > BROKEN
    assert table.error_order == min(order, table.order)


@every_table
def test_the_interpolant_has_its_order_at_every_point(table: RosenbrockTableau) -> None:
    assert max(dense_residual(table, order) for order in range(1, table.dense_order + 1)) < ROUNDING
    assert dense_residual(table, table.dense_order + 1) > BROKEN


@every_table
def test_the_interpolant_ends_at_the_step(table: RosenbrockTableau) -> None:
    np.testing.assert_allclose(np.array(table.dense).sum(axis=1), table.b, rtol=0, atol=1e-12)


@every_table
def test_nodes_and_weights_of_the_slope_in_time_are_sums_of_rows(table: RosenbrockTableau) -> None:
    """So a step of a non-autonomous problem is that of the same problem with time as part of the state."""
    alpha, gammas = stage_form(table)
    np.testing.assert_allclose(alpha.sum(axis=1), table.c, rtol=0, atol=2e-14)
    np.testing.assert_allclose(gammas.sum(axis=1), table.d, rtol=0, atol=2e-14)


@every_table
def test_infinitely_stiff_parts_are_damped_at_once(table: RosenbrockTableau) -> None:
    alpha, gammas = stage_form(table)
    at_infinity = 1 - np.array(table.b) @ gammas @ np.linalg.solve(alpha + gammas, np.ones(table.stages))
    assert abs(at_infinity) < 1e-12


@every_table
@pytest.mark.parametrize("z", [-0.1, -1.0, -30.0, -1e4, 1j, 30j, 1e4j])
def test_stability_where_the_solution_is_stable(table: RosenbrockTableau, z: complex) -> None:
    alpha, gammas = stage_form(table)
    growth = 1 + z * np.array(table.b) @ gammas @ np.linalg.solve(
        np.eye(table.stages) - z * (alpha + gammas), np.ones(table.stages)
    )
    assert abs(growth) <= 1 + 1e-12


@every_table
def test_every_table_says_where_it_is_from(table: RosenbrockTableau) -> None:
    assert any(character.isdigit() for character in table.citation)
    assert METHODS[table.name] == Rosenbrock(table)


def test_a_wrong_digit_would_be_seen() -> None:
    table = ROSENBROCK["rodas5p"]
    wrong = replace(table, a=(*table.a[:2], (table.a[2][0], table.a[2][1] + 1e-6), *table.a[3:]))
    assert max(residual(wrong, wrong.b, order) for order in range(1, 6)) > 1e-8


@pytest.mark.parametrize("change", [{"a": ((),)}, {"coupling": ((), (1.0, 2.0))}, {"c": (0.0,)}, {"dense": ((1.0,),)}])
def test_a_table_that_does_not_fit_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"with 3 weights.*rows of length 0..2"):
        replace(ROSENBROCK["rosenbrock23"], **change)  # type: ignore[arg-type]
