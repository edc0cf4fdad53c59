"""`isocline report`: runs as one page of HTML that needs no other file."""

import json
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment
from rich.console import Console
from tyro.conf import Positional

from isocline.experiments.command import Command
from isocline.experiments.reproduction import Finding, findings_table
from isocline.experiments.run_folder import Record, RunFolder, RunFolderError
from isocline.experiments.tables import Table

FIGURES = {"figure.svg": "image/svg+xml", "figure.png": "image/png"}
"""Files that a run may have drawn, the better first, and what they are."""


@dataclass(frozen=True)
class Report(Command):
    """Make one page of HTML from runs: tables, findings, figures, settings. It needs no other file and no network."""

    runs: Positional[tuple[Path, ...]]
    """Run folders, or folders of such, as `isocline reproduce all` leaves."""
    out: Path = Path("report.html")
    """The page."""

    def main(self) -> None:
        """Writes the page.

        Raises:
            RunFolderError: A folder holds no run, or a damaged one; or the page cannot be written.
        """
        page = html([Run.of(RunFolder.open(path)) for path in run_folders(self.runs)])
        try:
            self.out.write_text(page, encoding="utf-8")
        except OSError as error:
            raise RunFolderError(f"--out {self.out}: cannot be written ({error.strerror})") from error
        Console().print(f"report: {self.out}", soft_wrap=True)


def run_folders(paths: Sequence[Path]) -> Iterator[Path]:
    """These, but for those that are no run and hold some the runs inside.

    Raises:
        RunFolderError: There are none.
    """
    if not paths:
        raise RunFolderError("isocline report: expected at least one run folder, such as runs/Table1-20260131-120000")
    for path in paths:
        inside = sorted(file.parent for file in path.glob("*/config.json"))
        yield from inside if inside and not (path / "config.json").exists() else [path]


@dataclass(frozen=True)
class Run:
    """What the page says of one run.

    Attributes:
        title: Of which experiment.
        path: Its folder.
        finished: Whether it has results.
        shown: Its tables, and what was found.
        figure: As a data URI; None if there is none.
        folded: All numbers, what training left, settings, versions.
    """

    title: str
    path: str
    finished: bool
    shown: tuple[Table, ...]
    figure: str | None
    folded: tuple[Table, ...]

    @classmethod
    def of(cls, folder: RunFolder) -> "Run":
        """Reads a run.

        Raises:
            RunFolderError: One of its files is damaged.
        """
        results = folder.read_json("results.json")
        numbers = dict(results or {})
        title = numbers.pop("experiment", folder.config.get("experiment", folder.path.name))
        try:
            tables = tuple(Table.of(content) for content in numbers.pop("tables", ()))
            findings = findings_table(tuple(Finding(**content) for content in numbers.pop("findings", ())))
        except (KeyError, TypeError) as error:
            where = folder.path / "results.json"
            raise RunFolderError(f"{where}: expected tables and findings of an experiment ({error!r})") from error
        about = {"settings": folder.config, "versions": folder.read_json("versions.json") or {}}
        return cls(
            title=str(title),
            path=str(folder.path),
            finished=results is not None,
            shown=(*tables, *findings),
            figure=_embedded(folder.path),
            folded=(*_numbers(numbers), *_trainings(folder.metrics()), *(_pairs(*each) for each in about.items())),
        )


def html(runs: Sequence[Run]) -> str:
    """The page."""
    template = files("isocline.experiments").joinpath("report.html").read_text(encoding="utf-8")
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template).render(runs=runs)


def text(value: Any) -> str:
    """A value for a cell; of many numbers only how many there are."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        short = len(value) <= 8 and not any(isinstance(item, (list, dict)) for item in value)
        return ", ".join(map(text, value)) if short else f"({len(value)} values)"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)


def _numbers(results: Record) -> Iterator[Table]:
    """What is a list of records is a table; what is a single value is a row of one more."""
    lists = {name: value for name, value in results.items() if _records(value)}
    if single := {name: value for name, value in results.items() if name not in lists}:
        yield _pairs("values", single)
    for name, records in lists.items():
        yield _table(name, records)


def _records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _trainings(metrics: Sequence[Record]) -> Iterator[Table]:
    last = {record.get("model"): record for record in metrics}
    if last:
        yield _table("trainings, the last line of each", list(last.values()))


def _table(title: str, records: Sequence[Record]) -> Table:
    """A row for each record, a column for each of their keys."""
    head = tuple(dict.fromkeys(key for record in records for key in record))
    return Table(title, head, tuple(tuple(text(record.get(key)) for key in head) for record in records))


def _pairs(title: str, record: Record) -> Table:
    """A row for each value, those of inner records by dotted names."""
    return Table(title, ("name", "value"), tuple((name, text(value)) for name, value in _flat(record)))


def _flat(record: Record, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value


def _embedded(path: Path) -> str | None:
    for name, kind in FIGURES.items():
        if (file := path / name).exists():
            return f"data:{kind};base64,{b64encode(file.read_bytes()).decode()}"
    return None
