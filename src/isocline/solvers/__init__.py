"""Methods by name."""

from isocline.solvers.base import Solver
from isocline.solvers.reversible import Reversible, ReversibleHeun
from isocline.solvers.runge_kutta import RungeKutta
from isocline.solvers.scipy_ import SciPy
from isocline.solvers.splitting import Splitting
from isocline.tableaus import COMPOSITIONS, TABLEAUS

METHODS: dict[str, Solver] = {
    **{name: RungeKutta(tableau) for name, tableau in TABLEAUS.items()},
    **{name: Splitting(composition) for name, composition in COMPOSITIONS.items()},
    "reversible_heun": ReversibleHeun(),
}
"""Every method that ``solve(method=...)`` knows by name."""

__all__ = ["METHODS", "Reversible", "ReversibleHeun", "RungeKutta", "SciPy", "Solver", "Splitting"]
