"""Names of methods -> solvers, and the options and callbacks that go with them."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

from isocline import ESDIRK, METHODS, AdamsFixed, Collocation, ImplicitTableau, RungeKutta, SciPy, Solver, Tableau

ADAPTIVE = frozenset(
    {"norm", "dtype", "min_step", "max_step", "first_step", "step_t", "jump_t"}
    | {"safety", "ifactor", "dfactor", "max_num_steps"}
)
FIXED = frozenset({"norm", "step_size", "grid_constructor", "interp", "perturb"})
SCIPY = frozenset({"norm", "min_step", "max_step", "solver", "grid_points", "eps"})
DEFAULT = "dopri5"
"""The method that None stands for."""

STEP, ACCEPT, REJECT = "callback_step", "callback_accept_step", "callback_reject_step"


@dataclass(frozen=True)
class Method:
    """What solves in a method's place."""

    choose: Callable[[Mapping[str, Any]], Solver]
    """Returns it for the options."""
    options: frozenset[str]
    callbacks: tuple[str, ...]

    @property
    def fixed(self) -> bool:
        """Whether it steps on a grid."""
        return "step_size" in self.options

    def known(self, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options that the method knows, and warn of others."""
        others = {key: value for key, value in options.items() if key not in self.options}
        if others:
            warnings.warn(f"{name}: Unexpected arguments {others}", stacklevel=2)
        return {key: value for key, value in options.items() if key in self.options and value is not None}


def _adaptive(solver: Solver) -> Method:
    return Method(lambda _: solver, ADAPTIVE, (STEP, ACCEPT, REJECT))


def _fixed(solver: Solver) -> Method:
    return Method(lambda _: solver, FIXED, (STEP,))


def _implicit(solver: Solver) -> Method:
    return Method(lambda _: solver, FIXED | {"max_iters"}, (STEP,))


def _adams(corrector: bool) -> Method:
    """Adams' methods of order 4, or of the order asked for: higher ones are hardly stable, and take longer to start."""

    def choose(options: Mapping[str, Any]) -> Solver:
        order = int(options.get("max_order", 4))
        assert order <= 12, "max_order must be at most 12"
        return AdamsFixed(max(order, 1), corrector)

    return Method(choose, FIXED | {"max_order", "max_iters", "implicit"}, (STEP,))


def _scipy(options: Mapping[str, Any]) -> Solver:
    return SciPy(options.get("solver", "LSODA"))


def _dopri5() -> Solver:
    """Return dopri5 with the error estimate of Shampine 1986, which is two thirds of Dormand and Prince's."""
    table = METHODS["dopri5"].tableau  # type: ignore[attr-defined]
    embedded = tuple(b - 2 / 3 * (b - other) for b, other in zip(table.b, table.embedded, strict=True))
    return RungeKutta(replace(table, embedded=embedded))


FEHLBERG2 = Tableau(
    name="fehlberg2",
    order=2,
    a=((), (0.5,), (1 / 256, 255 / 256)),
    b=(1 / 512, 255 / 256, 1 / 512),
    c=(0.0, 0.5, 1.0),
    embedded=(1 / 256, 255 / 256, 0.0),
    embedded_order=1,
    dense=((1.0, -511 / 512), (0.0, 255 / 256), (0.0, 1 / 512)),
    dense_order=2,
    citation="Fehlberg 1969, NASA TR R-315: RK1(2)",
)

HEUN3 = Tableau(
    name="heun3",
    order=3,
    a=((), (1 / 3,), (0.0, 2 / 3)),
    b=(0.25, 0.0, 0.75),
    c=(0.0, 1 / 3, 2 / 3),
    dense=((1.0, -0.75), (0.0, 0.0), (0.0, 0.75)),
    dense_order=2,
    citation="Heun 1900, Z. Math. Phys. 45, 23-38",
)

TRAPEZOID = ImplicitTableau(
    name="trapezoid",
    order=2,
    a=((0.0,), (0.5, 0.5)),
    c=(0.0, 1.0),
    embedded=(1.0, 0.0),
    embedded_order=1,
    dense=((1.0, -0.5), (0.0, 0.5)),
    dense_order=2,
    citation="Hairer & Wanner 1996, IV.3",
)

# Its first stage has no weight: it is there because tables of this form begin with an explicit one.
_G = 1 - sqrt(0.5)
SDIRK2 = ImplicitTableau(
    name="sdirk2",
    order=2,
    a=((0.0,), (0.0, _G), (0.0, 1 - _G, _G)),
    c=(0.0, _G, 1.0),
    embedded=(0.0, 1.0, 0.0),
    embedded_order=1,
    dense=((0.5, -0.5), (1 - _G, 0.0), (_G - 0.5, 0.5)),
    dense_order=2,
    citation="Alexander 1977, SIAM J. Numer. Anal. 14, doi:10.1137/0714068",
)

SOLVERS: dict[str, Method] = {
    "dopri8": _adaptive(METHODS["dopri8"]),
    "dopri5": _adaptive(_dopri5()),
    "tsit5": _adaptive(METHODS["tsit5"]),
    "bosh3": _adaptive(METHODS["bosh3"]),
    "fehlberg2": _adaptive(RungeKutta(FEHLBERG2)),
    "adaptive_heun": _adaptive(METHODS["heun"]),
    "euler": _fixed(METHODS["euler"]),
    "midpoint": _fixed(METHODS["midpoint"]),
    "heun2": _fixed(METHODS["heun"]),
    "heun3": _fixed(RungeKutta(HEUN3)),
    "rk4": _fixed(METHODS["rk4_38"]),
    "explicit_adams": _adams(corrector=False),
    "implicit_adams": _adams(corrector=True),
    "fixed_adams": _adams(corrector=True),
    "scipy_solver": Method(_scipy, SCIPY, ()),
    "implicit_euler": _implicit(METHODS["implicit_euler"]),
    "implicit_midpoint": _implicit(Collocation((0.5,))),
    "trapezoid": _implicit(ESDIRK(TRAPEZOID)),
    "radauIIA3": _implicit(Collocation((1 / 3, 1.0))),
    "gl4": _implicit(Collocation((0.5 - sqrt(3) / 6, 0.5 + sqrt(3) / 6))),
    "radauIIA5": _implicit(Collocation((0.4 - sqrt(6) / 10, 0.4 + sqrt(6) / 10, 1.0))),
    "gl6": _implicit(Collocation((0.5 - sqrt(15) / 10, 0.5, 0.5 + sqrt(15) / 10))),
    "sdirk2": _implicit(ESDIRK(SDIRK2)),
    "trbdf2": _implicit(METHODS["trbdf2"]),
}
"""Every name that torchdiffeq has for a method."""
