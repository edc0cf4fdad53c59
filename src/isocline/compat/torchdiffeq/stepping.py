"""A method and its options -> a solver, a controller, and times at which steps end."""

from collections.abc import Callable, Mapping
from math import inf, nextafter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from isocline import PID, Controller, FixedStep, Solver
from isocline.compat.torchdiffeq.methods import Method
from isocline.compat.torchdiffeq.norms import Rows

MOST = 2**31 - 1
"""torchdiffeq's default for ``max_num_steps``."""

Grid = Callable[[Tensor], Tensor]
"""From times (T,) to those at which steps end."""


class Stepping(NamedTuple):
    """How to step."""

    solver: Solver
    controller: Controller
    step_t: Tensor | None
    """Times at which steps end."""
    jump_t: Tensor | None
    """Times at which f jumps."""
    max_steps: int


def stepping(
    method: Method, options: Mapping[str, Any], rtol: Any, atol: Any, norm: "Rows | str", like: Tensor, t: Tensor
) -> Stepping:
    """Return how to step through the times t, for a state like this.

    Raises:
        ValueError: options that exclude each other, or do not exist.
        AssertionError: a grid that does not begin and end where t does.
    """
    solver = method.choose(options)
    if method.fixed:
        return _fixed(solver, options, t)
    # Below what the dtype resolves an error estimate is noise.
    rtol, atol = _at_least(torch.finfo(like.dtype).eps, rtol), _plain(atol)
    smallest = 0.0 if "solver" in method.options else _number(options, "min_step", 0.0)
    controller = PID(
        rtol=rtol,
        atol=atol,
        pcoeff=0.0,
        icoeff=1.0,
        safety=min(_number(options, "safety", 0.9), nextafter(1.0, 0.0)),
        factor_min=min(_number(options, "dfactor", 0.2), nextafter(1.0, 0.0)),
        factor_max=max(_number(options, "ifactor", 10.0), nextafter(1.0, 2.0)),
        factor_accepted=1.0,
        dt0=_number(options, "first_step", 0.0) or None,
        dt_max=_number(options, "max_step", inf),
        dt_min=smallest,
        force_dt_min=smallest > 0,
        norm=norm,  # type: ignore[arg-type]
    )
    step_t, jump_t = _ahead(options, "step_t", t), _ahead(options, "jump_t", t)
    if step_t is not None and jump_t is not None and bool(torch.isin(step_t, jump_t).any()):
        raise ValueError("`step_t` and `jump_t` must not have any repeated elements between them.")
    return Stepping(solver, controller, step_t, jump_t, int(options.get("max_num_steps", MOST)))


def _fixed(solver: Solver, options: Mapping[str, Any], t: Tensor) -> Stepping:
    """Step by ``step_size``, or on a grid: by default the times themselves."""
    size, make = options.get("step_size"), options.get("grid_constructor")
    if size is not None and make is not None:
        raise ValueError("step_size and grid_constructor are mutually exclusive arguments.")
    if options.get("interp", "linear") not in ("linear", "cubic"):
        raise ValueError(f"Unknown interpolation method {options['interp']}")
    grid = t.detach()
    first, last = grid[[0, -1]].tolist()
    if make is not None:
        grid = make(t).detach()
        assert grid[[0, -1]].tolist() == [first, last], "a grid must begin and end where t does"
    # A single time has no steps; any size will do.
    controller = FixedStep((abs(last - first) or 1.0) if size is None else float(size))
    marks = grid[1:-1] if size is None and len(grid) > 2 else None
    jumps = None
    if options.get("perturb"):
        # f sees times just inside each step: as if it jumped at all of their ends.
        jumps = grid if size is None else _steps(float(size), t)
    return Stepping(solver, controller, marks, jumps, MOST)


def _steps(size: float, t: Tensor) -> Tensor:
    """Return the ends of steps of one size."""
    times = t.detach().double()
    span = times[-1] - times[0]
    count = torch.ceil(span.abs() / size * (1 - 1e-9))
    inside = times[0] + torch.arange(int(count), device=t.device) * size * span.sign()
    return torch.cat([inside, times[-1:]])


def _number(options: Mapping[str, Any], name: str, default: float) -> float:
    return float(options.get(name, default))


def _plain(tolerance: Any) -> Any:
    return tolerance if isinstance(tolerance, Tensor) else float(tolerance)


def _at_least(least: float, tolerance: Any) -> Any:
    return tolerance.clamp(min=least) if isinstance(tolerance, Tensor) else max(float(tolerance), least)


def _ahead(options: Mapping[str, Any], name: str, t: Tensor) -> Tensor | None:
    """Return the times of an option that are not before the start; None for no such option."""
    given = options.get(name)
    if given is None:
        return None
    times = torch.as_tensor(given, dtype=torch.float64, device=t.device)
    descending = bool(t[-1] < t[0])
    return times[times <= t[0]] if descending else times[times >= t[0]]
