"""One trained ODE-Net, solved anew at many tolerances and with many methods."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

import isocline as iso
from isocline.experiments.section3.classifiers import Classifier

ADAPTIVE = ("tsit5", "dopri5", "bosh3")
FIXED = ("euler", "rk4")
TOLERANCES = tuple(10.0**-k for k in range(7))
STEP_COUNTS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Point:
    """One way to solve, and what it gives on the test set.

    Attributes:
        method: Name of the method.
        tolerance: Relative and absolute tolerance of an adaptive solve, else None.
        steps: Number of fixed steps, else None.
        nfe: Field evaluations.
        test_error: In per cent.
        deviation: Distance of the states at time 1 from an accurate solve's, relative to their norm.
    """

    method: str
    tolerance: float | None
    steps: int | None
    nfe: int
    test_error: float
    deviation: float


@torch.no_grad()
def sweep(model: Classifier, images: Tensor, labels: Tensor) -> list[Point]:
    """Solves `model`, an RK-Net or ODE-Net, in every way above; leaves it as it was.

    Args:
        model: The trained model.
        images: Test images (N, 1, height, width), solved as one batch.
        labels: Their labels (N,).
    """
    body = cast(iso.NeuralODE, model.body)
    start = model.stem(images)
    points = []
    with _restored(body):
        exact = _solve(body, start, "dopri5", 1e-6, None)
        ways: list[tuple[str, float | None, int | None]] = [(m, tol, None) for m in ADAPTIVE for tol in TOLERANCES]
        ways += [(method, None, steps) for method in FIXED for steps in STEP_COUNTS]
        for method, tolerance, steps in ways:
            with iso.track() as work:
                end = _solve(body, start, method, tolerance, steps)
            wrong = (model.head(end).argmax(1) != labels).float().mean().item()
            deviation = ((end - exact).norm() / exact.norm()).item()
            points.append(Point(method, tolerance, steps, work.forward.evaluations, 100 * wrong, deviation))
    return points


def _solve(body: iso.NeuralODE, start: Tensor, method: str, tolerance: float | None, steps: int | None) -> Tensor:
    body.method = method
    body.rtol = body.atol = tolerance
    body.controller = iso.FixedStep(1.0 / steps) if steps else None
    return cast(Tensor, body(start))


@contextmanager
def _restored(body: iso.NeuralODE) -> Iterator[None]:
    before = {name: getattr(body, name) for name in ("method", "rtol", "atol", "controller")}
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(body, name, value)
