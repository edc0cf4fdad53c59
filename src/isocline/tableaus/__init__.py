"""Runge-Kutta methods as data: frozen tables of numbers, each with its source.

Exact fractions stand where the source has them. ``tests/test_tableaus.py`` checks the order conditions of every method,
embedded method and interpolant, so a mistyped digit cannot survive.
"""

from isocline.tableaus.classic import BOSH3, DOPRI5, EULER, HEUN, MIDPOINT, RALSTON, RK4, RK4_38, TSIT5
from isocline.tableaus.composition import COMPOSITIONS, Composition
from isocline.tableaus.dormand_prince import DOP853, DOPRI8
from isocline.tableaus.implicit import IMPLICIT, ImplicitTableau
from isocline.tableaus.rosenbrock import ROSENBROCK, RosenbrockTableau
from isocline.tableaus.ssp import SSPRK33
from isocline.tableaus.tableau import Sum, Tableau, whole
from isocline.tableaus.verner import VERN7, VERN8, VERN9

_ALL = (EULER, MIDPOINT, HEUN, RALSTON, RK4, RK4_38, BOSH3, SSPRK33, DOPRI5, TSIT5, VERN7, VERN8, DOPRI8, DOP853, VERN9)

TABLEAUS: dict[str, Tableau] = {tableau.name: tableau for tableau in _ALL}
"""All explicit tables by name."""

__all__ = [
    "COMPOSITIONS",
    "IMPLICIT",
    "ROSENBROCK",
    "TABLEAUS",
    "Composition",
    "ImplicitTableau",
    "RosenbrockTableau",
    "Sum",
    "Tableau",
    "whole",
]
