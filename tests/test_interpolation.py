"""Controls u(t): values against closed forms and SciPy, gradients, gaps, lanes, and use in solves."""

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicHermiteSpline, interp1d
from torch import Tensor

import isocline as iso
from isocline.interpolation import Interpolation

F64 = torch.float64
KINDS = (iso.LinearInterpolation, iso.CubicHermite)
kinds = pytest.mark.parametrize("kind", KINDS)
TS = torch.tensor([-0.5, 0.0, 0.2, 1.1, 1.5, 3.0], dtype=F64)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=F64)


def by_scipy(kind: type[Interpolation], ts: Tensor, us: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """Values and derivatives inside the knots."""
    slopes = us.diff(dim=0) / ts.diff().reshape(-1, *[1] * (us.ndim - 1))
    if kind is iso.LinearInterpolation:
        value = interp1d(ts.numpy(), us.numpy(), axis=0)(times.numpy())
        piece = np.searchsorted(ts.numpy(), times.numpy(), side="right") - 1
        return torch.from_numpy(value), slopes[np.clip(piece, 0, len(ts) - 2)]
    spline = CubicHermiteSpline(ts.numpy(), us.numpy(), torch.cat([slopes[:1], slopes]).numpy(), axis=0)
    return torch.from_numpy(spline(times.numpy())), torch.from_numpy(spline(times.numpy(), 1))


@kinds
@pytest.mark.parametrize("channels", [(), (2,), (3, 2)])
def test_it_is_scipys(kind: type[Interpolation], channels: tuple[int, ...]) -> None:
    us = draw(len(TS), *channels)
    times = torch.cat([torch.linspace(-0.5, 3.0, 57, dtype=F64)[1:-1], TS])
    value, slope = by_scipy(kind, TS, us, times)
    u = kind(TS, us)
    torch.testing.assert_close(u(times), value, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(u.derivative(times), slope, rtol=1e-12, atol=1e-11)
    for i, t in enumerate(times):
        torch.testing.assert_close(u(t), value[i], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(u(t.item()), value[i], rtol=1e-12, atol=1e-12)


def test_a_cubic_depends_on_nothing_later_than_the_next_observation() -> None:
    us, later = draw(6, 2), draw(6, 2)
    later[:4] = us[:4]
    times = torch.linspace(-0.5, 1.1, 20, dtype=F64)
    assert torch.equal(iso.CubicHermite(TS, us)(times), iso.CubicHermite(TS, later)(times))


@kinds
def test_gradients(kind: type[Interpolation]) -> None:
    times = torch.tensor([-0.4, 0.1, 0.7, 2.9], dtype=F64)

    def function(ts: Tensor, us: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        u = kind(ts, us)
        return u(times), u.derivative(times)

    inputs = [x.clone().requires_grad_() for x in (TS, draw(6, 2), times)]
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


@kinds
def test_the_derivative_is_that_of_the_value(kind: type[Interpolation]) -> None:
    """At the knots and at the ends, too: there by the piece that begins."""
    u = kind(TS, draw(6, 3))
    times = torch.cat([TS, torch.tensor([0.1, 0.9], dtype=F64)])
    rate = torch.stack([torch.func.jacrev(u)(t) for t in times])
    torch.testing.assert_close(rate, u.derivative(times), rtol=1e-12, atol=1e-12)


@kinds
def test_outside(kind: type[Interpolation]) -> None:
    us = draw(6, 2)
    beyond = torch.tensor([-9.0, 9.0], dtype=F64)
    held = kind(TS, us)
    torch.testing.assert_close(held(beyond), us[[0, -1]], rtol=1e-13, atol=1e-13)
    assert held.derivative(beyond).abs().max() == 0
    assert held.derivative(TS[[0, -1]]).abs().min() > 0
    extended = kind(TS, us, outside="extend")
    inside = torch.tensor([2.0, 2.4, 2.9], dtype=F64)
    # The last piece is a cubic at most: four of its values give it everywhere.
    four = torch.cat([inside, TS[-1:]])
    powers = four.unsqueeze(1) ** torch.arange(4)
    cubic = torch.linalg.solve(powers, extended(four))
    torch.testing.assert_close(extended(4.0), 4.0 ** torch.arange(4, dtype=F64) @ cubic, rtol=1e-9, atol=1e-9)
    refused = kind(TS, us, outside="nan")
    assert refused(beyond).isnan().all()
    assert refused(TS).isfinite().all()
    # 0.1 in float32 is beyond 0.1 in float64, and no step outside.
    assert kind([0.0, 0.1], torch.zeros(2), outside="nan")(torch.tensor(0.1)).isfinite()


@kinds
def test_gaps_are_filled_along_lines_and_constant_at_the_ends(kind: type[Interpolation]) -> None:
    us, nan = draw(6, 2), float("nan")
    gaps = us.clone()
    gaps[2:4, 0] = nan
    gaps[:2, 1] = gaps[5, 1] = nan
    expected = us.clone()
    share = (TS[2:4] - TS[1]) / (TS[4] - TS[1])
    expected[2:4, 0] = us[1, 0] + share * (us[4, 0] - us[1, 0])
    expected[:2, 1], expected[5, 1] = us[2, 1], us[4, 1]
    times = torch.linspace(-0.5, 3.0, 31, dtype=F64)
    torch.testing.assert_close(kind(TS, gaps)(times), kind(TS, expected)(times), rtol=1e-13, atol=1e-13)


@kinds
def test_gaps_leave_gradients_finite(kind: type[Interpolation]) -> None:
    gaps = draw(6, 2)
    gaps[2, 0] = gaps[0, 1] = float("nan")
    us, ts = gaps.clone().requires_grad_(), TS.clone().requires_grad_()
    kind(ts, us)(torch.tensor([-0.3, 0.7], dtype=F64)).sum().backward()
    assert us.grad is not None and ts.grad is not None
    assert us.grad.isfinite().all() and ts.grad.isfinite().all()
    assert us.grad[gaps.isnan()].abs().max() == 0


def test_at_equal_times_it_jumps() -> None:
    u = iso.LinearInterpolation([0.0, 1.0, 1.0, 2.0, 2.0], torch.tensor([0.0, 1.0, 5.0, 6.0, 6.0]))
    assert u(torch.tensor([0.999999, 1.0, 1.5, 2.0])).tolist() == pytest.approx([1.0, 5.0, 5.5, 6.0], abs=1e-5)
    assert u.derivative(0.5) == 1


@kinds
@pytest.mark.parametrize("own", [False, True], ids=["shared times", "own times"])
def test_lanes_are_each_their_own(kind: type[Interpolation], own: bool) -> None:
    us = draw(6, 2, 3, 2)
    shift = torch.rand(2, 3, dtype=F64)
    ts = TS[:, None, None] + shift if own else TS
    u = kind(ts, us, batch_dims=2)
    t = torch.rand(2, 3, dtype=F64)
    each = torch.stack(
        [torch.stack([kind(ts[:, i, j] if own else ts, us[:, i, j])(t[i, j]) for j in range(3)]) for i in range(2)]
    )
    torch.testing.assert_close(u(t.reshape(2, 3, 1)), each, rtol=1e-13, atol=1e-13)
    assert u(0.4).shape == u.derivative(t).shape == (2, 3, 2)


@kinds
def test_one_control_for_all_samples(kind: type[Interpolation]) -> None:
    u = kind(TS, draw(6, 2))
    t = torch.rand(4, dtype=F64)
    for shape in ((4,), (4, 1), (4, 1, 1)):
        assert torch.equal(u(t.reshape(shape)), torch.stack([u(x) for x in t]))
    assert u(t[:1].reshape(1, 1)).shape == (1, 2)


@kinds
@pytest.mark.parametrize("batch_dims", [0, 1], ids=["joint", "samples"])
def test_a_driven_equation(kind: type[Interpolation], batch_dims: int) -> None:
    """y' = u'(t) has the solution u(t) - u(0): steps end at the knots, and no stage is beyond them."""
    ts = torch.linspace(0, 2, 9, dtype=F64)
    us = draw(9, 3, 1).requires_grad_()
    u = kind(ts, us, batch_dims=1)
    sol = iso.solve(
        lambda t, y, u: u.derivative(t),
        torch.zeros(3, 1, dtype=F64),
        (0.0, 1.75),
        args=(iso.PerLane(u),),
        batch_dims=batch_dims,
        method="midpoint",
        controller=iso.FixedStep(1 / 64),
    )
    exact = u(1.75) - u(0.0)
    tolerance = 1e-12 if kind is iso.LinearInterpolation else 1e-2
    torch.testing.assert_close(sol.ys[-1], exact, rtol=tolerance, atol=tolerance)
    found, expected = (torch.autograd.grad(y.sum(), us, retain_graph=True)[0] for y in (sol.ys[-1], exact))
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "gradient", [iso.DirectAdjoint(), iso.RecursiveCheckpointAdjoint(), iso.BacksolveAdjoint(rtol=1e-9, atol=1e-9)]
)
def test_gradients_through_a_control_that_f_closes_over(gradient: iso.Gradient) -> None:
    ts = torch.linspace(0, 2, 9, dtype=F64)
    us = draw(9, 2).requires_grad_()
    u = iso.CubicHermite(ts, 2 * us)
    sol = iso.solve(
        lambda t, y: u(t) - y, torch.zeros(2, dtype=F64), (0.0, 2.0), gradient=gradient, rtol=1e-9, atol=1e-9
    )
    (found,) = torch.autograd.grad(sol.ys[-1].sum(), us)
    # Linear in u: the exact gradient is the solution for each unit control.
    unit = torch.eye(9, dtype=F64)
    v = iso.CubicHermite(ts, unit)
    exact = iso.solve(lambda t, y: 2 * v(t) - y, torch.zeros(9, dtype=F64), (0.0, 2.0), rtol=1e-11, atol=1e-11).ys[-1]
    torch.testing.assert_close(found, exact.unsqueeze(1).expand(9, 2), rtol=1e-6, atol=1e-6)


def test_samples_that_have_ended_leave_with_their_controls() -> None:
    knots = torch.linspace(0, 1, 5, dtype=F64)
    us = draw(16, 1) + draw(16, 1) * knots.reshape(5, 1, 1)  # no kinks, where rounding decides about steps
    ends = torch.linspace(0.1, 1.0, 16, dtype=F64)
    u = iso.LinearInterpolation(knots.unsqueeze(1).expand(5, 16), us, batch_dims=1)
    y0 = torch.zeros(16, 1, dtype=F64)
    marked, closed = (
        iso.solve(f, y0, (0.0, ends), args=args, batch_dims=1, rtol=1e-8, atol=1e-8)
        for f, args in (
            (lambda t, y, u: u(t) - y, (iso.PerLane(u),)),
            (lambda t, y: u(t) - y, ()),
        )
    )
    torch.testing.assert_close(marked.ys, closed.ys, rtol=1e-12, atol=1e-12)
    assert marked.stats.rows < 0.9 * closed.stats.rows


@kinds
def test_transforms(kind: type[Interpolation]) -> None:
    ts, us = torch.linspace(0, 2, 9, dtype=F64), draw(9, 2)
    many = draw(4, 9, 2)
    each = torch.func.vmap(lambda us: kind(ts, us)(0.3))(many)
    torch.testing.assert_close(each, torch.stack([kind(ts, us)(0.3) for us in many]))
    times = torch.rand(5, dtype=F64)
    torch.testing.assert_close(torch.func.vmap(kind(ts, us))(times), kind(ts, us)(times))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"us": [1.0, 2.0]}, "us must be a floating point tensor"),
        ({"us": torch.ones(3, dtype=torch.int64)}, "us must be a floating point tensor"),
        ({"us": torch.ones(3)}, r"ts has shape \(2,\) for us of shape \(3,\)"),
        ({"ts": [0.0, float("inf")]}, "must be finite"),
        ({"ts": [1.0, 0.0]}, "must not decrease"),
        ({"ts": ["a", "b"]}, "ts must be a tensor or a sequence of times"),
        ({"us": torch.full((2,), float("nan"))}, "nan throughout"),
        ({"batch_dims": 1}, "the time axis comes first"),
        ({"outside": "clamp"}, "outside must be"),
    ],
)
def test_bad_input_is_refused(change: dict[str, object], message: str) -> None:
    settings = {"ts": [0.0, 1.0], "us": torch.ones(2), **change}
    with pytest.raises((TypeError, ValueError), match=message):
        iso.CubicHermite(**settings)  # type: ignore[arg-type]


def test_times_for_other_lanes_are_refused() -> None:
    u = iso.LinearInterpolation([0.0, 1.0], torch.ones(2, 3), batch_dims=1)
    with pytest.raises(ValueError, match="3 lanes"):
        u(torch.rand(2, 1))
