"""Sequences of events, from files that may be damaged, and made here."""

from collections.abc import Callable
from math import exp
from pathlib import Path

import numpy as np
import pytest
import torch

from isocline.data import DataError
from isocline.data.events import earthquakes, hawkes, triangular

TIMES = np.array([0.5, 2.0, 9.0, 1.0, 3.0, 4.0, 5.0, 6.0])
LENGTHS = np.array([3, 0, 1, 1, 3])


@pytest.fixture(autouse=True)
def _no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ISOCLINE_DATA", raising=False)


@pytest.mark.parametrize("subfolder", ["", "tpp_triangular"])
def test_a_set_is_split_whole(tmp_path: Path, subfolder: str) -> None:
    (tmp_path / subfolder).mkdir(exist_ok=True)
    np.savez(tmp_path / subfolder / "taxi.npz", times=TIMES, lengths=LENGTHS, t_max=10.0)
    events = triangular("taxi", tmp_path)
    assert (len(events.train), len(events.choose), len(events.test), events.until) == (3, 1, 1, 10.0)
    parts = (events.train, events.choose, events.test)
    assert sorted(int(n) for part in parts for n in part.lengths) == sorted(LENGTHS.tolist())
    assert sorted(t for part in parts for t in part.ts[part.rows].tolist()) == sorted(TIMES.tolist())


def test_earthquakes_are_their_days(tmp_path: Path) -> None:
    for name, day in (("train", 1.0), ("val", 2.0), ("test", 3.0)):
        np.savez(tmp_path / f"{name}.npz", events=np.array([[day, 140.0, 36.0], [day + 1, 141.0, 37.0]]), lengths=[2])
    events = earthquakes(tmp_path)
    assert [part.ts[:, 0].tolist() for part in (events.train, events.choose, events.test)] == [[1, 2], [2, 3], [3, 4]]
    assert events.until == 30.0


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "found a damaged one"),
        (lambda path: path.write_bytes(b"nothing"), "found a damaged one"),
        (lambda path: np.savez(path, times=TIMES, t_max=10.0), "with times, lengths, t_max, found a damaged one"),
        (lambda path: np.savez(path, times=TIMES, lengths=LENGTHS + 1, t_max=10.0), "expected 13 times by its lengths"),
        (
            lambda path: np.savez(path, times=TIMES, lengths=LENGTHS, t_max=8.0),
            "expected times from 0 to 8, found 0.5 to 9",
        ),
        (lambda path: np.savez(path, times=TIMES - 1, lengths=LENGTHS, t_max=8.0), "found -0.5 to 8"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    path = tmp_path / "taxi.npz"
    np.savez(path, times=TIMES, lengths=LENGTHS, t_max=10.0)
    damage(path)
    with pytest.raises(DataError, match=message):
        triangular("taxi", tmp_path)


def test_a_missing_file_says_how_to_give_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"taxi\.npz: expected one, found neither in .*ISOCLINE_DATA$"):
        triangular("taxi", tmp_path)
    with pytest.raises(DataError, match=r"taxi\.npz: cannot be downloaded in this form; give a folder"):
        triangular("taxi")


def test_a_hawkes_process_has_the_events_it_should() -> None:
    base, branching, decay, until = 0.5, 0.6, 2.0, 20.0
    events = hawkes(400, until, base=base, branching=branching, decay=decay, seed=1)
    # The mean rate m(t) solves m' = decay ((branching - 1) m + base), from m(0) = base.
    rest, k = base / (1 - branching), decay * (1 - branching)
    expected = rest * until + (base - rest) * (1 - exp(-k * until)) / k
    counts = events.lengths.double()
    assert abs(counts.mean() - expected) < 3 * counts.std() / len(counts) ** 0.5
    assert torch.equal(hawkes(3, 5.0, seed=2).ts, hawkes(3, 5.0, seed=2).ts)
