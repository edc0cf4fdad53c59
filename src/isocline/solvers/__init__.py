"""Methods by name."""

from isocline.solvers.base import Solver
from isocline.solvers.esdirk import ESDIRK
from isocline.solvers.rosenbrock import Rosenbrock
from isocline.solvers.runge_kutta import RungeKutta
from isocline.tableaus import IMPLICIT, ROSENBROCK, TABLEAUS

METHODS: dict[str, Solver] = {
    **{name: RungeKutta(tableau) for name, tableau in TABLEAUS.items()},
    **{name: ESDIRK(tableau) for name, tableau in IMPLICIT.items()},
    **{name: Rosenbrock(tableau) for name, tableau in ROSENBROCK.items()},
}
"""Every method that ``solve(method=...)`` knows by name."""

__all__ = ["ESDIRK", "METHODS", "Rosenbrock", "RungeKutta", "Solver"]
