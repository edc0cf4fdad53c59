"""What every gradient method owes, with every solver, and in every layout: each pair of these at least once."""

from functools import cache

import pytest
import torch

import isocline as iso
from isocline.gradients import GRADIENTS
from problems import ANY_STATE

from .problems import (
    ALL_GRADIENTS,
    DISCRETE,
    LAYOUTS,
    ONE_BLOCK,
    Inputs,
    covering,
    draw,
    exact,
    gradients,
    in_turn,
    leaves_of,
    states,
    worst,
)

# Controller for each method, and how well its discrete solution then stands for the exact one.
TIGHT: dict[str, tuple[iso.Controller, float]] = {
    "euler": (iso.FixedStep(1 / 80), 0.1),
    "midpoint": (iso.FixedStep(1 / 40), 2e-3),
    "heun": (iso.FixedStep(1 / 40), 2e-3),
    "ralston": (iso.FixedStep(1 / 40), 2e-3),
    "rk4": (iso.FixedStep(1 / 25), 5e-6),
    "rk4_38": (iso.FixedStep(1 / 25), 5e-6),
    "reversible_heun": (iso.FixedStep(1 / 40), 2e-3),
    "bosh3": (iso.PID(rtol=1e-7, atol=1e-7), 1e-5),
    "dopri5": (iso.PID(rtol=1e-10, atol=1e-10), 1e-6),
    "tsit5": (iso.PID(rtol=1e-10, atol=1e-10), 1e-6),
    "implicit_euler": (iso.FixedStep(1 / 80), 0.1),
    "trbdf2": (iso.FixedStep(1 / 40), 2e-3),
    "kvaerno3": (iso.FixedStep(1 / 30), 1e-4),
    "kencarp4": (iso.FixedStep(1 / 25), 1e-5),
    "kvaerno5": (iso.PID(rtol=1e-8, atol=1e-8), 2e-5),
    "auto": (iso.PID(rtol=1e-10, atol=1e-10), 1e-6),
    "adams": (iso.PID(rtol=1e-9, atol=1e-9), 1e-6),
    "adams_fixed": (iso.FixedStep(1 / 60), 5e-6),
    "bdf": (iso.PID(rtol=1e-8, atol=1e-8), 1e-4),
    "rosenbrock23": (iso.FixedStep(1 / 40), 2e-3),
    "rodas4": (iso.PID(rtol=1e-8, atol=1e-8), 1e-5),
    "radau": (iso.PID(rtol=1e-9, atol=1e-9), 1e-6),
    "rodas5p": (iso.PID(rtol=1e-9, atol=1e-9), 1e-6),
    "ssprk33": (iso.FixedStep(1 / 60), 1e-4),
    "vern7": (iso.PID(rtol=1e-9, atol=1e-9), 1e-6),
    "vern8": (iso.PID(rtol=1e-9, atol=1e-9), 1e-6),
    "vern9": (iso.PID(rtol=1e-9, atol=1e-9), 1e-6),
    "dopri8": (iso.PID(rtol=1e-9, atol=1e-9), 1e-6),
    "dop853": (iso.PID(rtol=1e-9, atol=1e-9), 1e-6),
}

PAIRS = [
    (m, g)
    for m in ANY_STATE
    for g in ALL_GRADIENTS
    if ALL_GRADIENTS[g].suits(iso.METHODS[m])
    # Where stages have no weights Gauss's points serve the interpolating adjoint, too.
    and (g != "gauss" or (iso.METHODS[m].integrates and iso.METHODS[m].weights))
]
DEFAULTS = [(m, g) for m, g in PAIRS if g in GRADIENTS]


def loose(method: str) -> iso.Controller:
    """A controller for some ten or twenty steps, with error control where the method has it."""
    order = iso.METHODS[method].error_order
    if order is None:
        return iso.FixedStep(1 / 11)
    tolerance = {1: 2e-3, 2: 1e-4, 3: 1e-5, 4: 1e-7, 6: 1e-9, 7: 1e-11, 8: 1e-10}[order]
    # At high order the estimated error of a very small first step is rounding errors, and so would the next step be.
    return iso.PID(rtol=tolerance, atol=tolerance, dt0=0.2 if order > 5 else None)


@cache
def loose_gradients(method: str, gradient: str, layout: str) -> Inputs:
    return gradients(LAYOUTS[layout], method=method, controller=loose(method), gradient=ALL_GRADIENTS[gradient])


@pytest.mark.parametrize(("method", "gradient", "layout"), covering(DEFAULTS, LAYOUTS))
def test_gradients_are_those_of_the_exact_solution(method: str, gradient: str, layout: str) -> None:
    controller, tolerance = TIGHT[method]
    found = gradients(LAYOUTS[layout], method=method, controller=controller, gradient=ALL_GRADIENTS[gradient])
    error, where = worst(found, exact(layout))
    assert error < tolerance, where


@pytest.mark.parametrize(
    ("method", "gradient", "layout"), covering([(m, g) for m, g in PAIRS if g in DISCRETE and g != "direct"], LAYOUTS)
)
def test_the_gradient_of_the_steps_is_direct_to_rounding(method: str, gradient: str, layout: str) -> None:
    direct = loose_gradients(method, "direct", layout)
    error, where = worst(loose_gradients(method, gradient, layout), direct)
    assert error < 1e-10, where


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("method", ANY_STATE)
def test_direct_is_the_gradient_of_the_discrete_solution(method: str, layout: str) -> None:
    case, eps = LAYOUTS[layout], 1e-5
    settings = {"method": method, "controller": iso.FixedStep(1 / 11)}
    found = gradients(case, gradient=iso.DirectAdjoint(), **settings)
    # The grid hangs on the start time, so all that follows would move with it: that one is for the test above.
    direction = {key: draw(*x.shape, seed=20 + i) for i, (key, x) in enumerate(found.items())}
    direction["ts"][0] = 0.0

    def loss(distance: float) -> torch.Tensor:
        p = {key: x.detach() + distance * direction[key] for key, x in leaves_of(case).items()}
        return (case.weights() * states(case, p, **settings)).sum()

    expected = (loss(eps) - loss(-eps)) / (2 * eps)
    actual = sum((found[key] * direction[key]).sum() for key in found)
    assert abs(actual - expected) < 1e-7 * abs(expected)


@pytest.mark.parametrize(("method", "gradient"), in_turn(DEFAULTS))
def test_gradients_of_samples_are_those_of_each_alone(method: str, gradient: str) -> None:
    case = LAYOUTS["own-times"]
    settings = {"method": method, "controller": loose(method), "gradient": ONE_BLOCK[gradient]}
    together = gradients(case, **settings)
    total = {key: torch.zeros_like(x) for key, x in together.items()}
    for lane in range(3):
        p = leaves_of(case)
        alone = {**p, "y0": p["y0"][lane : lane + 1], "ts": p["ts"][:, lane]}
        loss = (case.weights()[:, lane : lane + 1] * states(case, alone, **settings)).sum()
        for key, x in zip(p, torch.autograd.grad(loss, list(p.values())), strict=True):
            total[key] += x
    error, where = worst(together, total)
    assert error < 1e-9, where
