"""Files of a run and of data, damaged in any way: one line says so, or nothing of it matters."""

import io
import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isocline.data import DataError, parse_idx
from isocline.experiments.demo import Demo
from isocline.experiments.reproduction import plain
from isocline.experiments.run_folder import RunFolder, RunFolderError
from isocline.experiments.settings import restored

some = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
anywhere = st.floats(0, 1, exclude_max=True)
STATE = {"epoch": 3, "weights": {"w": torch.arange(300.0), "n": torch.tensor(7)}, "losses": [0.5, 0.25]}


def written(state: object) -> bytes:
    content = io.BytesIO()
    torch.save(state, content)
    return content.getvalue()


RAW = written(STATE)


def outcome(read: Callable[[], Any]) -> tuple[Any, str]:
    """What was read, or in one line why it was not."""
    try:
        return read(), ""
    except (RunFolderError, DataError) as error:
        return None, str(error)


def says(message: str, beginning: str) -> bool:
    return message.startswith(beginning) and 20 < len(message) < 600 and "\n" not in message


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return bool(a == b)


@some
@given(anywhere, st.integers(1, 255), st.booleans())
def test_a_byte_of_a_checkpoint(tmp_path: Path, where: float, change: int, cut: bool) -> None:
    """Flipped, or the first that is missing."""
    place = int(where * len(RAW))
    raw = RAW[:place] if cut else RAW[:place] + bytes([RAW[place] ^ change]) + RAW[place + 1 :]
    (tmp_path / "model.pt").write_bytes(raw)
    state, message = outcome(lambda: RunFolder(tmp_path, {}).load_checkpoint("model"))
    damaged = says(message, f"{tmp_path / 'model.pt'}: expected a checkpoint, found a")
    assert damaged or same(STATE, state)


values = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just([]), st.just({}))


def places(config: Any) -> list[tuple[str, ...]]:
    """The keys that lead to each value in nested dicts."""
    if not isinstance(config, dict):
        return [()]
    return [(key, *rest) for key, value in config.items() for rest in places(value)]


CONFIG = json.loads(json.dumps(plain(Demo())))


@some
@given(st.sampled_from(places(CONFIG)), values, st.booleans())
def test_a_value_of_a_configuration(place: tuple[str, ...], value: Any, rename: bool) -> None:
    config = json.loads(json.dumps(CONFIG))
    inner = config
    for key in place[:-1]:
        inner = inner[key]
    inner[f"{place[-1]}x" if rename else place[-1]] = value
    demo, message = outcome(lambda: restored(Demo, config, Path("run")))
    refused = says(message, f"{Path('run/config.json')}: expected a run's settings, found: ")
    assert refused or (isinstance(demo, Demo) and not rename)


@some
@given(anywhere)
def test_the_end_of_the_metrics(tmp_path: Path, where: float) -> None:
    folder = RunFolder(tmp_path, {})
    (tmp_path / "metrics.jsonl").unlink(missing_ok=True)
    records = [{"model": "a", "epoch": epoch} for epoch in range(5)]
    for record in records:
        folder.append_metrics(record)
    raw = (tmp_path / "metrics.jsonl").read_bytes()
    whole = raw[: int(where * len(raw))]
    (tmp_path / "metrics.jsonl").write_bytes(whole)
    assert folder.metrics() == records[: whole.count(b"\n")]


shapes = st.one_of(
    st.lists(st.integers(0, 3), max_size=4),
    st.lists(st.sampled_from([0, 1, 2**31, 2**32 - 1]), max_size=4),
    st.lists(st.integers(0, 1), min_size=60, max_size=70),
)


@some
@given(st.sampled_from([0x07, 0x08, 0x0C, 0x0E]), shapes, st.sampled_from([0, 0, 0, 1, 3]))
def test_any_idx_file(code: int, shape: list[int], cut: int) -> None:
    """Of the size that its header says, if that is not too much, or a little shorter."""
    size = {0x0C: 4, 0x0E: 8}.get(code, 1)
    content = bytes(min(1000, size * math.prod(shape)))
    raw = bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + content
    raw = raw[: len(raw) - cut]
    tensor, message = outcome(lambda: parse_idx(raw, "file"))
    assert says(message, "file: expected") or (list(tensor.shape) == shape and code != 0x07 and not cut)
