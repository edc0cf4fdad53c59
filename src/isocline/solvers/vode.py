"""VODE of ``scipy.integrate.ode`` in the form of SciPy's newer solvers: step by step, with dense output."""

from collections.abc import Callable
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import DenseOutput, OdeSolver, ode

Array = NDArray[np.float64]

TO_THE_END = 5  # VODE's ITASK: one step, and none past the end
HISTORY = 20  # where the Nordsieck array begins in VODE's RWORK; 10 is the last step's size, of IWORK 13 its order


class VODE(OdeSolver):  # type: ignore[misc]  # SciPy has no types
    """Adams methods with functional iteration, or BDF with Newton's.

    It always integrates forwards, in ``s = direction * t``: SciPy's wrapper of VODE interpolates in no other direction.

    References:
        Brown, Byrne & Hindmarsh 1989, VODE: a variable-coefficient ODE solver, doi:10.1137/0910062.
    """

    def __init__(
        self,
        fun: Callable[[float, Array], Array],
        t0: float,
        y0: Array,
        t_bound: float,
        *,
        family: str,
        rtol: Array,
        atol: Array,
        max_step: float,
        first_step: float | None,
        jac: Callable[[float, Array], Array] | None = None,
    ) -> None:
        """Prepare the first step; family is "adams" or "bdf", the rest as for every OdeSolver."""
        super().__init__(fun, t0, y0, t_bound, vectorized=False)
        self.error: BaseException | None = None
        sign = self.direction or 1.0
        derivative = self._guarded(lambda s, y: sign * fun(sign * s, y), (self.n,))
        jacobian = self._guarded(lambda s, y: sign * jac(sign * s, y), (self.n, self.n)) if jac else None
        self.ode = ode(derivative, jacobian).set_integrator(
            "vode",
            method=family,
            with_jacobian=family == "bdf",
            rtol=rtol,
            atol=atol,
            max_step=max_step if isfinite(max_step) else 0.0,
            first_step=first_step or 0.0,
        )
        self.ode.set_initial_value(y0, sign * t0)
        self.vode = self.ode._integrator
        self.vode.rwork[0] = sign * t_bound
        self.vode.call_args[2] = TO_THE_END

    def _guarded(
        self, function: Callable[[float, Array], Array], shape: tuple[int, ...]
    ) -> Callable[[float, Array], Array]:
        """Keep what the function raises, for after the step: SciPy's wrapper of VODE loses it, and goes on."""

        def guarded(s: float, y: Array) -> Array:
            if self.error is None:
                try:
                    return function(s, y)
                except BaseException as error:  # an interrupt, too
                    self.error = error
            return np.full(shape, np.nan)

        return guarded

    def _step_impl(self) -> tuple[bool, str | None]:
        """Take a step of VODE's own size, or the last one, to the end."""
        sign = self.direction
        jacobian = self.ode.jac or (lambda: None)  # some function must be there
        y, s = self.vode.run(self.ode.f, jacobian, self.ode._y, self.ode.t, sign * self.t_bound, (), ())
        if self.error is not None:
            raise self.error
        if not self.vode.success:
            return False, f"VODE failed with ISTATE = {self.vode.istate}"
        self.ode._y, self.ode.t = y, s
        self.y, self.t = y.copy(), sign * s
        return True, None

    def _dense_output_impl(self) -> "_Nordsieck":
        order, h = int(self.vode.iwork[13]), float(self.vode.rwork[10])
        terms = self.vode.rwork[HISTORY : HISTORY + (order + 1) * self.n].reshape(order + 1, self.n)
        return _Nordsieck(self.t_old, self.t, self.direction * h, terms.copy())


class _Nordsieck(DenseOutput):  # type: ignore[misc]
    """A step's polynomial about its end: terms (order + 1, n) are ``h^j / j! d^j y / dt^j``."""

    def __init__(self, t_old: float, t: float, h: float, terms: Array) -> None:
        super().__init__(t_old, t)
        self.h, self.terms = h, terms

    def _call_impl(self, t: Any) -> Array:
        powers = ((np.asarray(t) - self.t) / self.h)[..., None] ** np.arange(len(self.terms))
        values: Array = (powers @ self.terms).T
        return values
