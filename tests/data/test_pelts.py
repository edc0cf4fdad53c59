"""Pelts of lynx and hare, from files that may be missing or damaged."""

import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pooch
import pytest
import torch

from isocline.data import DataError, lynx_hare, pelts

CONTENT = json.dumps({"N": 2, "ts": [1, 2], "y_init": [30, 4], "y": [[47.2, 6.1], [70.2, 9.8]]}).encode()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a small file taken for the original, by size and hash."""
    monkeypatch.setattr(pelts, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(pelts, "SIZE", len(CONTENT))
    monkeypatch.delenv("ISOCLINE_DATA", raising=False)


def _write(folder: Path, packed: bool) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / (pelts.NAME + ".zip" * packed)
    if packed:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(pelts.NAME, CONTENT)
    else:
        path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("subfolder", ["", "hudson_lynx_hare"])
def test_reads_json_and_zip_in_the_folder_or_its_subfolder(tmp_path: Path, packed: bool, subfolder: str) -> None:
    _write(tmp_path / subfolder, packed)
    series = lynx_hare(tmp_path)
    assert series.ts.flatten().tolist() == [0.0, 1.0, 2.0]
    assert series.values[:, 0].tolist() == [[30.0, 4.0], [47.2, 6.1], [70.2, 9.8]]
    assert series.values.dtype == torch.float64
    assert series.channels == ("hare", "lynx")


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path, True)
    monkeypatch.setenv("ISOCLINE_DATA", str(tmp_path))
    assert len(lynx_hare().ts) == 3


@pytest.mark.parametrize(
    ("packed", "damage", "message"),
    [
        (False, lambda raw: raw[:-3], "found 71 of [0-9a-f]{64}"),
        (False, lambda raw: raw.replace(b"47.2", b"47.3"), "expected 74 bytes of SHA-256 [0-9a-f]{64}"),
        (True, lambda raw: raw[:50], "expected a zip of hudson_lynx_hare.json, found a damaged one"),
        (True, lambda raw: raw.replace(b"47.2", b"47.3"), "found a damaged one"),
        (True, lambda raw: b"no zip at all", "found a damaged one"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, packed: bool, damage: Callable[[bytes], bytes], message: str) -> None:
    path = _write(tmp_path, packed)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"{path}: .*{message}"):
        lynx_hare(tmp_path)


def test_a_missing_file_says_where_it_was_sought_and_how_to_give_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"neither in {tmp_path} nor in {tmp_path}/hudson_lynx_hare; .*ISOCLINE_DATA"):
        lynx_hare(tmp_path)


def test_without_a_folder_the_source_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def retrieve(url: str, known_hash: None, fname: str, path: Path) -> str:
        asked.append(url)
        return str(_write(tmp_path, True))

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert len(lynx_hare().ts) == 3
    assert asked == [f"{pelts.SOURCE}{pelts.NAME}.zip"]


def test_a_failed_download_is_a_data_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def retrieve(*args: object) -> str:
        raise ConnectionError("no route")

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(DataError, match=r"could not be downloaded.*no route.*--data-dir"):
        lynx_hare()


def test_the_real_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    if "ISOCLINE_DATA" not in os.environ:
        pytest.skip("ISOCLINE_DATA names no folder with the pelts")
    series = lynx_hare()
    assert series.values.shape == (21, 1, 2)
    assert series.values[-1, 0].tolist() == [24.7, 8.6]
