"""Timing in turns, and what becomes of contenders that are wrong, fail or are missing."""

from typing import Any

import numpy as np
import pytest
from benchmarks.peers.case import Case
from benchmarks.peers.cases import make_case
from benchmarks.peers.contender import Answer, Contender, Job
from benchmarks.peers.measure import Settings, alone, together
from benchmarks.peers.timing import in_turns, repeats_for, summary
from benchmarks.peers.truth import truth_of

QUICK = Settings(rounds=2, least=0.0)


def test_summary_of_samples() -> None:
    assert summary([4.0, 1.0, 3.0, 2.0, 5.0]) == {"median": 3.0, "quartiles": [2.0, 4.0], "rounds": 5}
    assert summary([2.0]) == {"median": 2.0, "quartiles": [2.0, 2.0], "rounds": 1}


def test_contenders_take_turns_and_the_first_changes() -> None:
    order: list[str] = []
    calls = {name: (lambda name=name: order.append(name)) for name in "abc"}
    times = in_turns(calls, rounds=3, least=0.0)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"  # before the rounds, one call each to see how long it takes
    assert {name: found["rounds"] for name, found in times.items()} == {"a": 3, "b": 3, "c": 3}


def test_no_contenders_take_no_time() -> None:
    assert in_turns({}, rounds=3, least=0.0) == {}


def test_short_calls_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.peers.timing.sample", lambda call, repeats: call())
    assert 20 <= repeats_for(lambda: 0.001, least=0.02) <= 30
    assert repeats_for(lambda: 1.0, least=0.02) == 1


def contender(name: str, answer: Any, package: str = "isocline") -> Contender:
    """A contender whose call does nothing."""

    def build(case: Case, device: str) -> Job:
        return Job(lambda: None, lambda _: answer(), lambda: {"evaluations": 7})

    return Contender(name, package, build)


def test_only_right_answers_have_times() -> None:
    case = make_case("mlp-3x2x8")
    truth = truth_of(case)

    def fail() -> Answer:
        raise RuntimeError("no\nmore")

    contenders = [
        contender("right", lambda: truth),
        contender("wrong", lambda: Answer(truth.states * (1 + 2 * case.bound))),
        contender("not finite", lambda: Answer(truth.states * np.nan)),
        contender("failing", fail),
        contender("missing", fail, package="no_such_package"),
    ]
    records = together(case, contenders, truth, QUICK)
    assert records["right"]["error"] == 0.0
    assert records["right"]["evaluations"] == 7
    assert records["right"]["timing"]["rounds"] == 2
    assert records["wrong"]["error"] == pytest.approx(2 * case.bound)
    assert records["wrong"]["timing"] == {"status": "wrong"}
    assert records["not finite"]["timing"] == {"status": "wrong"}
    assert records["failing"] == {"timing": {"status": "failed", "message": "RuntimeError: no"}}
    assert records["missing"] == {"timing": {"status": "not installed"}}


def test_a_wrong_gradient_is_wrong() -> None:
    case = make_case("mlp-3x2x8-grad")
    truth = truth_of(case)
    assert truth.gradient is not None
    wrong = Answer(truth.states, truth.gradient * (1 + 2 * case.gradient_bound))
    record = together(case, [contender("wrong", lambda: wrong)], truth, QUICK)["wrong"]
    assert record["error"] == 0.0
    assert record["timing"] == {"status": "wrong"}


@pytest.mark.filterwarnings("ignore")
def test_alone_is_another_process_with_the_same_answer() -> None:
    from benchmarks.peers.contenders import contender_called

    case = make_case("mlp-3x2x8")
    record = alone(case, [contender_called("isocline:eager")], truth_of(case), QUICK)["isocline:eager"]
    assert record["error"] < case.bound
    assert record["timing"]["rounds"] == 2
