"""Table 1: what is measured beside the trainings, and trainings in several processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from isocline.experiments.section3.augmentation import moved, shifts
from isocline.experiments.section3.comparison import Row
from isocline.experiments.section3.growth import Cost, line, measured
from isocline.experiments.section3.table1 import Table1Results

# Argument: the run folder. At a tight tolerance, for each process chooses steps for its own images.
_DRIVER = """
import sys
from pathlib import Path
import torch
from isocline.data import digits
from isocline.experiments.processes import launched
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.section3.comparison import compare
from isocline.experiments.section3.training import TrainConfig
torch.set_num_threads(1)
config = TrainConfig(channels=4, epochs=2, batch_size=32, limit=64, learning_rate=3e-4, shift=1, rtol=1e-5, atol=1e-5)
fabric = launched()
path = Path(sys.argv[1])
if fabric.is_global_zero:
    RunFolder.create(path, {})
fabric.barrier()
compare(("resnet", "rknet"), (0,), config, digits(), RunFolder.open(path), fabric)
"""


def test_two_processes_have_the_losses_of_one(tmp_path: Path) -> None:
    driver = tmp_path / "driver.py"
    driver.write_text(_DRIVER)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    losses = {}
    for name, command in {"one": [sys.executable], "two": torchrun}.items():
        out = tmp_path / name
        done = subprocess.run(
            [*command, str(driver), str(out)], env=environment, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        losses[name] = {(r["model"], r["epoch"]): r["loss"] for r in records}
        assert len(records) == 4
    assert losses["one"].keys() == losses["two"].keys()
    for key, loss in losses["one"].items():
        assert losses["two"][key] == pytest.approx(loss, abs=1e-4), key


def test_images_move_by_whole_pixels_and_leave_nothing_behind() -> None:
    images = torch.arange(1.0, 26.0).reshape(1, 1, 5, 5).repeat(3, 1, 1, 1)
    down, left, both = moved(images, torch.tensor([[1, 0], [0, -2], [2, 1]]))
    assert_close(down[0, 1:], images[0, 0, :-1])
    assert (down[0, 0] == 0).all()
    assert_close(left[0, :, :-2], images[0, 0, :, 2:])
    assert (left[0, :, -2:] == 0).all()
    assert_close(both[0, 2:, 1:], images[0, 0, :-2, :-1])
    assert both[0].count_nonzero() == 12


def test_all_moves_up_to_the_largest_are_drawn() -> None:
    by = shifts(500, 2, torch.Generator().manual_seed(0))
    assert {tuple(move) for move in by.tolist()} == {(i, j) for i in range(-2, 3) for j in range(-2, 3)}
    assert not shifts(500, 0, torch.Generator().manual_seed(0)).any()


def test_memory_grows_with_blocks_and_evaluations_but_not_for_the_ode_net() -> None:
    costs = measured((1, 4), (2, 4), channels=64, batch=4, repeats=1)
    assert [(cost.model, cost.size) for cost in costs[:2]] == [("resnet", 1), ("resnet", 4)]
    memory = {
        model: [cost.megabytes for cost in costs if cost.model == model] for model in ("resnet", "rknet", "odenet")
    }
    assert memory["resnet"][1] > 2 * memory["resnet"][0]
    assert memory["rknet"][1] > 1.5 * memory["rknet"][0]
    assert memory["odenet"][1] < 1.05 * memory["odenet"][0]
    assert all(cost.seconds > 0 for cost in costs)


def test_the_line_is_that_of_least_squares() -> None:
    fit = line([(1, 3.0), (2, 5.0), (4, 9.0)])
    assert (fit.start, fit.slope, fit.flatness) == pytest.approx((1.0, 2.0, 2.0))


def _results(**errors: float) -> Table1Results:
    rows = tuple(
        Row(model, (error, error + 0.02), 200_000, None, None, 1.0, 1.0)  # type: ignore[arg-type]
        for model, error in errors.items()
    )
    costs = [("resnet", n, 1.0 + n) for n in (1, 2, 4)] + [("rknet", n, 2.0 * n) for n in (6, 12)]
    costs += [("odenet", n, 5.0) for n in (6, 12)]
    return Table1Results(rows, tuple(Cost(*cost, 1.0) for cost in costs))  # type: ignore[arg-type]


def test_findings_say_what_is_reached() -> None:
    findings = _results(resnet=0.39, rknet=0.50, odenet=0.60, stem=1.0).findings()
    assert [finding.holds for finding in findings] == ["yes", "in part", "no", "yes"]
    assert "0.40 ± 0.01 % over 2 seeds" in findings[0].found
    figure = _results(resnet=0.40).plot()
    assert all(axes.get_ylabel() and len(axes.lines) == 3 for axes in figure.axes)
