import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from isocline.experiments.run_folder import RunFolder, RunFolderError


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", {"seed": 3})


class _Malicious:
    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("executed",)


def test_a_run_opens_as_it_was_created(run: RunFolder) -> None:
    assert RunFolder.open(run.path).config == {"seed": 3}
    versions = json.loads((run.path / "versions.json").read_text())
    assert versions["torch"] == torch.__version__
    assert set(versions) == {"command", "python", "torch", "isocline", "platform", "threads"}


def test_a_run_says_which_command_made_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["somewhere/isocline", "reproduce", "table2", "--out", "two words"])
    run = RunFolder.create(tmp_path / "run", {})
    versions = json.loads((run.path / "versions.json").read_text())
    assert versions["command"] == "isocline reproduce table2 --out 'two words'"


def test_a_run_is_never_overwritten(run: RunFolder) -> None:
    with pytest.raises(RunFolderError, match=r"already holds a run.*--resume"):
        RunFolder.create(run.path, {"seed": 4})
    assert RunFolder.open(run.path).config == {"seed": 3}


def test_a_file_is_no_place_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunFolderError, match="cannot be made a run folder"):
        RunFolder.create(tmp_path / "file", {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "expected a run's configuration, found none"),
        (b'{"seed": ', "expected JSON, found a damaged file"),
        (b"\xff\xfe", "expected JSON, found a damaged file"),
        (b"[1]", "expected a JSON object, found list"),
    ],
)
def test_a_damaged_config_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(RunFolderError, match=f"config.json: {message}"):
        RunFolder.open(tmp_path)


def test_a_checkpoint_comes_back(run: RunFolder) -> None:
    assert run.load_checkpoint("model") is None
    weights = torch.randn(3, 4)
    run.save_checkpoint("model", {"weights": weights, "epoch": 2})
    state = run.load_checkpoint("model")
    assert state is not None
    assert torch.equal(state["weights"], weights)
    assert state["epoch"] == 2


def _flip_a_weight(raw: bytes) -> bytes:
    middle = raw.index(torch.ones(8).numpy().tobytes()) + 1000
    return raw[:middle] + bytes([raw[middle] ^ 1]) + raw[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [lambda raw: b"", lambda raw: raw[:100], lambda raw: raw[:-1], lambda raw: b"text", _flip_a_weight],
)
def test_a_damaged_checkpoint_is_named(run: RunFolder, damage: Callable[[bytes], bytes]) -> None:
    run.save_checkpoint("model", {"weights": torch.ones(1000)})
    path = run.path / "model.pt"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RunFolderError, match=r"model\.pt: expected a checkpoint, found a damaged file"):
        run.load_checkpoint("model")


def test_code_in_a_checkpoint_does_not_run(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.path)
    torch.save({"weights": _Malicious()}, run.path / "model.pt")
    with pytest.raises(RunFolderError):
        run.load_checkpoint("model")
    assert not (run.path / "executed").exists()


def test_something_else_than_a_checkpoint_is_named(run: RunFolder) -> None:
    torch.save([1, 2], run.path / "model.pt")
    with pytest.raises(RunFolderError, match="found a list"):
        run.load_checkpoint("model")


def test_a_failed_write_leaves_the_old_file(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    run.write_json("results.json", [1])

    def fail(*args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        run.write_json("results.json", [2])
    assert json.loads((run.path / "results.json").read_text()) == [1]


def test_metrics_survive_a_half_written_line(run: RunFolder) -> None:
    assert run.metrics() == []
    records = [{"model": "a", "epoch": epoch} for epoch in (1, 2, 3)]
    for record in records:
        run.append_metrics(record)
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"model": "a", "epo')
    assert run.metrics() == records
    run.keep_metrics(lambda record: record["epoch"] <= 2)
    run.append_metrics({"model": "a", "epoch": 3})
    assert run.metrics() == records


def test_a_damaged_line_in_the_middle_is_an_error(run: RunFolder) -> None:
    (run.path / "metrics.jsonl").write_text('{"epoch": 1}\n{"epo\n{"epoch": 3}\n')
    with pytest.raises(RunFolderError, match=r"metrics.jsonl.*damaged"):
        run.metrics()
