"""Events: when they are found, what becomes of the lane, and derivatives of all that."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import isocline as iso

GRADIENTS = {
    "direct": iso.DirectAdjoint(),
    "checkpoint": iso.RecursiveCheckpointAdjoint(),
    "backsolve": iso.BacksolveAdjoint(),
    "interpolating": iso.InterpolatingAdjoint(),
}
TIGHT: dict[str, Any] = {"rtol": 1e-10, "atol": 1e-10}


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def fall(t: Tensor, y: Tensor, gravity: Tensor) -> Tensor:
    """A ball (height, speed), in any batch."""
    return torch.stack([y[..., 1], -gravity + 0 * y[..., 1]], dim=-1)


def bounces(height: Tensor, gravity: Tensor, restitution: Tensor, **options: Any) -> iso.Solution:
    """Let it bounce up to 20 times; heights may be a batch."""
    floor = iso.Event(
        lambda t, y, g: y[..., 0],
        direction=-1,
        jump=lambda t, y, g: torch.stack([torch.zeros_like(y[..., 0]), -restitution * y[..., 1]], dim=-1),
        terminal=options.pop("terminal", 20),
    )
    y0 = torch.stack([height, torch.zeros_like(height)], dim=-1)
    ts = options.pop("ts", (0.0, 50.0))
    settings = {**TIGHT, "batch_dims": height.ndim, "event": floor, **options}
    return iso.solve(fall, y0, ts, args=(gravity,), **settings)


def times_of_bounces(height: Tensor, gravity: Tensor, restitution: Tensor, count: int = 20) -> Tensor:
    times = [(2 * height / gravity).sqrt()]
    for k in range(1, count):
        times.append(times[-1] + 2 * restitution**k * (2 * height / gravity).sqrt())
    return torch.stack(times)


def ball() -> list[Tensor]:
    return [x.requires_grad_() for x in tensor(10.0, 9.81, 0.9).unbind()]


def circle(t: Tensor, y: Tensor) -> Tensor:
    """(cos, -sin): y[0] = cos t from (1, 0)."""
    return torch.stack([y[..., 1], -y[..., 0]], dim=-1)


def test_twenty_bounces_to_the_last_digits() -> None:
    sol = bounces(*tensor(10.0, 9.81, 0.9).unbind())
    assert sol.event_ts.shape == (20,)
    torch.testing.assert_close(sol.event_ts, times_of_bounces(*tensor(10.0, 9.81, 0.9).unbind()), rtol=0, atol=1e-8)
    assert sol.status == iso.Status.EVENT
    assert sol.success
    assert sol.event_t == sol.event_ts[-1]
    assert sol.event_index == 0


def test_bounces_shorter_than_a_first_step_are_seen() -> None:
    p = tensor(10.0, 9.81, 0.5).unbind()
    for batch in (False, True):
        sol = bounces(p[0].expand(2) if batch else p[0], *p[1:])
        expected = times_of_bounces(*p)
        torch.testing.assert_close(sol.event_ts.T[0] if batch else sol.event_ts, expected, rtol=0, atol=1e-8)


def test_single_precision() -> None:
    p = [x.float() for x in tensor(10.0, 9.81, 0.8).unbind()]
    sol = bounces(*p, terminal=10, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sol.event_ts.float(), times_of_bounces(*p, count=10), rtol=1e-5, atol=0)


@pytest.mark.parametrize("method", iso.METHODS)
def test_events_with_every_method(method: str) -> None:
    """q = a cos t passes c at acos(c / a), to the accuracy of the method; so does the gradient."""
    order = iso.METHODS[method].error_order
    tolerance = 1e-4 if order in (1, 2) else 1e-7
    controller = iso.FixedStep(0.02) if order is None else iso.PID(tolerance, tolerance)
    a, c = tensor(1.0, 2.0).requires_grad_(), tensor(0.3, -0.4).requires_grad_()
    event = iso.Event(lambda t, y: y[0] - c)
    options: dict[str, Any] = {"method": method, "controller": controller, "batch_dims": 1, "event": event}
    sol = iso.solve(lambda t, y: (y[1], -y[0]), (a, torch.zeros_like(a)), (0.0, 3.0), **options)
    expected = torch.acos(c / a)
    accuracy = 200 * tolerance if order else 2 * 0.02 ** iso.METHODS[method].order + 1e-9
    torch.testing.assert_close(sol.event_t, expected, rtol=0, atol=accuracy)
    found = torch.autograd.grad(sol.event_t.sum(), (a, c))
    torch.testing.assert_close(found, torch.autograd.grad(expected.sum(), (a, c)), rtol=0, atol=accuracy)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_gradients_of_bounce_times(gradient: str) -> None:
    p = ball()
    sol = bounces(*p, gradient=GRADIENTS[gradient], terminal=12)
    expected = times_of_bounces(*p)
    for k in (0, 1, 6, 11):
        found = torch.autograd.grad(sol.event_ts[k], p, retain_graph=True)
        for a, b in zip(found, torch.autograd.grad(expected[k], p, retain_graph=True), strict=True):
            assert abs(a - b) < 1e-6 * max(1.0, abs(b))


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("batch", [False, True])
def test_nothing_to_differentiate_costs_nothing(gradient: str, batch: bool) -> None:
    """One evaluation a segment shows that there is nothing."""
    event = iso.Event(lambda t, y: y[..., 0] - 0.5, jump=lambda t, y: y + 0.5)
    settings: dict[str, Any] = {
        "event": event,
        "dense": True,
        "batch_dims": int(batch),
        "gradient": GRADIENTS[gradient],
    }
    y0 = torch.ones(3, 1) if batch else torch.ones(1)
    sol = iso.solve(lambda t, y: -y, y0, (0.0, 5.0), **settings)
    found = (sol.ys, sol.event_t, sol.event_y, sol.event_ts, sol.event_ys, sol(1.0))
    assert not any(x.requires_grad for x in found if isinstance(x, Tensor))
    with torch.no_grad():
        plain = iso.solve(lambda t, y: -y, y0, (0.0, 5.0), **settings)
    assert 0 < sol.stats.evaluations - plain.stats.evaluations <= 8  # seven jumps


def test_looking_for_gradients_changes_no_number() -> None:
    p = ball()
    ts = torch.linspace(0, 6, 40, dtype=torch.float64)
    sol = bounces(*p, terminal=2, ts=ts, rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        plain = bounces(*p, terminal=2, ts=ts, rtol=1e-3, atol=1e-3)
    for a, b in ((sol.event_ts, plain.event_ts), (sol.event_y, plain.event_y), (sol.ys, plain.ys)):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12, equal_nan=True)
    assert plain.event_y.isfinite().all()
    assert plain.ys[-1].isnan().all()


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_samples_have_events_of_their_own(gradient: str) -> None:
    heights = tensor(1.0, 4.0, 25.0).requires_grad_()
    gravity, restitution = ball()[1:]
    ts = torch.linspace(0, 3, 7, dtype=torch.float64)
    sol = bounces(heights, gravity, restitution, terminal=False, ts=ts, gradient=GRADIENTS[gradient])
    assert sol.status.tolist() == [iso.Status.SUCCESS] * 3
    alone = [bounces(h, gravity, restitution, terminal=False, ts=ts) for h in heights.unbind()]
    assert [len(a.event_ts) for a in alone] == [4, 2, 1]
    assert sol.event_ts.isfinite().sum(dim=0).tolist() == [4, 2, 1]
    total = 0.0
    for lane, one in enumerate(alone):
        count = len(one.event_ts)
        torch.testing.assert_close(sol.event_ts[:count, lane], one.event_ts, rtol=0, atol=1e-9)
        torch.testing.assert_close(sol.event_ys[:count, lane], one.event_ys, rtol=0, atol=1e-8)
        torch.testing.assert_close(sol.ys[:, lane], one.ys, rtol=0, atol=1e-8)
        total = total + one.event_ts.sum() + one.ys.square().sum()
    loss = torch.where(sol.event_ts.isfinite(), sol.event_ts, 0.0).sum() + sol.ys.square().sum()
    inputs = [heights, gravity, restitution]
    for a, b in zip(torch.autograd.grad(loss, inputs), torch.autograd.grad(total, inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("direction", "times"), [(0, [0.5, 1.5, 2.5, 3.5]), (-1, [0.5, 2.5]), (1, [1.5, 3.5])])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("batch", [False, True])
def test_directions_are_those_of_the_integration(direction: int, times: list[float], sign: int, batch: bool) -> None:
    event = iso.Event(lambda t, y: y[..., 0], direction=direction, terminal=False)
    y0 = tensor(1.0, 0.0)
    options = {**TIGHT, "event": event, "batch_dims": int(batch)}
    sol = iso.solve(circle, y0.expand(2, 2) if batch else y0, (0.0, sign * 4 * math.pi / 2), **options)
    expected = sign * math.pi * tensor(*times)
    expected = expected[:, None].expand(-1, 2) if batch else expected
    expected = expected[: len(sol.event_ts)]
    assert len(sol.event_ts) == sum(t < 2 for t in times)
    torch.testing.assert_close(sol.event_ts, expected, rtol=0, atol=1e-8)
    assert sol.event_t.isnan().all()
    assert (sol.event_index == -1).all()


def test_several_events_terminal_and_not() -> None:
    events = [
        iso.Event(lambda t, y: y[0], terminal=False),
        lambda t, y: t - 5.0,
        iso.Event(lambda t, y: y[1] - 0.5, direction=1, terminal=2),
    ]
    sol = iso.solve(circle, tensor(1.0, 0.0), torch.linspace(0, 20, 11), event=events, **TIGHT)
    assert sol.event_index == 1
    assert abs(sol.event_t - 5) < 1e-12
    torch.testing.assert_close(sol.event_ts[0], math.pi * tensor(0.5, 1.5), rtol=0, atol=1e-8)
    torch.testing.assert_close(sol.event_ts[2], math.pi * tensor(7 / 6), rtol=0, atol=1e-8)
    torch.testing.assert_close(sol.event_y, tensor(math.cos(5), -math.sin(5)), rtol=0, atol=1e-8)
    assert sol.ys[:3].isfinite().all()
    assert sol.ys[3:].isnan().all()
    later = iso.solve(circle, tensor(1.0, 0.0), (0.0, 20.0), event=[events[0], events[2]], **TIGHT)
    assert later.event_index == 1
    assert abs(later.event_t - math.pi * (7 / 6 + 2)) < 1e-8


@pytest.mark.parametrize("direction", [0, 1, -1])
def test_starting_on_the_surface_does_not_trigger(direction: int) -> None:
    event = iso.Event(lambda t, y: y[0], direction=direction)
    for start in (0.0, 1e-17, -1e-17):
        sol = iso.solve(circle, tensor(start, 1.0), (0.0, 10.0), event=event, **TIGHT)
        assert abs(sol.event_t - (2 * math.pi if direction == 1 else math.pi)) < 1e-8


def test_jumps_that_leave_the_surface_where_it_was_do_not_trigger_again() -> None:
    reflect = iso.Event(lambda t, y, g: y[0], jump=lambda t, y, g: torch.stack([y[0], -y[1]]), terminal=6)
    sol = iso.solve(fall, tensor(10.0, 0.0), (0.0, 100.0), args=(tensor(9.81)[0],), event=reflect, **TIGHT)
    expected = times_of_bounces(*tensor(10.0, 9.81, 1.0).unbind(), count=6)
    torch.testing.assert_close(sol.event_ts, expected, rtol=0, atol=1e-8)


def test_integrate_and_fire() -> None:
    """A leaky neuron that is reset far from its threshold fires with a period known in closed form."""
    drive, threshold = torch.tensor(2.0, dtype=torch.float64, requires_grad=True), tensor(1.0)[0].requires_grad_()
    fire = iso.Event(lambda t, v: v[0] - threshold, direction=1, jump=lambda t, v: torch.zeros_like(v))
    sol = iso.solve(lambda t, v: drive - v, tensor(0.0), (0.0, 5.0), event=fire, **TIGHT)
    period = -torch.log(1 - threshold / drive)
    torch.testing.assert_close(sol.event_ts, period * torch.arange(1, 8), rtol=0, atol=1e-8)
    found = torch.autograd.grad(sol.event_ts[4], (drive, threshold))
    expected = torch.autograd.grad(5 * period, (drive, threshold))
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)


def test_two_crossings_in_one_step_are_seen() -> None:
    pulse = iso.Event(lambda t, y: (t - 0.4) * (t - 0.65), terminal=False)
    controller = iso.FixedStep(1.0)
    sol = iso.solve(
        lambda t, y: 0 * y, torch.ones(1).double(), (0.0, 3.0), event=pulse, method="rk4", controller=controller
    )
    torch.testing.assert_close(sol.event_ts, tensor(0.4, 0.65), rtol=0, atol=1e-14)


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("batch", [False, True])
def test_event_times_differentiate_everything(gradient: str, batch: bool) -> None:
    """y' = k y from y0 at t0 reaches c at t0 + log(c / y0) / k."""
    y0 = (tensor(1.0, 0.7) if batch else tensor(1.0)[0]).requires_grad_()
    k, t0, c = (x.requires_grad_() for x in tensor(0.8, 0.3, 2.5).unbind())
    event = iso.Event(lambda t, y: y - c)
    sol = iso.solve(
        lambda t, y: k * y, y0, (t0, 5.0), event=event, batch_dims=int(batch), gradient=GRADIENTS[gradient], **TIGHT
    )
    expected = t0 + torch.log(c / y0) / k
    torch.testing.assert_close(sol.event_t, expected, rtol=0, atol=1e-9)
    inputs = (y0, k, t0, c)
    found = torch.autograd.grad(sol.event_t.square().sum(), inputs, retain_graph=True)
    torch.testing.assert_close(found, torch.autograd.grad(expected.square().sum(), inputs), rtol=1e-7, atol=1e-7)
    # The state there is c, whatever the rest is.
    found = torch.autograd.grad(sol.event_y.sum(), inputs)
    zeros = [torch.zeros_like(x) for x in inputs[:3]]
    torch.testing.assert_close(found, (*zeros, torch.full_like(c, y0.numel())), rtol=0, atol=1e-7)


def test_states_saved_behind_a_jump_differentiate() -> None:
    p = ball()
    weights = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def loss(p: list[Tensor]) -> Tensor:
        sol = bounces(*p, terminal=False, ts=torch.linspace(0, 6, 6, dtype=torch.float64))
        return (sol.ys * weights).sum()

    found = torch.autograd.grad(loss(p), p)
    for i, g in enumerate(found):
        up, down = ([x.detach() + (s * 1e-6 if j == i else 0.0) for j, x in enumerate(p)] for s in (1, -1))
        with torch.no_grad():
            assert abs(g - (loss(up) - loss(down)) / 2e-6) < 1e-5 * abs(g)


def test_higher_derivatives_are_refused() -> None:
    p = ball()
    sol = bounces(*p, terminal=1)
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(sol.event_t, p, create_graph=True)


def test_dense_output_goes_through_jumps() -> None:
    p = ball()
    sol = bounces(*p, terminal=4, dense=True)
    t1, t2 = sol.event_ts[0].item(), sol.event_ts[1].item()
    speed = (2 * 9.81 * 10.0) ** 0.5 * 0.9
    t = tensor(0.5 * t1, t1 + 1e-9, 0.5 * (t1 + t2))
    expected = tensor(10 - 9.81 / 2 * (t1 / 2) ** 2, 0.0, speed**2 / 2 / 9.81)
    torch.testing.assert_close(sol(t)[:, 0], expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(sol(t1)[1], tensor(-speed / 0.9)[0], rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="knows times"):
        sol(sol.event_t.item() + 0.1)
    (g,) = torch.autograd.grad(sol(t)[2, 0], p[2])
    assert abs(g) > 1


def test_compiled_solves_with_events_are_right() -> None:
    sol = bounces(*ball(), terminal=3, compile=True)
    torch.testing.assert_close(sol.event_ts, times_of_bounces(*ball(), count=3), rtol=0, atol=1e-8)


def test_states_in_structures() -> None:
    def f(t: Tensor, state: dict[str, Any]) -> dict[str, Any]:
        return {"height": state["motion"][0], "motion": (torch.full_like(state["height"], -9.81),)}

    def bounce(t: Tensor, state: dict[str, Any]) -> dict[str, Any]:
        return {"height": state["height"], "motion": (-0.5 * state["motion"][0],)}

    y0 = {"height": tensor(1.0, 2.0), "motion": (tensor(0.0, 0.0),)}
    event = iso.Event(lambda t, state: state["height"], direction=-1, jump=bounce, terminal=2)
    sol = iso.solve(f, y0, (0.0, 10.0), event=event, batch_dims=1, **TIGHT)
    expected = times_of_bounces(tensor(1.0, 2.0), tensor(9.81)[0], tensor(0.5)[0], count=2)
    torch.testing.assert_close(sol.event_ts, expected, rtol=0, atol=1e-8)
    assert sol.event_ys["motion"][0].shape == (2, 2)
    torch.testing.assert_close(sol.event_y["height"], torch.zeros(2).double(), rtol=0, atol=1e-8)


def test_lanes_that_leave_keep_their_own_event_functions() -> None:
    """Event functions always get all lanes, so that they may close over tensors with a row for each."""
    floors = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    sol = iso.solve(
        lambda t, y: -y, torch.ones(9).double(), (0.0, 9.0), event=lambda t, y: y - floors, batch_dims=1, **TIGHT
    )
    torch.testing.assert_close(sol.event_t, -floors.log(), rtol=0, atol=1e-9)
    assert sol.stats.rows < 0.9 * 9 * sol.stats.evaluations


def test_a_lane_that_fails_says_so_and_leaves_others_alone() -> None:
    event = iso.Event(lambda t, y: y - 3.0)
    y0 = tensor(1.0, -1.0, 2.0)
    f = lambda t, y: torch.where(y < 0, torch.sqrt(y - 1), y)  # noqa: E731 (nan below 0)
    sol = iso.solve(f, y0, (0.0, 5.0), event=event, batch_dims=1, throw=False, **TIGHT)
    assert sol.status.tolist() == [iso.Status.EVENT, iso.Status.NON_FINITE, iso.Status.EVENT]
    torch.testing.assert_close(sol.event_t[[0, 2]], tensor(3.0, 1.5).log(), rtol=0, atol=1e-9)
    assert sol.event_t[1].isnan()


def test_endless_jumps_end_with_max_steps() -> None:
    with pytest.raises(iso.SolveError, match="MAX_STEPS"):
        bounces(*tensor(10.0, 9.81, 0.5).unbind(), terminal=False, max_steps=60)


@pytest.mark.parametrize(
    ("event", "error", "message"),
    [
        (lambda t, y: y[1].sqrt() + 1, ValueError, "event function 0 returned nan at t="),
        (lambda t, y: y, ValueError, "expected one number"),
        (lambda t, y: (y > 0)[0], TypeError, "floating point"),
        (3, TypeError, "event must be an Event"),
        (iso.Event(lambda t, y: y[0] - 0.3, jump=lambda t, y: y[0]), ValueError, "jump returned"),
    ],
)
def test_what_cannot_be_is_explained(event: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        iso.solve(lambda t, y: -torch.ones_like(y), tensor(0.5, 0.2), (0.0, 1.0), event=event)


@pytest.mark.parametrize("settings", [{"direction": 2}, {"terminal": 0.5}, {"jump": 1.0}])
def test_settings_of_events_are_checked(settings: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        iso.Event(lambda t, y: y[0], **settings)


@pytest.mark.parametrize("batch", [False, True])
def test_a_steady_state_and_its_gradient(batch: bool) -> None:
    a = (tensor(4.0, 9.0) if batch else tensor(4.0)[0]).requires_grad_()
    y0 = torch.ones((2, 2) if batch else 2, dtype=torch.float64, requires_grad=True)

    def f(t: Tensor, y: Tensor) -> Tensor:
        return torch.stack([a - y[..., 0] ** 2, y[..., 0] - y[..., 1] * a], dim=-1)

    steady = iso.SteadyState(rtol=1e-9, atol=1e-9)
    sol = iso.solve(f, y0, (0.0, 100.0), event=steady, batch_dims=int(batch), **TIGHT)
    assert (sol.status == iso.Status.EVENT).all()
    expected = torch.stack([a.sqrt(), 1 / a.sqrt()], dim=-1)
    torch.testing.assert_close(sol.event_y, expected, rtol=0, atol=1e-8)
    (found,) = torch.autograd.grad(sol.event_y.square().sum(), a, retain_graph=True)
    torch.testing.assert_close(found, torch.autograd.grad(expected.square().sum(), a)[0], rtol=1e-7, atol=0)
    assert torch.autograd.grad(sol.event_y.sum(), y0, materialize_grads=True)[0].eq(0).all()


def test_a_large_steady_state_without_matrices() -> None:
    """Diffusion with sources: the gradient solves a tridiagonal system of 600 equations."""
    n = 600
    source = torch.linspace(0.5, 1.5, n, dtype=torch.float64).requires_grad_()

    def f(t: Tensor, y: Tensor) -> Tensor:
        return source - 3 * y + torch.roll(y, 1, 0) + 0.5 * torch.roll(y, -1, 0)

    steady = iso.SteadyState(rtol=0.0, atol=1e-9)
    sol = iso.solve(f, torch.zeros(n).double(), (0.0, 100.0), event=steady, **TIGHT)
    matrix = torch.func.jacrev(lambda y: f(sol.ts[0], y))(torch.zeros(n).double()).detach()
    weights = torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    (found,) = torch.autograd.grad(sol.event_y @ weights, source)
    torch.testing.assert_close(found, -torch.linalg.solve(matrix.mT, weights), rtol=1e-8, atol=1e-10)


def test_backward_counts_all_segments() -> None:
    p = ball()
    sol = bounces(*p, terminal=4, gradient=iso.RecursiveCheckpointAdjoint())
    sol.event_t.backward()
    assert sol.stats.backward is not None
    assert sol.stats.backward.accepted == sol.stats.accepted


@pytest.mark.parametrize("option", [{"event": lambda t, y: y[0]}, {"step_ts": [0.5]}])
def test_black_boxes_know_no_events(option: dict[str, Any]) -> None:
    pytest.importorskip("scipy")
    with pytest.raises(ValueError, match="does not show its steps"):
        iso.solve(circle, tensor(1.0, 0.0), (0.0, 1.0), method=iso.SciPy("RK45"), **option)


def test_lanes_with_their_own_times_directions_and_arguments() -> None:
    """y' = k y, some lanes backwards, over two batch dimensions; crossings of c at log(c / y0) / k."""
    k = tensor(1.0, 2.0, -1.0, 0.5, 1.5, 0.7).reshape(2, 3).requires_grad_()
    ends = tensor(3.0, 3.0, -3.0, 0.1, 3.0, -3.0).reshape(2, 3)
    y0 = torch.ones(2, 3, 1, dtype=torch.float64, requires_grad=True)
    up = iso.Event(lambda t, y, k: y[..., 0] - 1.3, direction=1, terminal=False)
    end = iso.Event(lambda t, y, k: y[..., 0] - 1.7)
    options: dict[str, Any] = {**TIGHT, "batch_dims": 2, "args": (iso.PerLane(k),)}
    sol = iso.solve(lambda t, y, k: k.unsqueeze(-1) * y, y0, (0.0, ends), event=(up, end), **options)
    happens = tensor(1, 1, 1, 0, 1, 0).bool().reshape(2, 3)
    for found, level in ((sol.event_ts[0][0], 1.3), (sol.event_t, 1.7)):
        expected = torch.where(happens, math.log(level) / k, float("nan"))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9, equal_nan=True)
    assert torch.equal(sol.status == iso.Status.EVENT, happens)
    (slope,) = torch.autograd.grad(sol.event_t[happens].sum(), k)
    expected = torch.where(happens, -math.log(1.7) / k**2, 0.0)
    torch.testing.assert_close(slope, expected.detach(), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_gradients_of_lanes_that_left(gradient: str) -> None:
    """Saved states and event times of many lanes, most of which have ended before the last."""
    rates = torch.linspace(0.3, 3.0, 12, dtype=torch.float64).requires_grad_()
    options: dict[str, Any] = {**TIGHT, "batch_dims": 1, "gradient": GRADIENTS[gradient], "args": (iso.PerLane(rates),)}
    ts = torch.linspace(0, 6, 13, dtype=torch.float64)
    sol = iso.solve(lambda t, y, k: -k * y, torch.ones(12).double(), ts, event=lambda t, y, k: y - 0.25, **options)
    expected = math.log(4) / rates
    torch.testing.assert_close(sol.event_t, expected, rtol=0, atol=1e-9)
    saved = torch.exp(-rates * ts.unsqueeze(1))
    saved = torch.where(saved >= 0.25, saved, 0.0)
    loss = sol.event_t.sum() + sol.ys.nan_to_num(0.0).square().sum()
    found = torch.autograd.grad(loss, rates)
    torch.testing.assert_close(
        found, torch.autograd.grad(expected.sum() + saved.square().sum(), rates), rtol=1e-7, atol=1e-7
    )
