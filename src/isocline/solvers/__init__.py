"""Methods by name."""

from isocline.solvers.base import Solver
from isocline.solvers.esdirk import ESDIRK
from isocline.solvers.runge_kutta import RungeKutta
from isocline.tableaus import IMPLICIT, TABLEAUS

METHODS: dict[str, Solver] = {
    **{name: RungeKutta(tableau) for name, tableau in TABLEAUS.items()},
    **{name: ESDIRK(tableau) for name, tableau in IMPLICIT.items()},
}
"""Every method that ``solve(method=...)`` knows by name."""

__all__ = ["ESDIRK", "METHODS", "RungeKutta", "Solver"]
