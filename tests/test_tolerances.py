"""Tolerances of each component, and smallest steps."""

from typing import Any

import pytest
import torch
from torch import Tensor

import isocline as iso


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def two_scales(t: Tensor, y: Tensor) -> Tensor:
    """A fast oscillation of size 1 in front, a slow decay of size 1e-6 behind."""
    x, v, z = y.unbind(-1)
    return torch.stack([30 * v, -30 * x, -z], dim=-1)


@pytest.mark.parametrize("batch", [False, True])
def test_components_have_tolerances_of_their_own(batch: bool) -> None:
    y0 = tensor(1.0, 0.0, 1e-6).expand(2, 3) if batch else tensor(1.0, 0.0, 1e-6)
    options: dict[str, Any] = {"batch_dims": int(batch), "rtol": 0.0}
    loose = iso.solve(two_scales, y0, (0.0, 1.0), atol=tensor(float("inf"), float("inf"), 1e-10), **options)
    tight = iso.solve(two_scales, y0, (0.0, 1.0), atol=1e-10, **options)
    assert loose.stats.steps.max() < 0.2 * tight.stats.steps.max()
    exact = 1e-6 * tensor(-1.0).exp()
    assert (loose.ys[-1, ..., 2] - exact).abs().max() < 1e-9
    # One number for all is the same as that number for each.
    for atol in (1e-7, tensor(1e-7), tensor(1e-7, 1e-7, 1e-7)):
        sol = iso.solve(two_scales, y0, (0.0, 1.0), atol=atol, **options)
        assert torch.equal(sol.ys, iso.solve(two_scales, y0, (0.0, 1.0), atol=1e-7, **options).ys)


def test_tolerances_in_y0s_structure() -> None:
    def f(t: Tensor, y: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"a": -y["a"], "b": torch.cos(40 * t) * 40 + 0 * y["b"]}

    y0 = {"a": tensor(1.0, 2.0), "b": tensor(0.0)}
    few = iso.solve(f, y0, (0.0, 1.0), rtol=0.0, atol={"a": 1e-8, "b": float("inf")})
    many = iso.solve(f, y0, (0.0, 1.0), rtol=0.0, atol={"a": tensor(1e-8, 1e-8), "b": 1e-8})
    assert few.stats.steps < 0.3 * many.stats.steps
    assert (few.ys["a"][-1] - tensor(1.0, 2.0) * tensor(-1.0).exp()).abs().max() < 1e-7


@pytest.mark.parametrize("batch", [False, True])
def test_adjoints_are_judged_like_their_components(batch: bool) -> None:
    y0 = (tensor(1.0, 0.0, 0.5).expand(2, 3) if batch else tensor(1.0, 0.0, 0.5)).clone().requires_grad_()
    gradients = []
    for atol in (1e-6, tensor(1e-6, 1e-6, 1e-6)):
        sol = iso.solve(
            two_scales, y0, (0.0, 1.0), rtol=0.0, atol=atol, gradient=iso.BacksolveAdjoint(), batch_dims=int(batch)
        )
        gradients.append(torch.autograd.grad(sol.ys[-1].square().sum(), y0)[0])
    assert torch.equal(*gradients)


@pytest.mark.usefixtures("graphs_only")
def test_compiled_solves_take_them_as_tensors() -> None:
    y0 = tensor(1.0, 0.0, 1e-6)
    for atol in (tensor(1e-4, 1e-5, 1e-9), tensor(1e-5, 1e-6, 1e-10)):
        sol = iso.solve(two_scales, y0, (0.0, 0.3), rtol=0.0, atol=atol, compile=True)
        eager = iso.solve(two_scales, y0, (0.0, 0.3), rtol=0.0, atol=atol)
        assert sol.stats.steps == eager.stats.steps
        torch.testing.assert_close(sol.ys, eager.ys, rtol=0, atol=1e-12)


def test_controllers_compare_by_value() -> None:
    given = tensor(1e-3, 1e-4)
    one, same = iso.PID(atol=given), iso.PID(atol=tensor(1e-3, 1e-4))
    assert one == same
    assert hash(one) == hash(same)
    assert one != iso.PID(atol=tensor(1e-3, 1e-5))
    assert iso.PID() == iso.PID()
    assert iso.PID() != iso.PID(rtol=1e-4)
    given.zero_()
    assert one == same


@pytest.mark.parametrize(
    ("tolerance", "error", "message"),
    [
        (tensor(1e-3, 1e-3), ValueError, "does not broadcast"),
        ((1e-3, 1e-3), TypeError, "atol is a tuple"),
        (tensor(1e-3, -1.0, 1e-3), ValueError, "must be >= 0"),
        (tensor(1e-3, float("nan"), 1e-3), ValueError, "must be >= 0"),
        ("small", TypeError, "atol must be a number"),
        (["small"], TypeError, "atol must hold"),
    ],
)
def test_tolerances_that_do_not_fit(tolerance: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        iso.solve(two_scales, tensor(1.0, 0.0, 1e-6), (0.0, 1.0), atol=tolerance)


def kink(t: Tensor, y: Tensor) -> Tensor:
    """Jumps at t = 1/3, where error control wants tiny steps."""
    return torch.where(t < 1 / 3, 1.0, 1e3).to(y.dtype) + 0 * y


@pytest.mark.parametrize("batch", [False, True])
def test_smallest_steps(batch: bool) -> None:
    y0 = tensor(0.0, 0.0).unsqueeze(1) if batch else tensor(0.0)
    options: dict[str, Any] = {"batch_dims": int(batch), "throw": False}
    free = iso.solve(kink, y0, (0.0, 1.0), controller=iso.PID(1e-8, 1e-8), dense=True, **options)
    steps = (free.interpolant.dense.t1 - free.interpolant.dense.t0).abs()  # type: ignore[union-attr]
    assert steps[steps > 0].min() < 1e-6
    held = iso.PID(1e-8, 1e-8, dt_min=1e-3)
    sol = iso.solve(kink, y0, (0.0, 1.0), controller=held, **options)
    assert (sol.status == iso.Status.STEP_TOO_SMALL).all()
    forced = iso.PID(1e-8, 1e-8, dt_min=1e-3, force_dt_min=True)
    sol = iso.solve(kink, y0, (0.0, 1.0), controller=forced, dense=True, **options)
    assert sol.success.all()
    steps = (sol.interpolant.dense.t1 - sol.interpolant.dense.t0).abs()[:-1]  # type: ignore[union-attr]
    assert steps.min() >= 1e-3 * (1 - 1e-12)
    torch.testing.assert_close(sol.ys[-1], torch.full_like(y0, 1 / 3 + 2e3 / 3), rtol=1e-3, atol=0)


@pytest.mark.parametrize("settings", [{"dt_min": -1.0}, {"dt_min": 1.0, "dt_max": 0.5}, {"force_dt_min": True}])
def test_smallest_steps_are_checked(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="dt_min"):
        iso.PID(**settings)
