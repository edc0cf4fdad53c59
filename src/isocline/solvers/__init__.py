"""Methods by name."""

from isocline.solvers.adams import Adams
from isocline.solvers.adams_fixed import AdamsFixed
from isocline.solvers.base import Solver
from isocline.solvers.bdf import BDF
from isocline.solvers.esdirk import ESDIRK
from isocline.solvers.runge_kutta import RungeKutta
from isocline.tableaus import IMPLICIT, TABLEAUS

METHODS: dict[str, Solver] = {
    **{name: RungeKutta(tableau) for name, tableau in TABLEAUS.items()},
    **{name: ESDIRK(tableau) for name, tableau in IMPLICIT.items()},
    "adams": Adams(),
    "adams_fixed": AdamsFixed(),
    "bdf": BDF(),
}
"""Every method that ``solve(method=...)`` knows by name."""

__all__ = ["BDF", "ESDIRK", "METHODS", "Adams", "AdamsFixed", "RungeKutta", "Solver"]
