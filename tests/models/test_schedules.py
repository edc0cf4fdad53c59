"""Tolerances and step sizes that change in the course of training."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import isocline as iso


def decay(t: Tensor, y: Tensor) -> Tensor:
    return -y


def test_tolerances_go_by_equal_factors_and_stay() -> None:
    layer = iso.NeuralODE(decay)
    schedule = iso.ToleranceSchedule(layer, 1e-1, 1e-4, steps=3)
    seen = [(layer.rtol, layer.atol)]
    for _ in range(4):
        schedule.step()
        seen.append((layer.rtol, layer.atol))
    assert all(rtol == atol for rtol, atol in seen)
    assert [rtol for rtol, _ in seen] == pytest.approx([1e-1, 1e-2, 1e-3, 1e-4, 1e-4])
    assert layer.rtol == 1e-4


def test_solves_get_more_accurate() -> None:
    layer = iso.NeuralODE(decay)
    schedule = iso.ToleranceSchedule(layer, 1e-2, 1e-8, steps=1)
    y0 = torch.ones(1, dtype=torch.float64)
    errors = []
    for _ in range(2):
        errors.append((layer(y0) - y0 * torch.exp(-y0)).abs().item())
        schedule.step()
    assert errors[1] < 1e-7 < 1e-5 < errors[0]


def test_a_controller_keeps_its_other_settings() -> None:
    layer = iso.NeuralODE(decay, controller=iso.PID(rtol=1.0, pcoeff=0.4, icoeff=0.3))
    iso.ToleranceSchedule(layer, 1e-3, 1e-4, steps=5)
    assert layer.controller == iso.PID(rtol=1e-3, atol=1e-3, pcoeff=0.4, icoeff=0.3)
    assert (layer.rtol, layer.atol) == (None, None)


def test_fixed_steps() -> None:
    layer = iso.NeuralODE(decay, (0.0, 1.0), method="rk4")
    schedule = iso.StepSchedule(layer, 0.5, 0.125, steps=2)
    steps = []
    for _ in range(3):
        layer(torch.ones(1))
        steps.append(int(layer.stats.steps))
        schedule.step()
    assert steps == [2, 4, 8]


def test_all_layers_of_a_model_are_set() -> None:
    model = nn.Sequential(iso.NeuralODE(decay), nn.Linear(2, 2), iso.AugmentedNeuralODE(decay, channels=1))
    iso.ToleranceSchedule(model, 1e-2, 1e-3, steps=2).step()
    assert model[0].rtol == model[2].ode.rtol == pytest.approx(10**-2.5)


@pytest.mark.parametrize(
    "make",
    [
        lambda layer: iso.ToleranceSchedule(layer, 1e-1, 1e-5, steps=7),
        lambda layer: iso.StepSchedule(layer, 0.5, 0.01, steps=7),
    ],
)
def test_it_goes_on_from_a_checkpoint(make: Callable[[iso.NeuralODE], iso.ToleranceSchedule]) -> None:
    one, other = iso.NeuralODE(decay), iso.NeuralODE(decay)
    schedule = make(one)
    for _ in range(4):
        schedule.step()
    resumed = make(other)
    assert (other.rtol, other.controller) != (one.rtol, one.controller)
    resumed.load_state_dict(schedule.state_dict())
    assert (other.rtol, other.controller) == (one.rtol, one.controller)
    for each in (schedule, resumed):
        each.step()
    assert (other.rtol, other.controller) == (one.rtol, one.controller)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: iso.ToleranceSchedule(nn.Linear(1, 1), 1e-2, 1e-3, steps=1), "no NeuralODE or CNF in the Linear"),
        (lambda: iso.ToleranceSchedule(iso.NeuralODE(decay), 0.0, 1e-3, steps=1), "not both 0"),
        (lambda: iso.ToleranceSchedule(iso.NeuralODE(decay), 1e-2, 1e-3, steps=0), "steps must be"),
        (lambda: iso.StepSchedule(iso.NeuralODE(decay), 0.1, -0.1, steps=1), "positive finite dt"),
        (lambda: iso.StepSchedule(iso.NeuralODE(decay, rtol=1e-3), 0.1, 0.01, steps=1), "leave out the layer's rtol"),
        (
            lambda: iso.ToleranceSchedule(iso.NeuralODE(decay, controller=iso.FixedStep(0.1)), 1e-2, 1e-3, steps=1),
            "has no tolerances; use StepSchedule",
        ),
    ],
)
def test_what_cannot_work_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
