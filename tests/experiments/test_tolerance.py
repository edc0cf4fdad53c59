from itertools import pairwise

import pytest
import torch

from isocline.data import digits
from isocline.experiments.reproduction import drawn
from isocline.experiments.section3.classifiers import Classifier, build_classifier
from isocline.experiments.section3.demo_figure import demo_figure
from isocline.experiments.section3.tolerance import ADAPTIVE, FIXED, STEP_COUNTS, TOLERANCES, Point, sweep

STAGES = {"euler": 1, "rk4": 4}


@pytest.fixture(scope="module")
def model() -> Classifier:
    return build_classifier("odenet", 4, 8, rtol=1e-2, atol=1e-2)


@pytest.fixture(scope="module")
def points(model: Classifier) -> list[Point]:
    data = digits().first(20)
    return sweep(model, data.test_x, data.test_y)


def test_every_way_to_solve_is_there_once(points: list[Point]) -> None:
    expected = {(m, tolerance, None) for m in ADAPTIVE for tolerance in TOLERANCES}
    expected |= {(m, None, steps) for m in FIXED for steps in STEP_COUNTS}
    assert {(p.method, p.tolerance, p.steps) for p in points} == expected
    assert len(points) == len(expected)


@pytest.mark.parametrize("method", ADAPTIVE)
def test_a_tighter_tolerance_costs_more_and_is_more_precise(points: list[Point], method: str) -> None:
    chosen = sorted((p for p in points if p.method == method), key=lambda p: -(p.tolerance or 0))
    assert all(tight.nfe >= loose.nfe for loose, tight in pairwise(chosen))
    assert chosen[-1].nfe > 2 * chosen[0].nfe
    assert chosen[-1].deviation < 0.01 * chosen[0].deviation


@pytest.mark.parametrize("method", FIXED)
def test_fixed_steps_cost_their_stages_and_more_of_them_are_more_precise(points: list[Point], method: str) -> None:
    chosen = [p for p in points if p.method == method]
    assert [p.nfe for p in chosen] == [STAGES[method] * steps for steps in STEP_COUNTS]
    assert chosen[-1].deviation < 0.5 * chosen[0].deviation


def test_the_model_is_left_as_it_was(model: Classifier, points: list[Point]) -> None:
    assert (model.body.method, model.body.rtol, model.body.atol) == ("tsit5", 1e-2, 1e-2)
    assert model.body.controller is None


def test_the_test_error_is_that_of_the_labels_given(model: Classifier) -> None:
    images = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        labels = model(images).argmax(1)
    labels[0] = (labels[0] + 1) % 10
    near = [p for p in sweep(model, images, labels) if p.tolerance is not None and p.tolerance <= 1e-2]
    assert {p.test_error for p in near} == {12.5}


def test_the_figure_is_a_png_of_the_size_of_a_page(points: list[Point]) -> None:
    content = drawn(demo_figure(points, 1e-2), "png")
    assert content.startswith(b"\x89PNG\r\n")
    width, height = (int.from_bytes(content[start : start + 4], "big") for start in (16, 20))
    assert (width, height) == (1430, 1105)
