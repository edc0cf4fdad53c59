"""SciPy's solvers, as black boxes."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from math import cos, isfinite, pi
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from isocline.solvers.base import BlackBox, Limits, Piece, Trace
from isocline.solvers.hermite import fraction
from isocline.state import Status, Step

ORDERS = {
    "RK23": (3, 2),
    "RK45": (5, 4),
    "DOP853": (8, 7),
    "Radau": (5, 3),
    "BDF": (5, 5),
    "LSODA": (12, 12),
    "VODE-Adams": (12, 12),
    "VODE-BDF": (5, 5),
}
"""Orders of the methods and of their error estimates; the highest where they vary."""

IMPLICIT = {"Radau", "BDF", "LSODA", "VODE-BDF"}

NODES = tuple(0.5 - 0.5 * cos(pi * i / 12) for i in range(13))
"""Where a step is sampled: enough for polynomials of degree 12, the highest of LSODA's."""


@dataclass(frozen=True)
class SciPy(BlackBox):
    r"""A solver of ``scipy.integrate`` as a black box, as *Neural ODEs* used them; needs SciPy.

    The state is computed in float64 on the CPU whatever y0's dtype and device are; f itself is evaluated in them.
    Samples of ``batch_dims`` are solved one after the other. Save times and dense output are SciPy's own interpolants.
    rtol, atol, dt0 and dt_max are those of the controller; SciPy's norm and step size rules are its own.

    Gradients are those of the continuous adjoint, solved by the same method and restarted at each save time
    (``BacksolveAdjoint``, the default here): for y0, all times, parameters and args, which are part of the adjoint's
    state. ``BacksolveAdjoint(method="tsit5")`` solves backwards with one of our own methods instead, which costs less.

    Args:
        method: "RK23", "RK45", "DOP853" (explicit), "VODE-Adams" (with functional iteration), "Radau", "BDF",
            "VODE-BDF" (stiff), or "LSODA" (Adams and BDF, switched). In SciPy 1.17 VODE's Newton iteration is at fault
            (SciPy's issue 24933): there "VODE-BDF" takes far too many steps on stiff problems.

    Raises:
        ImportError: SciPy is not installed.

    References:
        Virtanen et al. 2020, SciPy 1.0, doi:10.1038/s41592-019-0686-2; Hindmarsh 1983, ODEPACK (LSODA); Brown,
        Byrne & Hindmarsh 1989, doi:10.1137/0910062 (VODE); Chen, Rubanova, Bettencourt & Duvenaud 2018,
        arXiv:1806.07366.

    Example:
        >>> import isocline as iso, torch
        >>> k = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
        >>> y0 = torch.ones(1, dtype=torch.float64)
        >>> lsoda = iso.SciPy("LSODA")
        >>> sol = iso.solve(lambda t, y: -k * y, y0, (0.0, 1.0), method=lsoda, rtol=1e-6)
        >>> sol.ys[-1].sum().backward()
        >>> round(k.grad.item(), 4)  # -exp(-1/2)
        -0.6065
    """

    method: str

    kind: ClassVar[str] = "SciPy"
    citation: ClassVar[str] = "Virtanen et al. 2020, doi:10.1038/s41592-019-0686-2"
    dense_stages: ClassVar[int] = len(NODES)  # samples of a step

    def __post_init__(self) -> None:
        """Check the name, and that SciPy is there."""
        if self.method not in ORDERS:
            raise ValueError(f"SciPy knows {', '.join(ORDERS)}; got {self.method!r:.60}")
        _load()

    @property
    def name(self) -> str:
        """What users write."""
        return f"SciPy({self.method!r})"

    @property
    def order(self) -> int:
        """The highest order."""
        return ORDERS[self.method][0]

    @property
    def error_order(self) -> int | None:
        """That of the error estimate, the highest if it varies."""
        return ORDERS[self.method][1]

    def trace(
        self,
        f: Callable[[float, Tensor], Tensor],
        y0: Tensor,
        f0: Tensor,
        ts: Sequence[float],
        limits: Limits,
        dense: bool,
    ) -> Trace:
        """Step with SciPy's solver until the end, and interpolate on the way."""
        ys = torch.full((len(ts), len(y0)), float("nan"), dtype=torch.float64)
        ys[0] = y0
        if not bool(y0.isfinite().all() & f0.isfinite().all()):
            return Trace(ys, ts[0], Status.NON_FINITE, 0, ())
        function = _Function(f, ts[0], y0, f0)
        solver = _solver(self.method)(
            function,
            ts[0],
            y0.numpy(),
            ts[-1],
            **_settings(self.method, limits, ts),
            **self._jacobian(function, f0.dtype, limits),
        )
        sign = 1.0 if ts[-1] > ts[0] else -1.0
        steps, saved, pieces = 0, 1, []
        status = Status.RUNNING
        while status is Status.RUNNING:
            if steps == limits.max_steps:
                status = Status.MAX_STEPS
                break
            status = _advance(solver, function)
            steps += 1
            if status not in (Status.RUNNING, Status.SUCCESS):
                break
            reached = saved
            while reached < len(ts) - 1 and ts[reached] * sign <= solver.t * sign:
                reached += 1
            if reached > saved or dense:
                piece = solver.dense_output()
                ys[saved:reached] = _sampled(piece, ts[saved:reached])
                saved = reached
                if dense:
                    pieces.append(_piece(piece, solver))
        if status is Status.SUCCESS:
            ys[-1] = torch.from_numpy(solver.y)
        return Trace(ys, float(solver.t), status, steps, pieces)

    def _jacobian(self, function: "_Function", dtype: torch.dtype, limits: Limits) -> dict[str, Any]:
        """Return finite differences that are not lost in f's rounding errors; in float64 SciPy's own are good."""
        if self.method not in IMPLICIT or dtype == torch.float64:
            return {}
        return {"jac": lambda t, y: function.jacobian(t, y, dtype, limits)}

    def interpolate(self, step: Step, t: Tensor) -> Tensor:
        """Evaluate the polynomial through the samples."""
        nodes = torch.tensor(NODES, dtype=t.dtype, device=t.device)
        itself = torch.eye(len(nodes), dtype=torch.bool, device=t.device)
        apart = torch.where(itself, 1.0, nodes.unsqueeze(1) - nodes)
        to_others = (fraction(step, t).unsqueeze(1) - nodes).unsqueeze(1)
        weights = (torch.where(itself, 1.0, to_others) / apart).prod(dim=2)
        samples = torch.stack(step.stages, dim=1)
        return (weights.to(samples.dtype).unsqueeze(2) * samples).sum(dim=1)


class _Function:
    """A field as SciPy calls it; it notes whether the values of a step are finite."""

    def __init__(self, f: Callable[[float, Tensor], Tensor], t0: float, y0: Tensor, f0: Tensor) -> None:
        self.f = f
        self.start = t0, y0
        self.known: Tensor | None = f0
        self.finite = True

    def __call__(self, t: float, y: Any) -> Any:
        # A copy: solvers write into the arrays that they hand out.
        state = torch.tensor(y, dtype=torch.float64)
        if not isfinite(t):
            raise _NotFiniteError
        if self.known is not None and t == self.start[0] and torch.equal(state, self.start[1]):
            dy, self.known = self.known, None
        else:
            dy = self.f(float(t), state)
        dy = dy.detach().to("cpu", torch.float64, copy=True)
        self.finite = self.finite and bool(dy.isfinite().all())
        return dy.numpy()

    def jacobian(self, t: float, y: Any, dtype: torch.dtype, limits: Limits) -> Any:
        """Forward differences with steps for values of f in a dtype of fewer digits."""
        state = torch.tensor(y, dtype=torch.float64)
        atol, rtol = (torch.as_tensor(x, dtype=torch.float64) for x in (limits.atol, limits.rtol))
        floor = torch.where((rtol > 0) & (atol > 0), atol / rtol, 1.0)
        steps = torch.finfo(dtype).eps ** 0.5 * torch.maximum(state.abs(), floor)
        base, shifts = torch.from_numpy(self(t, y)), torch.diag(steps)
        columns = [
            (torch.from_numpy(self(t, (state + shift).numpy())) - base) / step
            for shift, step in zip(shifts, steps, strict=True)
        ]
        return torch.stack(columns, dim=1).numpy()


class _NotFiniteError(ArithmeticError):
    """The solver asked for f at a time that is none."""


def _advance(solver: Any, function: _Function) -> Status:
    """Take a step; return RUNNING, SUCCESS, or what made it fail."""
    function.finite = True
    try:
        with warnings.catch_warnings():
            # About what the status says, too, of LSODA and VODE.
            warnings.filterwarnings("ignore", module=r"scipy\.|isocline\.solvers\.vode")
            solver.step()
    except _NotFiniteError:
        return Status.NON_FINITE
    except ValueError:
        if function.finite:
            raise
        return Status.NON_FINITE  # linear algebra refuses inf and nan
    too_small = Status.STEP_TOO_SMALL if function.finite else Status.NON_FINITE
    if solver.status == "failed":
        return too_small
    if not bool(torch.from_numpy(solver.y).isfinite().all()):
        return Status.NON_FINITE
    if solver.status == "finished":
        return Status.SUCCESS
    # Some go on though time hardly moves any more; the loop for our own methods draws the same line.
    stuck = solver.t + (solver.t - solver.t_old) / 16 == solver.t
    return too_small if stuck else Status.RUNNING


def _settings(method: str, limits: Limits, ts: Sequence[float]) -> dict[str, Any]:
    first = None if limits.dt0 is None else min(limits.dt0, abs(ts[-1] - ts[0]))
    # SciPy accepts no smaller rtol, and warns.
    rtol = torch.as_tensor(limits.rtol, dtype=torch.float64).clamp(min=100 * torch.finfo(torch.float64).eps)
    # Radau and BDF know a single one only: the strictest.
    rtol = rtol.min() if method in ("Radau", "BDF") else rtol
    tolerances = {"rtol": rtol.numpy(), "atol": torch.as_tensor(limits.atol, dtype=torch.float64).numpy()}
    return {**tolerances, "max_step": limits.dt_max, "first_step": first}


def _sampled(piece: Any, ts: Sequence[float]) -> Tensor:
    """Return SciPy's interpolant at times (S,), as (S, n)."""
    return torch.from_numpy(piece(torch.tensor(ts, dtype=torch.float64).numpy()).T.copy())


def _piece(piece: Any, solver: Any) -> Piece:
    t0, t1 = float(solver.t_old), float(solver.t)
    samples = _sampled(piece, [t0 + node * (t1 - t0) for node in NODES])
    samples[-1] = torch.from_numpy(solver.y)
    return Piece(t0, t1, samples)


def _solver(method: str) -> Callable[..., Any]:
    """Return the class of SciPy's solver, or of one like them around its older interface."""
    if method.startswith("VODE"):
        from isocline.solvers.vode import VODE

        return partial(VODE, family=method.removeprefix("VODE-").lower())
    return cast("Callable[..., Any]", getattr(_load(), method))


@lru_cache
def _load() -> Any:
    try:
        from scipy import integrate
    except ImportError:
        raise ImportError("isocline.SciPy(...) needs SciPy; install isocline[scipy]") from None
    return integrate
