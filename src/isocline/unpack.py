"""From what a gradient method returns to the user's solution."""

from dataclasses import replace

import torch

from isocline.dense import Interpolant, Joined
from isocline.numbers import spread
from isocline.problem import Outputs, Problem
from isocline.segments import Pieces
from isocline.solution import Solution


def unpack(problem: Problem, outputs: Outputs) -> Solution:
    """Return the solution in the user's structure, with its counts."""
    layout = problem.field.layout
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


def with_events(solution: Solution, problem: Problem, pieces: Pieces, one: bool) -> Solution:
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
