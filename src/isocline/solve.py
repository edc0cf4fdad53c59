"""``solve``: check, pack, hand to the gradient method, unpack."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from isocline.compiled import try_to_trace
from isocline.controllers import Controller, Tolerance
from isocline.events import AnyEvent, listed
from isocline.exported import check_exportable, solve_in_graph
from isocline.field import Field
from isocline.gradients import Gradient
from isocline.graph_break import exporting, outside_graphs
from isocline.layout import make_layout
from isocline.observers import Observer, Progress
from isocline.per_lane import unmark
from isocline.precision import without_autocast
from isocline.problem import Problem
from isocline.quadrature import unmarked
from isocline.restart import SolverState, of_end
from isocline.samples import in_every_sample
from isocline.segments import Segments
from isocline.settings import (
    check_black_box,
    check_call,
    check_transforms,
    checked_state,
    chosen_controller,
    chosen_gradient,
    chosen_solver,
    listed_parameters,
)
from isocline.solution import Solution, SolveError, Stats, failure_message
from isocline.solvers import Solver
from isocline.solvers.base import BlackBox
from isocline.state import State
from isocline.times import make_marks, make_times
from isocline.tracking import trackers
from isocline.transforms import batched
from isocline.tree import Tree
from isocline.unpack import unpack, with_events

MAX_STEPS = 16_384
"""Default for ``max_steps``: a few seconds to a minute of work on a cheap field, never for ever."""


@outside_graphs
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
    observers: Sequence[Observer] = (),
    throw: bool = True,
) -> Solution:
    """Solve ``dy/dt = f(t, y, *args)``, ``y(ts[0]) = y0``, and save the state at every time of ``ts``.

    Gradients flow to y0, ts, args, and every tensor that f uses (parameters of modules, closed-over tensors), by the
    chosen gradient method. Saving is by the method's interpolant: it forces no steps, and with most methods it
    costs no evaluations.

    Inside ``torch.func`` transforms (``grad``, ``jvp``, ``jacrev``, ``hessian``, ...) a solve without events is a
    function like any other. Under ``torch.vmap`` each sample is solved with its own steps, as with ``batch_dims=1``,
    whatever is mapped: y0, ts, args, or what f closes over; ``stats.evaluations`` counts calls of f for all samples at
    once.

    Inside ``torch.compile`` a solve is a break in the graph: it runs as it stands, or by its own ``compile=True``.
    Inside ``torch.export`` the loop becomes part of the graph, for AOTInductor or ONNX: explicit methods only, without
    gradients, and nan instead of an error where a state was not reached.

    Args:
        f: the vector field, returns the structure of y0. t has y0's real dtype, and is 0-d, or with ``batch_dims`` has
            shape (*batch, 1, ..., 1), which broadcasts against the state: one f works for both. With ``batch_dims=1``
            row i of the result may depend on row i only, and f is evaluated for the samples that have not ended yet: t
            and y then have fewer rows, as do ``PerLane`` args. If f cannot do that (tested once, when some have ended),
            all are evaluated to the end: the same results, more slowly. Under autocast f runs as any module does, and
            may return 16 bits; all else is in the precision of y0.
        y0: initial state: a tensor of any shape, or a nested tuple, list or dict of tensors, in float32 or float64,
            real or complex. A complex number counts as two real ones, its parts: each has its own error, which
            tolerances and norms are for, and f need not be holomorphic. A state of 16 bits is kept in float32; f and
            ``ys`` have 16 bits. Tensors in it that are marked as ``Quadrature`` are not under error control.
        ts: at least two times, never turning back: (T,), or (T, *batch) for start, end and save times of each lane. A
            sequence may mix numbers and tensors: ``(0.0, t1)`` with t1 of shape (*batch) ends each lane at its own
            time. Decreasing times solve backwards. Times are float64 inside whatever y0's dtype is, where the device
            has it; but f sees them in that dtype, so count those of a float32 solve from a start near 0.
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
            eagerly: dense output with gradients, ``ReversibleAdjoint``, ``RecursiveCheckpointAdjoint`` with a budget,
            and the backward pass of ``BacksolveAdjoint`` for several lanes.
        progress: show a progress bar (needs tqdm).
        observers: objects that watch each attempted step (``isocline.Observer``). Stepped eagerly.
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
    check_call(f, args, batch_dims, max_steps)
    y0, quadratures = unmarked(y0)
    layout = make_layout(y0, batch_dims, quadratures)
    plain, per_lane = unmark(args, layout.batch_shape)
    original = chosen_solver(method)
    original.check(layout)
    controller = chosen_controller(controller, rtol, atol).fitted(layout)
    solver = original.tuned(controller)
    if exporting():
        python = {"event": event, "jump_ts": jump_ts, "step_ts": step_ts, "state": state, "observers": observers}
        check_exportable(solver, **python, dense=dense, progress=progress)
        return solve_in_graph(f, y0, ts, plain, solver, controller, layout, max_steps)
    times = make_times(ts, layout)
    field, start = Field(f, plain, layout, per_lane), layout.pack(y0)
    start, times = in_every_sample(field, start, times)
    controller.check(solver, times.values[0].detach(), times.values[-1].detach(), max_steps, layout.precision)
    vmapped = batched(times.values)
    if dense or vmapped:
        solver = solver.completing()
    how = chosen_gradient(gradient, solver)
    parameters = listed_parameters(params)
    events, breaks, marks = (
        listed(event),
        make_marks("jump_ts", jump_ts, layout),
        make_marks("step_ts", step_ts, layout),
    )
    check_black_box(solver, event=events, step_ts=len(marks), state=state is not None)
    check_transforms(solver, events, vmapped or batched(breaks), jump_ts=len(breaks), progress=progress)
    before = None if state is None else checked_state(state).fit(original, controller, field, start, times)
    on_the_way = events or len(breaks) or len(marks) or observers
    eager = on_the_way or before is not None or (dense and torch.is_grad_enabled())
    traced = try_to_trace(field, times.values[0], start) if compile and solver.compilable and not eager else None
    with _progress(progress, times.values) as bar, without_autocast(layout.device):
        problem = Problem(
            field=field,
            y0=start,
            ts=times,
            solver=solver,
            controller=controller,
            max_steps=max_steps,
            dense=dense,
            params=parameters,
            observers=(*observers, *bar),
            traced=traced,
            stats=Stats(0, 0, 0, 0),
            marks=marks if len(marks) else None,
            before=before,
            trackers=trackers(),
        )
        solution, end = _solved(problem, how, original, events, breaks, one=not isinstance(event, Sequence))
    for work in problem.trackers:
        work.add_forward(solution.stats)
    if throw and (message := failure_message(end, times.values[-1])) is not None:
        raise SolveError(message, solution)
    return solution


def _solved(
    problem: Problem, how: Gradient, original: Solver, events: "Sequence[AnyEvent]", breaks: Tensor, one: bool
) -> tuple[Solution, State]:
    """Solve, in segments if something happens on the way; ``original`` is the method before it was tuned."""
    if events or len(breaks):
        pieces = Segments(problem, how, events, breaks).run()
        return with_events(unpack(problem, pieces.outputs), problem, pieces, one=one), pieces.outputs.state
    outputs = how.solve(problem)
    solution = unpack(problem, outputs)
    if not isinstance(original, BlackBox):
        solution = replace(solution, state=of_end(outputs.state, original, problem.controller))
    return solution, outputs.state


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
