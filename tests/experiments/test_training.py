"""The tests of a kill run the training in a process of its own, and kill that with SIGKILL."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from isocline.data import digits
from isocline.experiments.processes import launched
from isocline.experiments.run_folder import RunFolder, RunFolderError
from isocline.experiments.section3.classifiers import build_classifier
from isocline.experiments.section3.training import TrainConfig, Training, error_rate

CONFIG = TrainConfig(channels=4, epochs=3, batch_size=32, limit=80, shift=1, rtol=1e-1, atol=1e-1, device="cpu")
MODEL = "odenet"

# Arguments: the run folder, the call of WHERE at which the process kills itself, and WHERE.
_DRIVER = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[4])
import test_training
from isocline.experiments.run_folder import RunFolder
path, at, where = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
owner = {"replace": os, "append_metrics": RunFolder, "save_checkpoint": RunFolder}[where]
original, calls = getattr(owner, where), 0
def killing(*args):
    global calls
    calls += 1
    if calls == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args)
setattr(owner, where, killing)
test_training.train(path)
"""


def train(path: Path, config: TrainConfig = CONFIG) -> RunFolder:
    torch.set_num_threads(1)
    folder = RunFolder.open(path) if (path / "config.json").exists() else RunFolder.create(path, {})
    model = build_classifier(MODEL, config.channels, 8, config.rtol, config.atol, config.seed)
    Training(MODEL, model, digits().first(config.limit or 80), config, launched()).run(folder)
    return folder


def _without_seconds(folder: RunFolder) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.items() if key != "seconds"} for record in folder.metrics()]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return train(tmp_path_factory.mktemp("training") / "whole")


@pytest.mark.parametrize(
    ("where", "at", "epochs_kept"),
    [
        # the epoch is trained, nothing of it is written
        pytest.param("append_metrics", 2, 1, marks=pytest.mark.long),
        ("save_checkpoint", 2, 1),  # its metrics are written, its checkpoint is not
        ("replace", 5, 1),  # its checkpoint is written, but not yet in its place
    ],
)
def test_a_killed_run_resumes_to_the_same_numbers(
    uninterrupted: RunFolder, tmp_path: Path, where: str, at: int, epochs_kept: int
) -> None:
    path = tmp_path / "killed"
    command = [sys.executable, "-c", _DRIVER, str(path), str(at), where, str(Path(__file__).parent)]
    killed = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL
    state = RunFolder.open(path).load_checkpoint(MODEL)
    assert state is not None
    assert state["epoch"] == epochs_kept

    resumed = train(path)
    assert _without_seconds(resumed) == _without_seconds(uninterrupted)
    one, other = (run.load_checkpoint(MODEL) for run in (resumed, uninterrupted))
    assert one is not None
    assert other is not None
    torch.testing.assert_close(one["model"], other["model"], rtol=0, atol=0)


_TRAINED = """
import sys
sys.path.insert(0, sys.argv[2])
import test_training
test_training.digits()
print(flush=True)
test_training.train_long(sys.argv[1])
"""


def train_long(path: str | Path) -> RunFolder:
    """Train for longer than fifty processes take that are killed within 0.4 seconds."""
    return train(Path(path), replace(CONFIG, epochs=500, limit=32))


@pytest.mark.long
def test_fifty_kills_at_random_moments_lose_nothing(tmp_path: Path) -> None:
    path, moments, kept = tmp_path / "killed", random.Random(0), 0
    for _ in range(50):
        command = [sys.executable, "-c", _TRAINED, str(path), str(Path(__file__).parent)]
        with subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE) as training:
            assert training.stdout is not None
            training.stdout.readline()
            time.sleep(moments.uniform(0.0, 0.4))
            training.kill()
        assert training.returncode == -signal.SIGKILL  # it had not come to its end
        if (path / "config.json").exists():
            folder = RunFolder.open(path)
            epochs = (folder.load_checkpoint(MODEL) or {"epoch": 0})["epoch"]
            assert kept <= epochs <= len(folder.metrics())
            kept = epochs
    assert kept > 10
    resumed, whole = train_long(path), train_long(tmp_path / "whole")
    assert _without_seconds(resumed) == _without_seconds(whole)


def test_metrics_hold_what_they_should(uninterrupted: RunFolder) -> None:
    records = uninterrupted.metrics()
    assert [record["epoch"] for record in records] == [1, 2, 3]
    for record in records:
        assert record["model"] == MODEL
        assert 0 < record["loss"] < 5
        assert 0 <= record["test_error"] <= 1
        assert record["nfe_forward"] > 0
        assert record["nfe_backward"] > 0
    seconds = [record["seconds"] for record in records]
    assert 0 < seconds[0] < seconds[1] < seconds[2]


def test_a_finished_run_is_not_trained_again(uninterrupted: RunFolder) -> None:
    before = (uninterrupted.path / "odenet.pt").read_bytes(), uninterrupted.metrics()
    train(uninterrupted.path)
    assert ((uninterrupted.path / "odenet.pt").read_bytes(), uninterrupted.metrics()) == before


def test_a_checkpoint_of_other_settings_is_refused(uninterrupted: RunFolder) -> None:
    with pytest.raises(RunFolderError, match="does not fit"):
        train(uninterrupted.path, TrainConfig(channels=8, epochs=3, limit=80))


def test_training_learns(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    data = digits().first(200)
    model = build_classifier("resnet", 16, 8)
    before = error_rate(model, data.train_x, data.train_y)
    config = TrainConfig(epochs=20, batch_size=32, learning_rate=1e-2)
    Training("resnet", model, data, config, launched()).run(RunFolder.create(tmp_path, {}))
    assert error_rate(model, data.train_x, data.train_y) < 0.3 < 0.7 < before


def test_error_rate_counts_over_several_batches() -> None:
    model = build_classifier("resnet", 4, 8)
    images = torch.rand(1003, 1, 8, 8)
    labels = model(images).argmax(1)
    labels[-7:] = (labels[-7:] + 1) % 10
    assert error_rate(model, images, labels) == pytest.approx(7 / 1003)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs must be positive, not 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive"),
        ({"channels": 5}, "channels must be even"),
        ({"shift": -1}, "shift must not be negative"),
        ({"limit": 0}, "limit must be positive"),
        ({"threads": -1}, "threads must be positive"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)


def test_the_resumed_process_needs_no_state_but_the_folder(uninterrupted: RunFolder) -> None:
    # Every line is JSON of plain numbers: another program can read it.
    lines = (uninterrupted.path / "metrics.jsonl").read_text().splitlines()
    assert [set(json.loads(line)) for line in lines] == 3 * [
        {"model", "epoch", "loss", "nfe_forward", "nfe_backward", "seconds", "test_error"}
    ]


def test_a_penalty_is_part_of_what_is_minimised(tmp_path: Path) -> None:
    """With a large weight the ODE hardly moves the state."""
    torch.set_num_threads(1)
    data, energies = digits().first(64), []
    for weight in (0.0, 10.0):
        config = TrainConfig(channels=4, epochs=15, batch_size=16, learning_rate=3e-2, kinetic=weight)
        model = build_classifier("odenet-kinetic", 4, 8, 5e-1, 5e-1)
        Training("net", model, data, config, launched()).run(RunFolder.create(tmp_path / str(weight), {}))
        model(data.test_x)
        energies.append(model.body.energy.item())
    assert energies[1] < 0.5 * energies[0]


def test_scalars_for_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = train(tmp_path / "run", replace(CONFIG, tensorboard=True))
    events = EventAccumulator(str(folder.path / "tensorboard" / MODEL)).Reload()
    losses = [(event.step, event.value) for event in events.Scalars("loss")]
    assert losses == [(r["epoch"], pytest.approx(r["loss"])) for r in folder.metrics()]
