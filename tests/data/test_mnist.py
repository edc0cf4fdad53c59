import gzip
import hashlib
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pooch
import pytest
import torch

from isocline.data import DataError, mnist, mnist_files

COUNTS = (6, 6, 2, 2)


def _content(index: int, count: int) -> bytes:
    """Images of 28 × 28 with pixel values 0 to 255, or labels, as IDX."""
    if index % 2:
        return struct.pack(">4BI", 0, 0, 8, 1, count) + bytes(i % 10 for i in range(count))
    return struct.pack(">4B3I", 0, 0, 8, 3, count, 28, 28) + bytes(i % 256 for i in range(count * 784))


CONTENTS = tuple(_content(index, count) for index, count in enumerate(COUNTS))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Has small files taken for the original ones, by size and hash; gives the names."""
    names = tuple(file.name for file in mnist_files.FILES)
    files = tuple(
        mnist_files.RawFile(name, len(raw), hashlib.sha256(raw).hexdigest())
        for name, raw in zip(names, CONTENTS, strict=True)
    )
    monkeypatch.setattr(mnist_files, "FILES", files)
    monkeypatch.delenv("ISOCLINE_DATA", raising=False)
    return names


def _write(folder: Path, names: tuple[str, ...], packed: bool) -> None:
    folder.mkdir(exist_ok=True)
    for name, raw in zip(names, CONTENTS, strict=True):
        (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(raw) if packed else raw)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("subfolder", ["", "mnist"])
def test_reads_raw_and_gz_in_the_folder_or_its_subfolder(
    small: tuple[str, ...], tmp_path: Path, packed: bool, subfolder: str
) -> None:
    _write(tmp_path / subfolder, small, packed)
    data = mnist(tmp_path)
    assert data.train_x.shape == (6, 1, 28, 28)
    assert data.test_x.shape == (2, 1, 28, 28)
    assert data.train_x.flatten()[255] == 1.0
    assert data.train_x.flatten()[51] == pytest.approx(0.2)
    assert data.train_y.tolist() == [0, 1, 2, 3, 4, 5]
    assert data.test_y.dtype is torch.int64


def test_the_environment_names_the_folder(
    small: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path, small, packed=True)
    monkeypatch.setenv("ISOCLINE_DATA", str(tmp_path))
    assert len(mnist().train_x) == 6


def _flip_last(raw: bytes) -> bytes:
    return raw[:-1] + bytes([raw[-1] ^ 1])


@pytest.mark.parametrize(
    ("packed", "damage", "message"),
    [
        (False, lambda raw: raw[:-3], "expected 4720 bytes of content, found 4717"),
        (False, lambda raw: raw + b"x", "expected 4720 bytes of content, found 4721"),
        (False, _flip_last, "expected content of SHA-256 [0-9a-f]{64}, found [0-9a-f]{64}"),
        (
            True,
            lambda raw: raw[: len(raw) // 2],
            r"expected a gzip stream of 4720 bytes, found one cut off after \d",
        ),
        (True, lambda raw: raw[:-2], "found one cut off after 4720"),
        (True, lambda raw: b"", "found one cut off after 0"),
        (True, lambda raw: b"no gzip at all", "found a damaged one"),
        (True, lambda raw: raw[:-6] + _flip_last(raw[-6:-5]) + raw[-5:], "found a damaged one"),
        (True, lambda raw: gzip.compress(bytes(10_000)), "expected 4720 bytes of content, found 4721"),
    ],
)
def test_a_damaged_file_is_named_with_what_was_expected_and_found(
    small: tuple[str, ...], tmp_path: Path, packed: bool, damage: Callable[[bytes], bytes], message: str
) -> None:
    _write(tmp_path, small, packed)
    path = tmp_path / (small[0] + ".gz" * packed)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"{path}: .*{message}"):
        mnist(tmp_path)


def test_a_missing_file_says_where_it_was_sought_and_how_to_give_it(small: tuple[str, ...], tmp_path: Path) -> None:
    _write(tmp_path, small, packed=True)
    (tmp_path / f"{small[3]}.gz").unlink()
    with pytest.raises(DataError, match=rf"{small[3]}.*neither in {tmp_path} nor in {tmp_path}/mnist.*ISOCLINE_DATA"):
        mnist(tmp_path)


def test_without_a_folder_the_mirror_is_asked_and_checked(
    small: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path, small, packed=True)
    asked = []

    def retrieve(url: str, known_hash: None, fname: str, path: Path) -> str:
        asked.append(url)
        return str(tmp_path / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert len(mnist().test_x) == 2
    assert asked == [f"{mnist_files.MIRROR}{name}.gz" for name in small]
    (tmp_path / f"{small[1]}.gz").write_bytes(gzip.compress(_flip_last(CONTENTS[1])))
    with pytest.raises(DataError, match="SHA-256"):
        mnist()


def test_a_failed_download_is_a_data_error(small: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    def retrieve(*args: object) -> str:
        raise ConnectionError("no route")

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(DataError, match=r"could not be downloaded.*no route.*--data-dir"):
        mnist()


def test_the_real_files() -> None:
    if "ISOCLINE_DATA" not in os.environ:
        pytest.skip("ISOCLINE_DATA names no folder with MNIST")
    data = mnist()
    assert data.train_x.shape == (60_000, 1, 28, 28)
    assert data.test_y.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    # The first training image is the well-known five.
    assert data.train_y[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.train_x.max() == 1.0
