"""A folder that holds everything about one run, and stays readable whenever the process is killed."""

import json
import os
import platform
import shlex
import sys
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

Record = dict[str, Any]


class RunFolderError(ValueError):
    """A run folder is missing, occupied or damaged; the message names the file and says what is wrong."""


class RunFolder:
    """config.json, versions.json, metrics.jsonl, checkpoints and results of one run.

    Every file but metrics.jsonl is replaced whole or not at all. Lines of metrics.jsonl are appended;
    one that a kill left half-written is dropped when they are read.

    Attributes:
        path: The folder.
        config: What config.json holds.
    """

    def __init__(self, path: Path, config: Record) -> None:
        """Use `create` or `open` instead."""
        self.path = path
        self.config = config

    @classmethod
    def create(cls, path: Path, config: Record) -> "RunFolder":
        """Starts a run in a folder that holds none, made if need be.

        Raises:
            RunFolderError: The folder already holds a run, or cannot be made.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFolderError(f"{path}: cannot be made a run folder ({error.strerror})") from error
        if (path / "config.json").exists():
            raise RunFolderError(
                f"{path}: already holds a run; choose another folder, or continue it with --resume if it trains"
            )
        run = cls(path, config)
        run.write_json("versions.json", _versions())
        run.write_json("config.json", config)
        return run

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Opens the run in `path`.

        Raises:
            RunFolderError: There is none, or its config.json is damaged.
        """
        if not (path / "config.json").is_file():
            raise RunFolderError(f"{path / 'config.json'}: expected a run's configuration, found none")
        return cls(path, _json(path / "config.json"))

    def write(self, name: str, content: bytes) -> Path:
        """Writes a file whole or not at all, and returns its path."""
        return self._replace(name, lambda temporary: temporary.write_bytes(content))

    def write_json(self, name: str, content: Any) -> Path:
        """Writes `content` as JSON, whole or not at all, and returns the file's path."""
        return self.write(name, (json.dumps(content, indent=2) + "\n").encode())

    def read_json(self, name: str) -> Record | None:
        """What a JSON file of the run holds; None if there is none.

        Raises:
            RunFolderError: It is damaged.
        """
        return _json(self.path / name) if (self.path / name).exists() else None

    def save_checkpoint(self, name: str, state: Record) -> None:
        """Saves tensors and plain values as NAME.pt, whole or not at all."""
        self._replace(f"{name}.pt", lambda temporary: torch.save(state, temporary))

    def load_checkpoint(self, name: str) -> Record | None:
        """The state last saved under `name`, on the CPU; None if there is none. Runs no code from the file.

        Raises:
            RunFolderError: The file is truncated, altered or no checkpoint.
        """
        path = self.path / f"{name}.pt"
        if not path.exists():
            return None
        try:
            with zipfile.ZipFile(path) as archive:  # torch.load itself verifies no checksum
                if (altered := archive.testzip()) is not None:
                    raise ValueError(f"wrong checksum of {altered}")
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # there is no closed list of what a damaged file raises
            raise RunFolderError(f"{path}: expected a checkpoint, found a damaged file ({_line(error)})") from error
        if not isinstance(state, dict):
            raise RunFolderError(f"{path}: expected a checkpoint, found a {type(state).__name__}")
        return state

    def append_metrics(self, record: Record) -> None:
        """Appends one line to metrics.jsonl and has it on the disk before returning."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def metrics(self) -> list[Record]:
        """All the lines of metrics.jsonl that were written to their end.

        Raises:
            RunFolderError: A line other than the last is damaged.
        """
        file = self.path / "metrics.jsonl"
        if not file.exists():
            return []
        # What follows the last newline is a line that a kill cut off, or nothing.
        whole = file.read_bytes().split(b"\n")[:-1]
        try:
            return [json.loads(line) for line in whole]
        except ValueError as error:
            raise RunFolderError(f"{file}: expected a JSON object a line, found a damaged one ({error})") from error

    def keep_metrics(self, keep: Callable[[Record], bool]) -> None:
        """Drops the records for which `keep` is false, and a half-written last line."""
        lines = [json.dumps(record) + "\n" for record in self.metrics() if keep(record)]
        self.write("metrics.jsonl", "".join(lines).encode())

    def _replace(self, name: str, write: Callable[[Path], object]) -> Path:
        """Has `write` fill a temporary file, then puts it in the place of `name` in one step."""
        path, temporary = self.path / name, self.path / f".{name}.tmp"
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        return path


def _json(file: Path) -> Record:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{file}: expected JSON, found a damaged file ({error})") from error
    if not isinstance(content, dict):
        raise RunFolderError(f"{file}: expected a JSON object, found {type(content).__name__}")
    return content


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _versions() -> Record:
    return {
        "command": shlex.join(["isocline", *sys.argv[1:]]),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "isocline": version("isocline"),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
    }
