"""Methods by name."""

from isocline.solvers.adams import Adams
from isocline.solvers.adams_fixed import AdamsFixed
from isocline.solvers.auto import Auto
from isocline.solvers.base import Solver
from isocline.solvers.bdf import BDF
from isocline.solvers.collocation import Collocation
from isocline.solvers.esdirk import ESDIRK
from isocline.solvers.radau import Radau
from isocline.solvers.reversible import Reversible, ReversibleHeun
from isocline.solvers.rosenbrock import Rosenbrock
from isocline.solvers.runge_kutta import RungeKutta
from isocline.solvers.scipy_ import SciPy
from isocline.solvers.splitting import Splitting
from isocline.tableaus import COMPOSITIONS, IMPLICIT, ROSENBROCK, TABLEAUS

METHODS: dict[str, Solver] = {
    **{name: RungeKutta(tableau) for name, tableau in TABLEAUS.items()},
    **{name: ESDIRK(tableau) for name, tableau in IMPLICIT.items()},
    **{name: Rosenbrock(tableau) for name, tableau in ROSENBROCK.items()},
    **{name: Splitting(composition) for name, composition in COMPOSITIONS.items()},
    "auto": Auto(),
    "adams": Adams(),
    "adams_fixed": AdamsFixed(),
    "bdf": BDF(),
    "radau": Radau(),
    "reversible_heun": ReversibleHeun(),
}
"""Every method that ``solve(method=...)`` knows by name."""

__all__ = [
    "BDF",
    "ESDIRK",
    "METHODS",
    "Adams",
    "AdamsFixed",
    "Auto",
    "Collocation",
    "Radau",
    "Reversible",
    "ReversibleHeun",
    "Rosenbrock",
    "RungeKutta",
    "SciPy",
    "Solver",
    "Splitting",
]
