"""What an experiment on the paper is, and how `isocline reproduce` runs one."""

import io
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Any, Literal, Self

import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from isocline.experiments.command import Command
from isocline.experiments.run_folder import RunFolder

Verdict = Literal["yes", "in part", "no"]


@dataclass(frozen=True)
class Finding:
    """A claim beside what was found here.

    Attributes:
        claim: What is claimed, and where.
        holds: Whether it holds here.
        found: What was measured, with which methods, and why it is so.
    """

    claim: str
    holds: Verdict
    found: str


class Results(ABC):
    """What an experiment measured. Final subclasses are frozen dataclasses of plain values, kept as JSON."""

    @abstractmethod
    def findings(self) -> tuple[Finding, ...]:
        """What these numbers say about the paper's claims."""

    @abstractmethod
    def plot(self) -> Figure:
        """Draws them."""


@dataclass(frozen=True)
class Reproduction(Command):
    """An experiment. Final subclasses have its settings as fields, in full size by default.

    Attributes:
        out: Folder of the run; runs/NAME-TIME if None.
        quick: Whether to run what `smaller` gives instead.
    """

    out: Path | None = None
    """Folder of the run; runs/NAME-TIME if not given."""
    quick: bool = False
    """Fewer and smaller cases, in seconds: to see that it works, too few to conclude from."""

    @abstractmethod
    def smaller(self) -> Self:
        """The same experiment in seconds."""

    @abstractmethod
    def run(self) -> Results:
        """Measures."""

    def main(self) -> None:
        """Measures, prints what was found, and leaves settings, results and figure in the run folder.

        Raises:
            RunFolderError: The folder already holds a run, or cannot be made.
        """
        torch.set_num_threads(1)  # states this small gain nothing from a second one
        experiment = self.smaller() if self.quick else self
        name = type(self).__name__
        folder = RunFolder.create(
            self.out or Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}",
            {"experiment": name, **plain(experiment)},
        )
        results = experiment.run()
        findings = results.findings()
        folder.write_json("results.json", {"experiment": name, "findings": plain(findings), **plain(results)})
        figure = results.plot()
        paths = [folder.write(f"figure.{form}", drawn(figure, form)) for form in ("png", "svg")]
        console = Console()
        console.print(table(findings))
        console.print(f"results and figure: {folder.path}, {paths[0]}", soft_wrap=True)


def table(findings: tuple[Finding, ...]) -> Table:
    """The findings, a row each."""
    shown = Table(title="What is claimed, and what was found", show_lines=True)
    shown.add_column("claim", ratio=2)
    shown.add_column("holds here", no_wrap=True)
    shown.add_column("found", ratio=3)
    for finding in findings:
        shown.add_row(finding.claim, finding.holds, finding.found)
    return shown


def drawn(figure: Figure, form: str) -> bytes:
    """The figure as the content of a file, the same whenever it is drawn."""
    content = io.BytesIO()
    figure.savefig(content, format=form, dpi=130, metadata={"Date": None} if form == "svg" else None)
    return content.getvalue()


def plain(value: Any) -> Any:
    """Dataclasses, tuples and numbers as JSON has them; it has no inf and nan, so those become words."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    return str(value) if isinstance(value, Path) else value
