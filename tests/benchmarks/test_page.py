"""The page, from results made by hand."""

from typing import Any

import pytest
from benchmarks.peers.page import milliseconds, render
from benchmarks.peers.ratios import overhead, ratio_to_default, ratio_to_same_kind
from benchmarks.peers.results import load
from benchmarks.peers.run import FILES, FOLDER, PAGE

RUN = {
    "command": "python -m benchmarks.peers",
    "date": "2026-01-02 03:04 UTC",
    "versions": {"python": "3.11.7", "torch": "2.13.0"},
    "machine": "a processor",
    "cores": 2,
    "threads": 1,
}
CASE = {
    "what": "a problem",
    "rtol": 1e-5,
    "atol": 1e-6,
    "bound": 1e-3,
    "gradient_bound": None,
    "reference_disagreement": 2e-9,
}


def entry(median: float, run: str = "1", **counts: Any) -> dict[str, Any]:
    times = {"status": "ok", "median": median, "quartiles": [0.9 * median, 1.1 * median], "first_call": 4.0, "run": run}
    return {**counts, "together": times}


def results(contenders: dict[str, Any]) -> dict[str, Any]:
    return {"runs": {"1": RUN}, "cases": {"mlp-1x2x3": {**CASE, "contenders": contenders}}}


def line(page: str, start: str) -> list[str]:
    """Return the cells of the first table line that starts so."""
    found = next(row for row in page.splitlines() if row.startswith(f"| {start} |"))
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_times_ratios_and_counts() -> None:
    contenders = {
        "isocline:eager": entry(0.004, error=2e-6, evaluations=50),
        "isocline:compiled": entry(0.002, error=2e-6, evaluations=50),
        "torchdiffeq": entry(0.008, error=3e-6, evaluations=44),
        "scipy": {"error": 0.5, "together": {"status": "wrong", "run": "1"}},
        "diffrax": {"together": {"status": "not installed", "run": "1"}},
    }
    page = render({"cpu": results(contenders)})
    assert line(page, "torchdiffeq")[:5] == ["torchdiffeq", "8", "7.2 to 8.8", "0.50", "0.25"]
    assert line(page, "torchdiffeq")[-1] == "4.00"
    assert line(page, "scipy")[:5] == ["scipy", "wrong", "–", "–", "–"]
    assert line(page, "diffrax")[1] == "not installed"
    assert line(page, "`mlp-1x2x3`") == ["`mlp-1x2x3`", "0.50 / 0.25", "– / –", "– / –", "– / –"]
    assert "| torchdiffeq | 3.0e-06 | 44 |" in page
    assert "A problem. rtol 1e-05, atol 1e-06. Right is an error up to 0.001." in page
    assert "SciPy's DOP853 differs from the reference by 2e-09." in page
    assert (
        "1. `python -m benchmarks.peers`, 2026-01-02 03:04 UTC, a processor, 2 cores, threads: 1; python 3.11.7" in page
    )


def test_ratios_are_of_one_run() -> None:
    contenders = {"isocline:eager": entry(0.004, run="1"), "torchdiffeq": entry(0.008, run="2")}
    assert ratio_to_same_kind(contenders, "torchdiffeq", "eager", "together") == "–"


def test_gradients_are_compared_by_kind_and_summed_up_by_default() -> None:
    contenders = {
        "isocline:direct:eager": entry(1.0),
        "isocline:checkpoint:eager": entry(3.0),
        "torchode:direct:eager": entry(4.0),
        "torchode:direct:compiled": entry(2.0),
        "diffrax:checkpoint": entry(0.5),
    }
    assert ratio_to_same_kind(contenders, "diffrax:checkpoint", "eager", "together") == "6.00"
    assert ratio_to_default(contenders, "diffrax", "eager", "together") == "2.00"
    assert ratio_to_default(contenders, "torchode", "eager", "together") == "0.50"
    assert ratio_to_default(contenders, "torchode", "compiled", "together") == "–"


def test_overhead_is_time_per_evaluation() -> None:
    contenders = {"isocline:eager": entry(1.2, evaluations=10), "bare:eager": entry(2.0, evaluations=20)}
    assert overhead(contenders, "eager", "together") == "1.20"
    assert overhead(contenders, "compiled", "together") == "–"
    assert "| eager | 1.20 | – |" in render({"cpu": results(contenders)})


def test_rows_of_samples_with_their_own_steps() -> None:
    page = render({"cpu": results({"isocline:eager": entry(1.0, rows=400, rows_alone=300)})})
    assert "Rows, were every sample solved alone: 300." in page
    assert "| isocline:eager | 400 |" in page


@pytest.mark.parametrize(("seconds", "shown"), [(1.23456, "1235"), (0.0123456, "12.3"), (0.00001, "0.01")])
def test_times_have_three_digits(seconds: float, shown: str) -> None:
    assert milliseconds(seconds) == shown


def test_page_is_made_from_the_results() -> None:
    files = {device: FOLDER / name for device, name in FILES.items() if (FOLDER / name).exists()}
    if not files:
        pytest.skip("nothing was measured yet")
    assert PAGE.read_text() == render({device: load(file) for device, file in files.items()})


def test_scaling_is_time_per_step_and_per_row() -> None:
    cases = {
        name: {**CASE, "contenders": {"isocline:eager": entry(median, **counts), "scipy": entry(1.0)}}
        for name, median, counts in (
            ("saves-10", 0.004, {"steps": 10}),
            ("saves-1000", 0.006, {"steps": 12}),
            ("lorenz-1", 0.002, {"rows": 100}),
        )
    }
    page = render({"cpu": {"runs": {"1": RUN}, "cases": cases}})
    assert "| contender | `saves-10` | `saves-1000` |\n| --- | --- | --- |\n| isocline:eager | 400 | 500 |\n\n" in page
    assert "| contender | `lorenz-1` |\n| --- | --- |\n| isocline:eager | 2e+04 |\n\n" in page
