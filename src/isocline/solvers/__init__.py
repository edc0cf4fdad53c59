"""Methods by name."""

from isocline.solvers.base import Solver
from isocline.solvers.runge_kutta import RungeKutta
from isocline.tableaus import TABLEAUS

METHODS: dict[str, Solver] = {name: RungeKutta(tableau) for name, tableau in TABLEAUS.items()}
"""Every method that ``solve(method=...)`` knows by name."""

__all__ = ["METHODS", "RungeKutta", "Solver"]
