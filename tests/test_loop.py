"""What one attempt does to the state of a solve."""

import torch
from torch import Tensor

from isocline.controllers import PID
from isocline.loop import advance, start
from isocline.solvers import METHODS
from isocline.state import State, Status

F64 = torch.float64


def decay(t: Tensor, y: Tensor) -> Tensor:
    return -y


def begin(dt: list[float], end: list[float]) -> tuple[State, Tensor]:
    t0, t1 = torch.zeros(len(end), dtype=F64), torch.tensor(end, dtype=F64)
    state = start(decay, METHODS["tsit5"], PID(), t0, torch.ones(len(end), 1, dtype=F64), t1)
    return state._replace(dt=torch.tensor(dt, dtype=F64)), t1


def attempt(state: State, t1: Tensor) -> State:
    return advance(decay, METHODS["tsit5"], PID(), t1, state)[0]


def test_a_step_cut_short_by_the_end_does_not_shrink_the_next() -> None:
    """A backward solve goes on after a save time with the size it had."""
    state, t1 = begin([0.2], [1e-6])
    after = attempt(state, t1)
    assert after.status.item() == Status.SUCCESS
    assert after.t.item() == 1e-6
    assert after.dt.item() >= 0.2


def test_a_full_step_hands_on_what_the_controller_says() -> None:
    state, t1 = begin([1e-3], [1.0])
    after = attempt(state, t1)
    assert after.status.item() == Status.RUNNING
    assert after.dt.item() == 1e-3 * PID().factor_max


def test_a_rejected_lane_stays_where_it_is_and_tries_less() -> None:
    state, t1 = begin([3.0, 1e-3], [10.0, 10.0])
    after = attempt(state, t1)
    assert after.t.tolist() == [0.0, 1e-3]
    assert after.y[0].item() == 1.0
    assert after.carry[0][0].item() == -1.0
    assert after.dt[0].item() < 3.0
    assert after.steps.tolist() == [1, 1]
    assert after.accepted.tolist() == [0, 1]


def test_a_lane_that_has_arrived_is_left_alone() -> None:
    state, t1 = begin([0.1, 0.1], [0.1, 1.0])
    arrived = attempt(state, t1)
    after = attempt(arrived, t1)
    assert arrived.status.tolist() == [Status.SUCCESS, Status.RUNNING]
    assert after.t[0].item() == 0.1
    assert after.y[0].item() == arrived.y[0].item()
    assert after.steps.tolist() == [1, 2]
