"""A method that is one class and one line in ``METHODS``, as CONTRIBUTING.md says: everything else comes by itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import isocline as iso
from isocline.gradients import GRADIENTS
from isocline.numbers import Number, column, where
from isocline.solvers.base import Attempt, Carry, Field
from isocline.state import Step
from orders import slope


@dataclass(frozen=True)
class Ralston(iso.Solver):
    """Ralston's method of order 2, with Euler's as its error estimate."""

    name: ClassVar[str] = "my_method"
    order: ClassVar[int] = 2
    error_order: ClassVar[int] = 1
    weights: ClassVar[tuple[float, ...]] = (0.25, 0.75)
    evaluations: ClassVar[int] = 2

    def init(self, f: Field, t0: Number, y0: Tensor, f0: Callable[[], Tensor]) -> Carry:
        return ()

    def step(self, f: Field, t0: Number, t1: Number, y0: Tensor, carry: Carry) -> Attempt:
        h = column(t1 - t0, y0)
        first = f(t0, y0)
        second = f(t0 + (t1 - t0) * 2 / 3, y0 + h * first * 2 / 3)
        way = h * (first + 3 * second) / 4
        return Attempt(y0 + way, way - h * first, (first, second), ())

    def interpolate(self, step: Step, t: Tensor) -> Tensor:
        s, h = t - step.t0, step.t1 - step.t0
        s, h = column(s, step.y0), column(where(h == 0, 1.0, h), step.y0)
        first, second = step.stages
        return step.y0 + s * first + s * s / h * 3 / 4 * (second - first)


F64 = torch.float64
K = torch.tensor(0.7, dtype=F64)
Y0 = torch.tensor([[0.2], [0.5]], dtype=F64)


def f(t: Tensor, y: Tensor, k: Tensor) -> Tensor:
    """Logistic growth."""
    return k * y * (1 - y)


def exact(t: Tensor) -> Tensor:
    return 1 / (1 + (1 / Y0 - 1) * (-K * t.reshape(-1, 1, 1)).exp())


@pytest.fixture(autouse=True)
def _line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(iso.METHODS, "my_method", Ralston())


@pytest.mark.parametrize("batch_dims", [0, 1])
def test_its_order_at_the_end_and_between_steps(batch_dims: int) -> None:
    ts = torch.linspace(0, 3, 8, dtype=F64)
    errors = {}
    for n in (20, 40, 80):
        controller = iso.FixedStep(3 / n)
        sol = iso.solve(f, Y0, ts, args=(K,), method="my_method", controller=controller, batch_dims=batch_dims)
        assert sol.stats.evaluations == 2 * n
        errors[n] = float((sol.ys - exact(ts)).abs().max())
    assert abs(slope(errors) - 2) < 0.1


@pytest.mark.parametrize("batch_dims", [0, 1])
def test_error_control_and_dense_output(batch_dims: int) -> None:
    options = {"rtol": 1e-6, "atol": 1e-6, "batch_dims": batch_dims, "dense": True}
    sol = iso.solve(f, Y0, (0.0, 3.0), args=(K,), method="my_method", **options)
    ts = torch.linspace(0, 3, 50, dtype=F64)
    assert_close(sol(ts), exact(ts), rtol=0, atol=1e-5)


SUITED = {name: gradient for name, gradient in GRADIENTS.items() if gradient.suits(Ralston())}


@pytest.mark.parametrize("batch_dims", [0, 1])
@pytest.mark.parametrize("gradient", SUITED.values(), ids=SUITED)
def test_every_gradient(gradient: iso.Gradient, batch_dims: int) -> None:
    """Those that differentiate the steps agree to rounding, adjoint ODEs to the tolerance."""

    def by(how: iso.Gradient) -> tuple[Tensor, ...]:
        k, y0 = K.clone().requires_grad_(), Y0.clone().requires_grad_()
        options = {"rtol": 1e-4, "atol": 1e-4, "batch_dims": batch_dims, "gradient": how}
        ys = iso.solve(f, y0, (0.0, 1.0, 3.0), args=(k,), method="my_method", **options).ys
        return torch.autograd.grad(ys.square().sum(), (k, y0))

    steps = isinstance(gradient, (iso.DirectAdjoint, iso.RecursiveCheckpointAdjoint, iso.ForwardMode))
    for found, right in zip(by(gradient), by(iso.DirectAdjoint()), strict=True):
        assert_close(found, right, rtol=1e-10 if steps else 3e-3, atol=0)


def test_events_and_vmap() -> None:
    def half(t: Tensor, y: Tensor, k: Tensor) -> Tensor:
        return y[0] - 0.5

    sol = iso.solve(f, Y0[0], (0.0, 9.0), args=(K,), method="my_method", rtol=1e-7, event=half)
    assert_close(sol.event_t, (1 / Y0[0, 0] - 1).log() / K, rtol=0, atol=1e-5)
    ends = torch.vmap(lambda y: iso.solve(f, y, (0.0, 3.0), args=(K,), method="my_method", rtol=1e-6).ys[-1])(Y0)
    assert_close(ends, exact(torch.tensor([3.0], dtype=F64))[0], rtol=0, atol=1e-5)


def test_it_is_listed() -> None:
    methods = pytest.importorskip("isocline.experiments.methods")
    assert {"name": "my_method", "order": 2}.items() <= methods.listing()[-1].items()
