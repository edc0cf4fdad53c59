"""The surface of ``solve``: what goes in, what comes out, and exactly how much work is done."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import isocline as iso
from isocline.controllers import Verdict
from isocline.solvers.base import Attempt
from problems import ANY_STATE, ITERATING

F64 = torch.float64


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def decay(t: Tensor, y: Tensor) -> Tensor:
    return -y


def wave(t: Tensor, y: Tensor) -> Tensor:
    """``y'' = -k^2 y`` with k in the state, so that lanes need different steps: (y, v, k)."""
    x, v, k = y.unbind(-1)
    return torch.stack([v, -(k**2) * x, torch.zeros_like(k)], dim=-1)


def waves(*k: float) -> Tensor:
    return torch.tensor([[1.0, 0.0, x] for x in k], dtype=F64)


class Point(NamedTuple):
    x: Tensor
    v: Tensor


# Structures ------------------------------------------------------------------------------------------------------


def test_nested_structures_keep_their_types_and_shapes() -> None:
    y0 = {"a": [torch.ones(2), (torch.ones(()),)], "p": Point(torch.ones(3, 1), torch.zeros(3, 1))}

    def f(t: Tensor, y: dict[str, Any]) -> dict[str, Any]:
        assert isinstance(y["p"], Point)
        (inner,) = y["a"][1]
        # Other order of keys, tuples for lists: the structure counts, not its spelling.
        return {"p": Point(y["p"].v, -y["p"].x), "a": (-y["a"][0], [-2 * inner])}

    ys = iso.solve(f, y0, torch.linspace(0, 1, 4), rtol=1e-6, atol=1e-7).ys
    assert list(ys) == ["a", "p"]
    assert isinstance(ys["a"], list)
    assert isinstance(ys["a"][1], tuple)
    assert isinstance(ys["p"], Point)
    assert ys["a"][0].shape == (4, 2)
    assert ys["a"][1][0].shape == (4,)
    assert ys["p"].x.shape == (4, 3, 1)
    assert_close(ys["a"][0][-1], torch.full((2,), math.exp(-1)), rtol=1e-5, atol=1e-6)
    assert_close(ys["a"][1][0][-1], torch.tensor(math.exp(-2)), rtol=1e-5, atol=1e-6)
    assert_close(ys["p"].x[-1], torch.full((3, 1), math.cos(1)), rtol=1e-5, atol=1e-6)
    assert_close(ys["p"].v[-1], torch.full((3, 1), -math.sin(1)), rtol=1e-5, atol=1e-6)


def test_a_structure_is_solved_like_the_same_numbers_in_one_tensor() -> None:
    y0 = waves(2.0)[0]
    one = iso.solve(wave, y0, (0.0, 3.0))

    def f(t: Tensor, y: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(wave(t, torch.stack(y)).unbind())

    many = iso.solve(f, tuple(y0.unbind()), (0.0, 3.0))
    assert torch.equal(torch.stack(many.ys, dim=-1), one.ys)
    assert many.stats.evaluations == one.stats.evaluations


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (2, 1, 4)])
def test_a_tensor_of_any_shape(shape: tuple[int, ...]) -> None:
    y0 = torch.rand(shape, dtype=F64)
    sol = iso.solve(decay, y0, (0.0, 0.5, 1.0))
    assert sol.ys.shape == (3, *shape)
    assert sol.status.shape == ()
    assert_close(sol.ys[-1], y0 * math.exp(-1), rtol=1e-4, atol=1e-5)


def test_args_reach_the_field() -> None:
    sol = iso.solve(lambda t, y, a, b: a * y + b["c"], torch.zeros((), dtype=F64), (0.0, 1.0), args=(-1.0, {"c": 2.0}))
    assert_close(sol.ys[-1].item(), 2 * (1 - math.exp(-1)), rtol=1e-5, atol=0.0)


# Types -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("batch_dims", [0, 1])
def test_states_keep_their_dtype_and_times_are_float64(dtype: torch.dtype, batch_dims: int) -> None:
    seen = set()

    def f(t: Tensor, y: Tensor) -> Tensor:
        seen.update({t.dtype, y.dtype})
        return -y

    sol = iso.solve(f, torch.ones(2, 3, dtype=dtype), torch.linspace(0, 1, 3), batch_dims=batch_dims, dense=True)
    assert seen == {dtype}
    assert sol.ys.dtype == dtype
    assert sol(0.5).dtype == dtype
    assert sol.ts.dtype == F64
    assert sol.status.dtype == torch.int64


def test_the_clock_of_a_float32_solve_is_exact() -> None:
    """A float32 clock stands still at 1e6 with steps of 0.01; here it advances by the right number of steps."""
    sol = iso.solve(
        lambda t, y: torch.ones_like(y), torch.zeros(1), (1e6, 1e6 + 10), method="euler", controller=iso.FixedStep(0.01)
    )
    assert sol.stats.steps == 1000
    assert sol.ys[-1].item() == pytest.approx(10, rel=1e-4)
    long = iso.solve(
        lambda t, y: torch.ones_like(y), torch.zeros(1), (0.0, 1e6), method="euler", controller=iso.FixedStep(1e3)
    )
    assert long.stats.steps == 1000
    assert long.ys[-1].item() == pytest.approx(1e6, rel=1e-5)


@pytest.mark.parametrize(
    "ts",
    [
        (0, 1, 2),
        [0.0, 1.0, 2.0],
        torch.arange(3),
        torch.arange(3.0),
        torch.arange(3, dtype=F64),
        (0.0, torch.tensor(1.0), torch.tensor(2, dtype=torch.int32)),
    ],
    ids=["tuple", "list", "int64", "float32", "float64", "mixed"],
)
def test_times_in_any_form(ts: Any) -> None:
    sol = iso.solve(decay, torch.ones(1, dtype=F64), ts)
    assert torch.equal(sol.ts, torch.tensor([0.0, 1.0, 2.0], dtype=F64))
    assert_close(sol.ys[:, 0], (-sol.ts).exp(), rtol=1e-4, atol=1e-6)


def test_numbers_in_ts_keep_all_their_digits() -> None:
    sol = iso.solve(decay, torch.ones(1), (0.1, torch.tensor(0.7, dtype=F64)))
    assert sol.ts.tolist() == [0.1, 0.7]


# Lanes -----------------------------------------------------------------------------------------------------------


def test_the_time_broadcasts_against_the_state_of_lanes() -> None:
    shapes = set()

    def f(t: Tensor, y: dict[str, Tensor]) -> dict[str, Tensor]:
        shapes.add(t.shape)
        return {"x": t * torch.ones_like(y["x"])}

    iso.solve(f, {"x": torch.ones(2, 3, 4, 5)}, (0.0, 1.0), batch_dims=2)
    assert shapes == {(2, 3, 1, 1)}
    shapes.clear()
    iso.solve(f, {"x": torch.ones(2, 3)}, (0.0, 1.0))
    assert shapes == {()}


def test_lanes_with_their_own_starts_ends_and_directions() -> None:
    y0 = torch.rand(4, 2, dtype=F64) + 1
    start = torch.tensor([0.0, 1.0, 2.0, -1.0], dtype=F64)
    end = torch.tensor([1.0, -1.0, 2.0, 3.0], dtype=F64)
    ts = torch.lerp(start, end, torch.linspace(0, 1, 5, dtype=F64).unsqueeze(1))
    sol = iso.solve(lambda t, y: t * y, y0, ts, batch_dims=1, rtol=1e-9, atol=1e-9)
    exact = y0 * ((ts**2 - start**2) / 2).exp().unsqueeze(-1)
    assert_close(sol.ys, exact, rtol=1e-6, atol=1e-7)
    assert torch.equal(sol.ts, ts)
    assert sol.success.tolist() == [True] * 4
    assert sol.status.shape == (4,)


def test_a_lane_of_no_length_stays_where_it_is() -> None:
    ts = torch.tensor([[1.0, 0.0], [1.0, 0.5], [1.0, 1.0]], dtype=F64)
    sol = iso.solve(decay, torch.ones(2, 1, dtype=F64), ts, batch_dims=1)
    assert torch.equal(sol.ys[:, 0, 0], torch.ones(3, dtype=F64))
    assert sol.success.all()
    alone = iso.solve(decay, torch.ones(1, dtype=F64), (0.0, 0.5, 1.0))
    assert_close(sol.ys[:, 1], alone.ys, rtol=1e-12, atol=1e-12)
    assert sol.stats.accepted[1] == alone.stats.accepted


def test_only_lanes_of_no_length() -> None:
    sol = iso.solve(decay, torch.ones(2, 1), torch.zeros(3, 2), batch_dims=1)
    assert torch.equal(sol.ys, torch.ones(3, 2, 1))
    assert sol.success.all()


def test_a_single_lane_of_no_length() -> None:
    sol = iso.solve(decay, torch.ones(1, 2), torch.zeros(3, 1), batch_dims=1)
    assert sol.success.all()
    assert torch.equal(sol.ys, torch.ones(3, 1, 2))


def test_dense_output_of_only_lanes_of_no_length() -> None:
    sol = iso.solve(decay, torch.ones(2, 1), torch.zeros(3, 2), batch_dims=1, dense=True)
    assert torch.equal(sol(0.0), torch.ones(2, 1))


def test_ends_by_lane_in_a_mixed_sequence() -> None:
    ends = torch.tensor([1.0, 2.0], dtype=F64)
    sol = iso.solve(decay, torch.ones(2, 1, dtype=F64), (0.0, ends), batch_dims=1, rtol=1e-8, atol=1e-9)
    assert sol.ts.shape == (2, 2)
    assert_close(sol.ys[-1, :, 0], (-ends).exp(), rtol=1e-6, atol=1e-7)


def test_times_by_lane_keep_their_shape_in_a_batch_of_one() -> None:
    ts = torch.tensor([[0.0], [1.0]], dtype=F64)
    assert iso.solve(decay, torch.ones(1, 2), ts, batch_dims=1).ts.shape == (2, 1)
    assert iso.solve(decay, torch.ones(1, 2), ts[:, 0], batch_dims=1).ts.shape == (2,)


def test_tied_save_times() -> None:
    ts = torch.tensor([0.0, 0.0, 0.5, 0.5, 0.5, 1.0, 1.0], dtype=F64)
    for batch_dims in (0, 1):
        ys = iso.solve(decay, torch.ones(2, 1, dtype=F64), ts, batch_dims=batch_dims).ys
        assert_close(ys[0], ys[1], rtol=1e-15, atol=0.0)
        assert torch.equal(ys[2], ys[3])
        assert torch.equal(ys[2], ys[4])
        assert_close(ys[5], ys[6], rtol=1e-14, atol=0.0)
        assert_close(ys[2], torch.full((2, 1), math.exp(-0.5), dtype=F64), rtol=1e-4, atol=0.0)


def test_two_batch_dimensions() -> None:
    k = torch.rand(2, 3, dtype=F64) * 5 + 0.5
    y0 = waves(*k.flatten().tolist())
    flat = iso.solve(wave, y0, torch.linspace(0, 1, 4), batch_dims=1)
    square = iso.solve(wave, y0.reshape(2, 3, 3), torch.linspace(0, 1, 4), batch_dims=2, dense=True)
    assert torch.equal(square.ys.reshape(4, 6, 3), flat.ys)
    assert square.status.shape == (2, 3)
    assert torch.equal(square.stats.steps.flatten(), flat.stats.steps)
    assert square(0.3).shape == (2, 3, 3)


def test_every_dimension_may_be_a_lane() -> None:
    sol = iso.solve(decay, torch.tensor([1.0, 2.0], dtype=F64), (0.0, 1.0), batch_dims=1, rtol=1e-8, atol=1e-8)
    assert_close(sol.ys[-1], torch.tensor([1.0, 2.0], dtype=F64) * math.exp(-1), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("method", ["bosh3", "dopri5", "tsit5"])
def test_lanes_are_solved_as_if_alone(method: str) -> None:
    k = (0.3, 1.0, 4.0, 17.0)
    ts = torch.linspace(0, 2, 9, dtype=F64)
    together = iso.solve(wave, waves(*k), ts, method=method, batch_dims=1, rtol=1e-4, atol=1e-6)
    assert together.stats.rejected.sum() > 0
    for lane, y0 in enumerate(waves(*k)):
        alone = iso.solve(wave, y0, ts, method=method, rtol=1e-4, atol=1e-6)
        # Not bit by bit: a lane alone is stepped with Python numbers, which round elsewhere.
        assert_close(together.ys[:, lane], alone.ys, rtol=1e-10, atol=1e-10)
        assert together.stats.accepted[lane] == alone.stats.accepted
        assert together.stats.rejected[lane] == alone.stats.rejected
        assert together.stats.steps[lane] == alone.stats.steps


def test_each_lane_has_its_own_step_size() -> None:
    sol = iso.solve(wave, waves(0.1, 30.0), (0.0, 2.0), batch_dims=1)
    assert sol.stats.steps[1] > 10 * sol.stats.steps[0]


# Directions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", sorted(ANY_STATE))
def test_there_and_back_again(method: str) -> None:
    y0 = waves(1.5)[0]
    first_order = iso.METHODS[method].order == 1
    fixed = iso.FixedStep(1e-3 if first_order else 1e-2)
    controller = fixed if iso.METHODS[method].error_order is None else iso.PID(rtol=1e-6, atol=1e-6)
    there = iso.solve(wave, y0, (0.0, 1.0), method=method, controller=controller).ys[-1]
    back = iso.solve(wave, there, (1.0, 0.0), method=method, controller=controller).ys[-1]
    assert_close(back, y0, rtol=0.0, atol=4e-3 if first_order else 1e-5)
    assert not torch.allclose(there, y0, atol=0.1)


def test_backward_in_time_is_the_reflected_problem() -> None:
    ts = torch.linspace(0, 2, 7, dtype=F64)
    y0 = waves(3.0)[0]
    backward = iso.solve(wave, y0, -ts)
    forward = iso.solve(lambda t, y: -wave(-t, y), y0, ts)
    assert torch.equal(backward.ys, forward.ys)
    assert backward.stats.evaluations == forward.stats.evaluations


# Dense output ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", sorted(ANY_STATE))
@pytest.mark.parametrize(("batch_dims", "sign"), [(0, 1.0), (1, -1.0)], ids=["joint-forward", "samples-backward"])
def test_dense_output_agrees_with_saved_states(method: str, batch_dims: int, sign: float) -> None:
    controller = iso.FixedStep(0.15) if iso.METHODS[method].error_order is None else None
    ts = sign * torch.linspace(0, 1, 9, dtype=F64)
    sol = iso.solve(wave, waves(1.0, 6.0), ts, method=method, controller=controller, batch_dims=batch_dims, dense=True)
    assert_close(sol(ts), sol.ys, rtol=1e-13, atol=1e-13)
    assert torch.equal(sol(ts[0]), sol.ys[0])
    assert_close(sol(ts[-1]), sol.ys[-1], rtol=1e-14, atol=1e-14)
    assert sol(ts[:1]).shape == (1, 2, 3)


def test_dense_output_is_accurate_between() -> None:
    sol = iso.solve(wave, waves(2.0)[0], (0.0, 3.0), rtol=1e-8, atol=1e-8, dense=True)
    ts = torch.linspace(0, 3, 333, dtype=F64)
    assert_close(sol(ts)[:, 0], (2 * ts).cos(), rtol=0.0, atol=1e-6)
    assert sol(1.234)[0].item() == pytest.approx(math.cos(2.468), abs=1e-6)


def test_dense_output_at_times_by_lane() -> None:
    ts = torch.tensor([[0.0, 1.0], [2.0, -1.0]], dtype=F64)
    y0 = torch.ones(2, 1, dtype=F64)
    sol = iso.solve(decay, y0, ts, batch_dims=1, dense=True, rtol=1e-8, atol=1e-9)
    wanted = torch.tensor([[0.5, 0.5], [1.5, -0.9], [0.0, 1.0]], dtype=F64)
    assert_close(sol(wanted)[..., 0], (ts[0] - wanted).exp(), rtol=1e-6, atol=1e-7)
    # A time for all lanes must be inside every lane's interval.
    assert_close(sol(0.25)[:, 0], (ts[0] - 0.25).exp(), rtol=1e-6, atol=1e-7)
    with pytest.raises(ValueError, match="knows times"):
        sol(1.5)


@pytest.mark.parametrize("t", [-1e-9, 1.0 + 1e-9, math.nan, [0.5, 2.0]])
def test_dense_output_outside_the_interval_is_an_error(t: Any) -> None:
    sol = iso.solve(decay, torch.ones(1), (0.0, 1.0), dense=True)
    with pytest.raises(ValueError, match=r"knows times from 0 to 1"):
        sol(t)


# Failure without raising -----------------------------------------------------------------------------------------


def test_a_partial_result_is_kept() -> None:
    ts = torch.linspace(0, 1, 11, dtype=F64)
    kwargs: dict[str, Any] = {"max_steps": 5, "controller": iso.PID(dt0=0.1, dt_max=0.1)}
    sol = iso.solve(decay, torch.ones(1, dtype=F64), ts, throw=False, **kwargs)
    assert sol.status == iso.Status.MAX_STEPS
    assert not sol.success
    assert sol.stats.steps == 5
    reached = ~sol.ys[:, 0].isnan()
    assert 5 <= reached.sum() <= 6
    assert reached[:5].all()
    assert_close(sol.ys[:5, 0], (-ts[:5]).exp(), rtol=1e-5, atol=0.0)
    with pytest.raises(iso.SolveError, match=r"t=0\.5 of 1 after 5 steps, MAX_STEPS") as caught:
        iso.solve(decay, torch.ones(1, dtype=F64), ts, **kwargs)
    assert caught.value.solution is not None
    assert torch.equal(caught.value.solution.ys.nan_to_num(7.0), sol.ys.nan_to_num(7.0))


def test_dense_output_of_a_partial_result_ends_where_it_stopped() -> None:
    kwargs: dict[str, Any] = {"max_steps": 5, "controller": iso.PID(dt0=0.1, dt_max=0.1)}
    sol = iso.solve(decay, torch.ones(1, dtype=F64), (0.0, 1.0), throw=False, dense=True, **kwargs)
    assert sol(0.45).item() == pytest.approx(math.exp(-0.45), rel=1e-5)
    with pytest.raises(ValueError, match=r"from 0 to 0\.5"):
        sol(0.55)


def test_max_steps_counts_attempts_and_just_enough_is_enough() -> None:
    y0 = waves(17.0)[0]
    needed = iso.solve(wave, y0, (0.0, 1.0)).stats.steps
    assert iso.solve(wave, y0, (0.0, 1.0), max_steps=int(needed)).success
    short = iso.solve(wave, y0, (0.0, 1.0), max_steps=int(needed) - 1, throw=False)
    assert short.status == iso.Status.MAX_STEPS
    assert short.stats.steps == needed - 1


def test_dense_output_of_a_solve_that_never_moved() -> None:
    y0 = torch.tensor([math.nan], dtype=F64)
    sol = iso.solve(decay, y0, (0.0, 1.0), throw=False, dense=True)
    assert sol(0.0).isnan().all()


# Exact counts ----------------------------------------------------------------------------------------------------

STAGES = {
    "euler": 1,
    "midpoint": 2,
    "heun": 2,
    "ralston": 2,
    "rk4": 4,
    "rk4_38": 4,
    "bosh3": 3,
    "dopri5": 6,
    "tsit5": 6,
    "reversible_heun": 1,
    "rosenbrock23": 3,
    "rodas4": 6,
    "rodas5p": 8,
    "ssprk33": 3,
    "vern7": 10,
    "vern8": 13,
    "vern9": 16,
    "dopri8": 13,
    "dop853": 12,
    "adams": 2,
    "adams_fixed": 2,
    "auto": 6,
}
"""Evaluations a step."""
LATE_STAGES = {"vern7": 2, "vern8": 7, "vern9": 4, "dopri8": 4, "dop853": 3}
"""Evaluations more for a step that is interpolated."""
FIRST_SAME_AS_LAST = {*LATE_STAGES, "bosh3", "dopri5", "tsit5", "reversible_heun", "adams", "adams_fixed", "auto"}
FIRST_STEPS = {"adams_fixed": 3 * 3}
"""Evaluations more in the first steps."""


@pytest.mark.parametrize("method", [name for name in sorted(ANY_STATE) if name not in ITERATING])
@pytest.mark.parametrize("grad", [False, True])
def test_evaluations_of_fixed_steps(method: str, grad: bool) -> None:
    calls = 0

    def f(t: Tensor, y: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return -y

    with torch.set_grad_enabled(grad):
        stats = iso.solve(
            f,
            torch.ones(3),
            (0.0, 1.0),
            method=method,
            controller=iso.FixedStep(0.1),
            gradient=iso.DirectAdjoint(),
        ).stats
    assert (
        stats.evaluations == calls == 10 * STAGES[method] + (method in FIRST_SAME_AS_LAST) + FIRST_STEPS.get(method, 0)
    )
    assert (stats.steps, stats.accepted, stats.rejected) == (10, 10, 0)
    assert stats.backward is None


@pytest.mark.parametrize("method", sorted(LATE_STAGES))
@pytest.mark.parametrize("batch_dims", [0, 1])
def test_late_stages_are_evaluated_for_steps_that_are_interpolated(method: str, batch_dims: int) -> None:
    """Ten steps, three with save times inside. f at a step's end, which interpolants read, is the next one's first."""
    ts = torch.tensor([0.0, 0.14, 0.15, 0.33, 0.4, 0.97, 1.0], dtype=F64)
    options: dict[str, Any] = {"method": method, "controller": iso.FixedStep(0.1), "batch_dims": batch_dims}
    y0, plain = waves(1.0, 2.0), 10 * STAGES[method] + 1
    assert iso.solve(wave, y0, (0.0, 1.0), **options).stats.evaluations == plain
    saved = iso.solve(wave, y0, ts, **options)
    ends = 1  # 0.4 is the end of a step, up to rounding
    assert saved.stats.evaluations - plain in (3 * LATE_STAGES[method], (3 + ends) * LATE_STAGES[method])
    dense = iso.solve(wave, y0, ts, dense=True, **options)
    assert dense.stats.evaluations == plain + 10 * LATE_STAGES[method]
    assert torch.equal(dense.ys[-1], saved.ys[-1])


@pytest.mark.parametrize("method", ["bosh3", "dopri5", "tsit5", "vern7"])
@pytest.mark.parametrize("batch_dims", [0, 1])
def test_evaluations_of_adaptive_steps(method: str, batch_dims: int) -> None:
    """Two to choose the first step, one of them the first stage; rejected steps cost what accepted ones do.

    With lanes of different lengths, one more finds out whether f can do with the one that is left.
    """
    calls = 0

    def f(t: Tensor, y: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return wave(t, y)

    sol = iso.solve(f, waves(2.0, 17.0), (0.0, 2.0), method=method, batch_dims=batch_dims, rtol=1e-4)
    attempts = int(sol.stats.steps.max())
    assert sol.stats.evaluations == calls == STAGES[method] * attempts + 2 + batch_dims
    assert torch.equal(sol.stats.steps, sol.stats.accepted + sol.stats.rejected)
    given = iso.solve(f, waves(2.0, 17.0), (0.0, 2.0), method=method, controller=iso.PID(dt0=0.05, rtol=1e-4))
    assert given.stats.evaluations == STAGES[method] * int(given.stats.steps) + 1


@pytest.mark.parametrize("method", ["midpoint", "heun", "ralston"])
def test_evaluations_of_adaptive_steps_without_a_carry(method: str) -> None:
    sol = iso.solve(decay, torch.ones(1, dtype=F64), (0.0, 1.0), method=method, rtol=1e-3)
    assert sol.stats.evaluations == 2 * int(sol.stats.steps) + 2


@pytest.mark.parametrize("default", [iso.RecursiveCheckpointAdjoint(), iso.BacksolveAdjoint(), iso.DirectAdjoint()])
def test_nothing_is_evaluated_for_gradients_nobody_asks_for(default: iso.Gradient) -> None:
    sol = iso.solve(decay, torch.ones(3), (0.0, 1.0), controller=iso.FixedStep(0.1), method="rk4", gradient=default)
    assert sol.stats.evaluations == 40


# Fixed steps -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dt", "start", "end", "steps"),
    [
        (0.1, 0.0, 1.0, 10),
        (0.01, 0.0, 1.0, 100),
        (1e-3, 1.0, 0.0, 1000),
        (1e-4, 0.0, 1.0, 10_000),
        (0.3, 0.0, 1.0, 4),
        (5.0, 0.0, 1.0, 1),
        (0.1, 1e5, 1e5 + 10, 100),
        (1e-3, 1000.0, 1001.0, 1000),
    ],
)
def test_number_of_fixed_steps(dt: float, start: float, end: float, steps: int) -> None:
    """Rounding never adds a tiny step at the end."""
    sol = iso.solve(
        lambda t, y: torch.ones_like(y),
        torch.zeros((), dtype=F64),
        (start, end),
        method="euler",
        controller=iso.FixedStep(dt),
    )
    assert sol.stats.steps == sol.stats.evaluations == steps
    assert sol.ys[-1].item() == pytest.approx(end - start, rel=1e-9)


def test_the_last_fixed_step_is_shortened() -> None:
    seen: list[float] = []

    def f(t: Tensor, y: Tensor) -> Tensor:
        seen.append(t.item())
        return torch.ones_like(y)

    sol = iso.solve(f, torch.zeros((), dtype=F64), (0.0, 1.0), method="euler", controller=iso.FixedStep(0.3))
    assert seen == pytest.approx([0.0, 0.3, 0.6, 0.9])
    assert sol.ys[-1].item() == pytest.approx(1.0, rel=1e-15)


@pytest.mark.parametrize("method", sorted({*ANY_STATE} - {"kvaerno5"}))  # has a node beyond the step's end
def test_the_field_is_never_asked_outside_the_interval(method: str) -> None:
    seen: list[float] = []

    def f(t: Tensor, y: Tensor) -> Tensor:
        seen.append(t.item())
        return -y

    adaptive = iso.METHODS[method].error_order is not None
    for controller in [iso.FixedStep(5.0), *([iso.PID(rtol=1e-3)] if adaptive else [])]:
        # On these, rounding makes start + (end - start) larger than end.
        for start, end in ((-0.866, 0.847), (-0.906, 0.028), (-0.238, 0.002)):
            seen.clear()
            iso.solve(f, torch.ones(1, dtype=F64), (start, end), method=method, controller=controller)
            assert min(seen) == start
            assert max(seen) <= end


# The PID controller ----------------------------------------------------------------------------------------------


def steps_taken(sol: iso.Solution) -> Tensor:
    assert sol.interpolant is not None
    dense = sol.interpolant.dense  # type: ignore[attr-defined]
    return (dense.t1 - dense.t0).flatten()


@pytest.mark.parametrize("scaled", [0.5, 3.0], ids=["accepted", "rejected"])
def test_the_rule_is_the_documented_one(scaled: float) -> None:
    pid = iso.PID(rtol=0.1, atol=0.01, pcoeff=0.2, icoeff=0.5, dcoeff=0.1, factor_min=0.01, factor_max=100.0)
    y0, y1 = torch.tensor([[1.0, -5.0]], dtype=F64), torch.tensor([[-2.0, 3.0]], dtype=F64)
    scale = 0.01 + 0.1 * torch.tensor([[2.0, 5.0]], dtype=F64)
    step = Attempt(y1, scaled * scale * torch.tensor([[1.0, -1.0]], dtype=F64), (), ())
    error = pid.measure(y0, step)
    assert error.item() == pytest.approx(scaled, rel=1e-12)
    factor = 0.9 * scaled ** (-0.8 / 5) * 0.4 ** (0.4 / 5) * 0.7 ** (-0.1 / 5)
    alone = pid.adapt(Verdict(-0.25, error.item(), True, 4), (0.4, 0.7))
    h, e = (torch.tensor([x], dtype=F64) for x in (-0.25, error.item()))
    memory = torch.tensor([0.4], dtype=F64), torch.tensor([0.7], dtype=F64)
    lanes = pid.adapt(Verdict(h, e, torch.tensor([True]), 4), memory)
    for accept, dt, after in (alone, lanes):
        assert bool(accept) == (scaled <= 1)
        assert float(dt) == pytest.approx(-0.25 * factor, rel=1e-12)
        # Only accepted steps are remembered.
        assert [float(x) for x in after] == pytest.approx([scaled, 0.4] if scaled <= 1 else [0.4, 0.7], rel=1e-12)


def test_the_first_step_can_be_given() -> None:
    sol = iso.solve(decay, torch.ones(1), (0.0, 1.0), controller=iso.PID(dt0=0.0123), dense=True)
    assert steps_taken(sol)[0].item() == pytest.approx(0.0123, rel=1e-12)
    backward = iso.solve(decay, torch.ones(1), (1.0, 0.0), controller=iso.PID(dt0=0.0123), dense=True)
    assert steps_taken(backward)[0].item() == pytest.approx(-0.0123, rel=1e-12)


def test_steps_can_be_bounded() -> None:
    free = iso.solve(decay, torch.ones(1), (0.0, 1.0), dense=True)
    bound = iso.solve(decay, torch.ones(1), (0.0, 1.0), controller=iso.PID(dt_max=0.05), dense=True)
    assert steps_taken(free).max() > 0.05
    assert steps_taken(bound).max() <= 0.05 * (1 + 1e-7)
    assert bound.stats.accepted >= 20


@pytest.mark.parametrize(("rtol", "atol"), [(1e-6, 0.0), (0.0, 1e-6)])
def test_one_tolerance_may_be_zero(rtol: float, atol: float) -> None:
    sol = iso.solve(decay, torch.tensor([1.0, 3.0], dtype=F64), (0.0, 1.0), rtol=rtol, atol=atol)
    assert_close(sol.ys[-1], torch.tensor([1.0, 3.0], dtype=F64) * math.exp(-1), rtol=1e-5, atol=0.0)


def test_without_atol_a_number_that_is_zero_and_stays_zero_is_exact() -> None:
    sol = iso.solve(decay, torch.tensor([1.0, 0.0], dtype=F64), (0.0, 1.0), rtol=1e-6, atol=0.0, max_steps=100)
    assert_close(sol.ys[-1], torch.tensor([math.exp(-1), 0.0], dtype=F64), rtol=1e-5, atol=0.0)


def test_a_norm_of_ones_own() -> None:
    """A function is used as it is; "rms" and "max" are what they say."""
    y0 = waves(1.0, 9.0).flatten()

    def f(t: Tensor, y: Tensor) -> Tensor:
        return wave(t, y.unflatten(-1, (2, 3))).flatten()

    def count(norm: Any) -> int:
        return iso.solve(f, y0, (0.0, 2.0), controller=iso.PID(norm=norm)).stats.evaluations

    assert count("rms") == count(lambda e: e.pow(2).mean(dim=1).sqrt())
    assert count("max") == count(lambda e: e.abs().amax(dim=1))
    assert count("max") > count("rms")
    assert count(lambda e: e[:, :2].abs().amax(dim=1)) < count("rms")


@pytest.mark.parametrize(
    "coefficients",
    [
        {"pcoeff": 0.4, "icoeff": 0.3},
        {"pcoeff": 0.2, "icoeff": 0.4, "dcoeff": 0.1},
        {"pcoeff": 0.49, "icoeff": 0.34, "dcoeff": 0.1},
    ],
    ids=["PI", "PID", "PID2"],
)
def test_pi_and_pid_control(coefficients: dict[str, float]) -> None:
    plain = iso.solve(wave, waves(5.0)[0], (0.0, 5.0), controller=iso.PID(rtol=1e-6, pcoeff=0.0, icoeff=1.0))
    sol = iso.solve(wave, waves(5.0)[0], (0.0, 5.0), controller=iso.PID(rtol=1e-6, **coefficients))
    assert sol.ys[-1, 0].item() == pytest.approx(math.cos(25.0), abs=1e-3)
    assert sol.stats.steps != plain.stats.steps
    assert sol.stats.steps < 2 * plain.stats.steps


def test_pi_control_rejects_less_where_stability_limits_the_step() -> None:
    def f(t: Tensor, y: Tensor) -> Tensor:
        return -50 * (y - t.cos())

    def rejected(**coefficients: float) -> int:
        controller = iso.PID(rtol=1e-4, atol=1e-4, **coefficients)
        return int(iso.solve(f, torch.zeros(1, dtype=F64), (0.0, 10.0), controller=controller).stats.rejected)

    assert rejected(pcoeff=0.4, icoeff=0.3) < rejected(pcoeff=0.0, icoeff=1.0) / 2


# Saving and repeating --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_dims", [0, 1])
def test_saving_more_often_changes_nothing_else(batch_dims: int) -> None:
    few, many = (
        iso.solve(wave, waves(1.0, 7.0), torch.linspace(0, 3, n, dtype=F64), batch_dims=batch_dims) for n in (10, 1000)
    )
    assert few.stats.evaluations == many.stats.evaluations
    assert torch.equal(few.stats.steps, many.stats.steps)
    assert torch.equal(few.ys[-1], many.ys[-1])
    assert_close(many.ys[::111], few.ys, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("batch_dims", [0, 1])
def test_solving_twice_gives_the_same_bits(batch_dims: int) -> None:
    def once() -> iso.Solution:
        return iso.solve(wave, waves(1.0, 7.0), torch.linspace(0, 3, 20), batch_dims=batch_dims)

    assert torch.equal(once().ys, once().ys)
    assert once().stats.evaluations == once().stats.evaluations


def test_the_input_is_left_alone() -> None:
    y0, ts = waves(1.0, 7.0), torch.linspace(0, 3, 5, dtype=F64)
    copies = y0.clone(), ts.clone()
    sol = iso.solve(wave, y0, ts)
    assert torch.equal(y0, copies[0])
    assert torch.equal(ts, copies[1])
    assert torch.equal(sol.ys[0], y0)
    sol.ys.zero_()
    assert torch.equal(y0, copies[0])


def test_progress_reports_to_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    iso.solve(decay, torch.ones(1), (0.0, 1.0), progress=True)
    assert "100%" in capsys.readouterr().err


def test_a_solver_of_ones_own() -> None:
    table = iso.Tableau(
        name="mine",
        order=1,
        a=((),),
        b=(1.0,),
        c=(0.0,),
        dense=((1.0,),),
        dense_order=1,
        citation="Euler 1768",
    )
    fields: dict[str, Callable[..., Any]] = {"f": decay}
    mine, euler = (
        iso.solve(fields["f"], torch.ones(2), (0.0, 1.0), method=method, controller=iso.FixedStep(0.25)).ys
        for method in (iso.RungeKutta(table), "euler")
    )
    assert torch.equal(mine, euler)


@pytest.mark.parametrize("batch_dims", [0, 1])
def test_large_numbers_are_not_infinite(batch_dims: int) -> None:
    """Their sum would be."""
    y0 = torch.full((2, 1000), 1e36)
    sol = iso.solve(lambda t, y: torch.zeros_like(y), y0, (0.0, 1.0), batch_dims=batch_dims)
    assert torch.equal(sol.ys[-1], y0)


def test_a_solution_is_shown_without_its_numbers() -> None:
    ends = torch.tensor([1.0, 2.0, 3.0])
    sol = iso.solve(decay, torch.ones(3, 2), (0.0, ends), batch_dims=1, max_steps=5, throw=False)
    stopped = int((sol.status == iso.Status.MAX_STEPS).sum())
    assert 0 < stopped < 3
    shown = repr(sol)
    assert "a torch.float32 tensor of shape (2, 3, 2), 2 times from 0 to 3" in shown
    assert f"{3 - stopped} SUCCESS" in shown and f"{stopped} MAX_STEPS" in shown
    assert f"{sol.stats.evaluations} evaluations, {int(sol.stats.steps.sum())} steps" in shown
    whole = iso.solve(decay, torch.ones(2), (0.0, 1.0))
    assert "; SUCCESS; " in repr(whole)
    assert repr(whole.state) == "SolverState(t=1.0, method='tsit5')"
    assert repr(iso.METHODS["tsit5"]) == "RungeKutta(tableau=Tableau('tsit5', order=5, stages=7))"
