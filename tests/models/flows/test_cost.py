"""What the density of a planar CNF costs: it grows no faster than the number of hidden units."""

import pytest
from benchmarks.planar_cost import MOST, UNITS, counts, exponents


@pytest.mark.parametrize("dim", [2, 7])
@pytest.mark.parametrize("gradient", [False, True])
def test_the_cost_is_linear_in_the_hidden_units(dim: int, gradient: bool) -> None:
    rows = [{"units": units, **counts(units, dim=dim, gradient=gradient)} for units in UNITS]
    for key in ("flops", "written"):
        found = exponents(rows, key)
        assert max(found) <= MOST
        assert found[-1] > 0.9  # and it is counted what depends on them
