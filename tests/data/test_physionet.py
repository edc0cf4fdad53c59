"""Stays in intensive care, from a few made up in the format of the challenge."""

import gzip
import hashlib
import io
import lzma
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pooch
import pytest
import torch

from isocline.data import DataError, physionet, physionet2012
from isocline.data.physionet import CHANNELS, Part, stays_of

HEADER = "Time,Parameter,Value\n"
FIRST = f"""{HEADER}00:00,RecordID,7
00:00,Age,54
00:00,Gender,0
00:00,Height,-1
00:00,ICUType,4
00:00,Weight,80.5
00:07,HR,73
00:08,HR,75
01:37,pH,7.3
01:37,HR,60
48:00,Temp,-17.8
47:59,AST,1.2e+04
"""
EMPTY = HEADER + "00:00,RecordID,9\n00:00,Weight,-1\n"
STAYS = {"7": FIRST, "9": EMPTY}
OUTCOMES = "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death\n7,6,1,5,-1,1\n9,6,1,5,-1,0\n"


def test_readings_go_to_their_channels_at_rounded_times() -> None:
    stays = stays_of(STAYS, {"7": True, "9": False}, rounding=0.1)
    series = stays.series
    assert series.names == ("7", "9")
    assert series.channels == CHANNELS and len(CHANNELS) == 37
    assert series.ts[:, 0].tolist() == pytest.approx([0.0, 0.1, 1.6, 48.0])
    seen = {
        (round(series.ts[t, 0].item(), 1), CHANNELS[c]): series.values[t, 0, c].item() for t, c in _observed(series)
    }
    # 7 and 8 minutes are both 0.1 hours, so their readings are averaged; 1:37 is 1.6; below 0 is not known
    assert seen == {
        (0.0, "Weight"): 80.5,
        (0.1, "HR"): 74.0,
        (1.6, "pH"): pytest.approx(7.3),
        (1.6, "HR"): 60.0,
        (48.0, "AST"): 12000.0,
    }
    assert stays.died.tolist() == [True, False]


def _observed(series: object) -> list[tuple[int, int]]:
    return [(t, c) for t, b, c in series.observed.nonzero().tolist() if b == 0]  # type: ignore[attr-defined]


def test_descriptors_are_nan_where_not_known() -> None:
    stays = stays_of(STAYS, {"7": True, "9": False}, rounding=0.1)
    nan = torch.nan
    expected = torch.tensor([[54.0, 0.0, nan, 4.0], [nan] * 4])
    torch.testing.assert_close(stays.descriptors, expected, equal_nan=True)


def test_a_stay_without_readings_stays_in_the_batch() -> None:
    stays = stays_of({"9": EMPTY, "8": HEADER}, {"8": False, "9": False}, rounding=0.1)
    assert stays.series.lengths.tolist() == [0, 0]
    both = stays_of(STAYS, {"7": True, "9": False}, rounding=0.1)
    only = both.select(torch.tensor([1]))
    assert len(only) == 1 and only.series.names == ("9",) and not only.died[0]


def test_finer_rounding_keeps_times_apart() -> None:
    stays = stays_of(STAYS, {"7": True, "9": False}, rounding=1 / 60)
    assert stays.series.ts[:, 0].tolist() == pytest.approx([0.0, 7 / 60, 8 / 60, 97 / 60, 48 - 1 / 60])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("00:30,HR", "line 3: expected hh:mm,Parameter,Value up to 48:00, found '00:30,HR'"),
        ("00:30,HR,70,1", "line 3: expected hh:mm,Parameter,Value"),
        ("00:61,HR,70", "line 3: expected hh:mm,Parameter,Value"),
        ("48:01,HR,70", "line 3: expected hh:mm,Parameter,Value up to 48:00"),
        ("", "line 3: expected hh:mm,Parameter,Value up to 48:00, found ''"),
        ("00:30,Mood,3", "line 3: expected one of Weight, .*, RecordID, found 'Mood'"),
        ("00:30,HR,fast", "line 3: expected a number, found 'fast'"),
        ("00:30,HR,", "line 3: expected a number, found ''"),
    ],
)
def test_a_malformed_line_is_named(line: str, message: str) -> None:
    text = f"{HEADER}00:00,Age,54\n{line}\n01:00,HR,70\n"
    with pytest.raises(DataError, match=f"stay 7: {message}"):
        stays_of({"7": text}, {"7": False}, rounding=0.1)


def test_another_header_is_named() -> None:
    with pytest.raises(DataError, match="stay 7: expected the header Time,Parameter,Value, found 'Time;"):
        stays_of({"7": "Time;Parameter;Value\n"}, {"7": False}, rounding=0.1)


def _packed(stays: dict[str, str], form: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, text in reversed(stays.items()):
            info = tarfile.TarInfo(f"set-a/{name}.txt")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return {"xz": lzma.compress, "gz": gzip.compress}[form](content.getvalue())


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has one small part taken for the original, by its hashes."""
    monkeypatch.setattr(physionet, "PARTS", (Part("a", _hash(FIRST + EMPTY), _hash(OUTCOMES)),))
    monkeypatch.delenv("ISOCLINE_DATA", raising=False)


def _write(folder: Path, form: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "Outcomes-a.txt").write_text(OUTCOMES)
    path = folder / f"set-a.tar.{form}"
    path.write_bytes(_packed(STAYS, form))
    return path


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("form", ["xz", "gz"])
@pytest.mark.parametrize("subfolder", ["", "physionet2012"])
def test_reads_both_ways_of_packing(tmp_path: Path, form: str, subfolder: str) -> None:
    _write(tmp_path / subfolder, form)
    stays = physionet2012(tmp_path)
    assert stays.series.names == ("7", "9")
    assert stays.died.tolist() == [True, False]
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["Outcomes-a.txt", f"set-a.tar.{form}"]  # left alone


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: raw[: len(raw) // 2], "found a damaged one"),
        (lambda raw: b"no archive", "found a damaged one"),
        (lambda raw: _packed({**STAYS, "9": EMPTY + "01:00,HR,3\n"}, "gz"), "expected content of SHA-256 [0-9a-f]{64}"),
    ],
)
def test_a_damaged_archive_is_named(tmp_path: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    path = _write(tmp_path, "gz")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"{path}: .*{message}"):
        physionet2012(tmp_path)


@pytest.mark.usefixtures("small")
def test_altered_outcomes_are_named(tmp_path: Path) -> None:
    _write(tmp_path, "gz")
    (tmp_path / "Outcomes-a.txt").write_text(OUTCOMES.replace("-1,1", "-1,0"))
    with pytest.raises(DataError, match=r"Outcomes-a\.txt: expected content of SHA-256"):
        physionet2012(tmp_path)


def test_every_stay_needs_an_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shorter = OUTCOMES.replace("9,6,1,5,-1,0\n", "")
    monkeypatch.setattr(physionet, "PARTS", (Part("a", _hash(FIRST + EMPTY), _hash(shorter)),))
    _write(tmp_path, "gz")
    (tmp_path / "Outcomes-a.txt").write_text(shorter)
    with pytest.raises(DataError, match="stay 9: expected its readings and its outcome"):
        physionet2012(tmp_path)


@pytest.mark.usefixtures("small")
def test_without_a_folder_the_source_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path, "gz")
    asked = []

    def retrieve(url: str, known_hash: None, fname: str, path: Path) -> str:
        asked.append(url.removeprefix(physionet.SOURCE))
        return str(tmp_path / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert len(physionet2012()) == 2
    assert asked == ["set-a.tar.gz", "Outcomes-a.txt"]


def test_rounding_must_be_positive() -> None:
    with pytest.raises(ValueError, match="rounding must be positive, in hours, not 0"):
        physionet2012(rounding=0)


def test_the_real_files() -> None:
    if not os.environ.get("ISOCLINE_DATA"):
        pytest.skip("ISOCLINE_DATA names no folder with the stays")
    stays = physionet2012()
    assert len(stays) == 8000
    assert stays.died.sum() == 1122
    assert stays.series.observed.sum() == 3_449_865
