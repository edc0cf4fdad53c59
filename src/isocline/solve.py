"""``solve``: check, pack, hand to the gradient method, unpack."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from isocline.checks import check_whole
from isocline.compiled import try_to_trace
from isocline.controllers import PID, Controller, Tolerance
from isocline.dense import Interpolant, Joined
from isocline.events import AnyEvent, listed
from isocline.gradients import BacksolveAdjoint, DirectAdjoint, Gradient
from isocline.layout import Field, Layout, make_layout
from isocline.numbers import spread
from isocline.observers import Observer, Progress
from isocline.per_lane import unmark
from isocline.problem import Outputs, Problem
from isocline.restart import SolverState, of_end
from isocline.segments import Pieces, Segments
from isocline.solution import Solution, SolveError, Stats, failure_message
from isocline.solvers import METHODS, Solver
from isocline.solvers.base import BlackBox
from isocline.tableaus import Tableau
from isocline.times import make_marks, make_times
from isocline.tree import Tree, describe

DEFAULT_GRADIENT = DirectAdjoint()
DEFAULT_OF_BLACK_BOX = BacksolveAdjoint()

MAX_STEPS = 16_384
"""Default for ``max_steps``: a few seconds to a minute of work on a cheap field, never for ever."""


def solve(
    f: Callable[..., Tree],
    y0: Tree,
    ts: "Tensor | Sequence[float | Tensor]",
    *,
    args: tuple[Any, ...] = (),
    method: str | Solver = "tsit5",
    rtol: "Tolerance | None" = None,
    atol: "Tolerance | None" = None,
    controller: Controller | None = None,
    batch_dims: int = 0,
    event: "AnyEvent | Callable[..., Tensor] | Sequence[AnyEvent | Callable[..., Tensor]] | None" = None,
    jump_ts: "Tensor | Sequence[float | Tensor] | None" = None,
    step_ts: "Tensor | Sequence[float | Tensor] | None" = None,
    state: SolverState | None = None,
    gradient: Gradient | None = None,
    params: Iterable[Tensor] | None = None,
    dense: bool = False,
    max_steps: int = MAX_STEPS,
    compile: bool = False,  # noqa: A002
    progress: bool = False,
    throw: bool = True,
) -> Solution:
    """Solve ``dy/dt = f(t, y, *args)``, ``y(ts[0]) = y0``, and save the state at every time of ``ts``.

    Gradients flow to y0, ts, args, and every tensor that f uses (parameters of modules, closed-over tensors), by the
    chosen gradient method. Saving is by the method's interpolant: it forces no steps and costs no evaluations.

    Args:
        f: the vector field, returns the structure of y0. t has y0's dtype, and is 0-d, or with ``batch_dims`` has shape
            (*batch, 1, ..., 1), which broadcasts against the state: one f works for both. With ``batch_dims=1`` row i
            of the result may depend on row i only, and f is evaluated for the samples that have not ended yet: t and y
            then have fewer rows, as do ``PerLane`` args. If f cannot do that (tested once, when some have ended), all
            are evaluated to the end: the same results, more slowly.
        y0: initial state: a float32 or float64 tensor of any shape, or a nested tuple, list or dict of such.
        ts: at least two times, never turning back: (T,), or (T, *batch) for start, end and save times of each lane. A
            sequence may mix numbers and tensors: ``(0.0, t1)`` with t1 of shape (*batch) ends each lane at its own
            time. Decreasing times solve backwards. Times are float64 inside whatever y0's dtype is.
        args: further arguments of f, or containers of such. Tensors with a row for each sample should be marked:
            ``args=(PerLane(mu), k)``; f gets the tensor itself.
        method: a name in ``isocline.METHODS``, or a solver.
        rtol: relative tolerance per step, default 1e-5: a hundred times the resolution of float32. One number, or
            tolerances of each component: a tensor that broadcasts against y0 (with ``batch_dims`` against one sample),
            or y0's structure of such.
        atol: absolute tolerance per step, in the units of y, default 1e-6; likewise.
        controller: chooses step sizes, instead of ``rtol`` and ``atol``: ``FixedStep(dt)`` or a ``PID``.
        batch_dims: 0 solves all of y0 jointly, with one step size. b > 0 makes each index of the first b dimensions a
            lane with its own time, step size, error control and status.
        event: what may end a lane on the way, or make its state jump: an ``Event``, a ``SteadyState``, a function that
            is zero where the solve is to end, or a sequence of them. See ``Solution.event_t``. Stepped eagerly.
        jump_ts: times at which f is discontinuous, (J,) or (J, *batch): the method starts afresh there, and never
            evaluates f on the wrong side: f sees times after the break or before, to the last digit of its dtype.
        step_ts: times at which steps are to end, (J,) or (J, *batch); otherwise the solve goes on as if they were not
            there. Stepped eagerly.
        state: ``Solution.state`` of a solve that ended where this one starts: the same steps as one solve makes with
            ``step_ts`` there. Stepped eagerly.
        gradient: how to differentiate; default ``DirectAdjoint()``: exact, of any order, memory O(steps). (For
            ``SciPy(...)`` it is ``BacksolveAdjoint()``.)
        params: tensors to differentiate by the other gradient methods, if they are not to be found automatically
            (saves an evaluation of f). ``DirectAdjoint`` has no need of them.
        dense: make the solution callable at any time, with memory for all steps.
        max_steps: most attempted steps; then the status is MAX_STEPS.
        compile: run the stepping loops, forwards and backwards, as compiled programs: several times faster when f is
            cheap, after some seconds of compiling for each kind of f and of solve. f must be one graph for torch's
            compiler; if it is not, a warning says which line is to blame and the solve runs eagerly. Python side
            effects of f (counters, prints) happen once a solve. First derivatives only. What is not compiled yet runs
            eagerly: dense output with gradients, ``RecursiveCheckpointAdjoint`` with a budget, and the backward pass of
            ``BacksolveAdjoint`` for several lanes.
        progress: show a progress bar (needs tqdm).
        throw: raise when a lane fails; if False look at ``status``, and find nan where a state was not reached.

    Returns:
        Solution: ``ys`` has the time axis first: (T, *shape of y0), joint or per lane alike.

    Raises:
        TypeError: wrong types or dtypes.
        ValueError: shapes, times or settings that do not fit.
        SolveError: a lane did not arrive: steps used up, step size too small, inf or nan.

    References:
        Hairer, Norsett & Wanner 1993, Solving Ordinary Differential Equations I.

    Example:
        >>> import isocline as iso, torch
        >>> sol = iso.solve(lambda t, y: -y, torch.tensor([1.0, 2.0]), torch.linspace(0, 1, 5))
        >>> sol.ys.shape
        torch.Size([5, 2])
        >>> torch.allclose(sol.ys[-1], torch.tensor([1.0, 2.0]) * torch.tensor(-1.0).exp(), atol=1e-4)
        True
    """
    _check_options(f, args, batch_dims, max_steps)
    solver = _solver(method)
    layout = make_layout(y0, batch_dims)
    times = make_times(ts, layout)
    controller = _controller(controller, rtol, atol).fitted(layout)
    solver.check(layout)
    original, solver = solver, solver.tuned(controller)
    controller.check(solver, times.values[0].detach(), times.values[-1].detach(), max_steps, layout.dtype)
    plain, per_lane = unmark(args, layout.batch_shape)
    field = Field(f, plain, layout, per_lane)
    stats = Stats(0, 0, 0, 0)
    parameters = _parameters(params)
    chosen = _gradient(gradient, solver)
    start = layout.pack(y0)
    events, breaks = listed(event), make_marks("jump_ts", jump_ts, layout)
    marks = make_marks("step_ts", step_ts, layout)
    if isinstance(solver, BlackBox) and (events or len(marks) or state is not None):
        raise ValueError(
            f"{solver.name} does not show its steps, so it knows no event, step_ts or state; use one of isocline's own "
            "methods, such as 'tsit5', or 'kvaerno5' for stiff problems"
        )
    in_segments = bool(events or len(breaks))
    before = None if state is None else _before(state).fit(original, controller, start, times)
    eager = in_segments or len(marks) or before is not None or (dense and torch.is_grad_enabled())
    wanted = compile and solver.compilable and not eager
    if dense:
        solver = solver.completing()
    traced = try_to_trace(field, times.values[0], start) if wanted else None
    with _progress(progress, times.values) as observers:
        problem = Problem(
            field,
            start,
            times,
            solver,
            controller,
            max_steps,
            dense,
            parameters,
            observers,
            traced,
            stats,
            marks=marks if len(marks) else None,
            before=before,
        )
        pieces = Segments(problem, chosen, events, breaks).run() if in_segments else None
        outputs = chosen.solve(problem) if pieces is None else pieces.outputs
    solution = _unpack(problem, outputs, layout)
    if pieces is None and not isinstance(solver, BlackBox):
        solution = replace(solution, state=of_end(outputs.state, original, controller))
    if pieces is not None:
        solution = _with_events(solution, problem, pieces, one=not isinstance(event, Sequence))
    if throw and (message := failure_message(outputs.state, times.values[-1])) is not None:
        raise SolveError(message, solution)
    return solution


def _unpack(problem: Problem, outputs: Outputs, layout: Layout) -> Solution:
    state, batch = outputs.state, layout.batch_shape
    status, steps, accepted = (
        spread(x, problem.times).reshape(batch) for x in (state.status, state.steps, state.accepted)
    )
    stats = problem.stats
    stats.evaluations, stats.rows = problem.field.evaluations, problem.field.rows
    stats.jacobians = problem.field.jacobians
    stats.steps, stats.accepted, stats.rejected = steps, accepted, steps - accepted
    ys, times = outputs.ys, problem.times
    if batch and len(times) > 2:
        # A lane with nowhere to go is at all its times already.
        ys = torch.where((times[0] == times[-1]).unsqueeze(1), problem.y0, ys)
    ts = times[:, 0] if problem.ts.shared else times.reshape(-1, *batch)
    interpolant = None
    if outputs.dense is not None:
        interpolant = Interpolant(outputs.dense, problem.ts.sign, layout, problem.solver)
    return Solution(ts, layout.unpack(ys), status, stats, interpolant)


def _with_events(solution: Solution, problem: Problem, pieces: Pieces, one: bool) -> Solution:
    """Add what came of events; for one event that was not in a sequence without a tuple around it."""
    layout = problem.field.layout
    batch = layout.batch_shape
    if pieces.dense:
        looked_up = [
            (Interpolant(piece.dense, problem.ts.sign, layout, problem.solver), piece.t0, piece.t1)
            for piece in pieces.dense
        ]
        solution = replace(solution, interpolant=Joined(looked_up, problem.ts.sign, layout))
    if not pieces.happened:
        return solution
    ts = tuple(t.reshape(-1, *batch) for t, _ in pieces.happened)
    ys = tuple(layout.unpack(y) for _, y in pieces.happened)
    return replace(
        solution,
        event_t=pieces.t.reshape(batch),
        event_y=layout.unpack(pieces.y),
        event_index=pieces.index.reshape(batch),
        event_ts=ts[0] if one else ts,
        event_ys=ys[0] if one else ys,
    )


def _check_options(f: object, args: object, batch_dims: object, max_steps: object) -> None:
    if not callable(f):
        raise TypeError(f"f must be callable as f(t, y, *args), got {describe(f)}")
    if not isinstance(args, tuple):
        raise TypeError(f"args must be a tuple, got {describe(args)}; write args=(value,)")
    check_whole("batch_dims", batch_dims, 0)
    check_whole("max_steps", max_steps, 1)


def _solver(method: object) -> Solver:
    if isinstance(method, Solver):
        return method
    if isinstance(method, str) and method in METHODS:
        return METHODS[method]
    if isinstance(method, Tableau):
        raise TypeError(f"a tableau is not yet a method: write method=RungeKutta(tableau) (got {method.name!r})")
    raise ValueError(
        f"unknown method {method!r}; use one of {', '.join(METHODS)}, or a solver such as RungeKutta(tableau)"
    )


def _controller(controller: object, rtol: Tolerance | None, atol: Tolerance | None) -> Controller:
    if controller is None:
        return PID(PID.rtol if rtol is None else rtol, PID.atol if atol is None else atol)
    if rtol is not None or atol is not None:
        raise ValueError(
            "give either a controller or rtol and atol, not both; a PID takes them: PID(rtol=..., atol=...)"
        )
    if not isinstance(controller, Controller):
        raise TypeError(f"controller must be FixedStep(dt) or PID(...), got {describe(controller)}")
    return controller


def _before(state: object) -> SolverState:
    if not isinstance(state, SolverState):
        raise TypeError(f"state must be the state of a solution, state=sol.state, got {describe(state)}")
    return state


def _gradient(gradient: object, solver: Solver) -> Gradient:
    whole = isinstance(solver, BlackBox)
    if gradient is None:
        return DEFAULT_OF_BLACK_BOX if whole else DEFAULT_GRADIENT
    if not isinstance(gradient, Gradient):
        raise TypeError(f"gradient must be a gradient method such as DirectAdjoint(), got {describe(gradient)}")
    if whole and gradient.needs_steps:
        raise ValueError(
            f"{solver.name} does not show its steps, which {type(gradient).__name__} would differentiate; leave out "
            "gradient, or write gradient=BacksolveAdjoint()"
        )
    return gradient


def _parameters(params: Iterable[Tensor] | None) -> tuple[Tensor, ...] | None:
    if params is None:
        return None
    if isinstance(params, Tensor):
        return (params,)
    listed = tuple(params) if isinstance(params, Iterable) else (params,)
    for p in listed:
        if not isinstance(p, Tensor):
            raise TypeError(f"params must be tensors, got {describe(p)}; write params=list(net.parameters())")
    return listed


@contextmanager
def _progress(show: bool, times: Tensor) -> Iterator[tuple[Observer, ...]]:
    """Yield the observer of a progress bar, or none."""
    if not show:
        yield ()
        return
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise ImportError("progress=True needs tqdm; install isocline[progress]") from None
    form = "{l_bar}{bar}| {elapsed}<{remaining}"
    with tqdm(total=1000, desc="solve", bar_format=form) as bar:
        yield (Progress(times[0], times[-1], lambda done: bar.update(done - bar.n)),)
