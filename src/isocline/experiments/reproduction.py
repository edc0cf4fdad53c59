"""What an experiment on the paper is, and how one is run."""

import io
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import torch
from lightning_fabric import Fabric
from matplotlib.figure import Figure
from rich.console import Console

from isocline.experiments.command import Command
from isocline.experiments.explore.subject import Subject
from isocline.experiments.processes import launched
from isocline.experiments.run_folder import RunFolder, RunFolderError
from isocline.experiments.settings import restored
from isocline.experiments.tables import Table

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

    def tables(self) -> tuple[Table, ...]:
        """The numbers that a reader wants to see, beside the findings; most experiments show them in the figure."""
        return ()


@dataclass(frozen=True)
class Reproduction(Command):
    """An experiment. Final subclasses have its settings as fields, in full size by default.

    Attributes:
        out: Folder of the run; runs/NAME-TIME if None.
        resume: Folder of a run to continue, with the settings it has.
        quick: Whether to run what `smaller` gives instead.
    """

    out: Path | None = None
    """Folder of the run; runs/NAME-TIME if not given."""
    resume: Path | None = None
    """Continue the run in this folder, with the settings it has."""
    quick: bool = False
    """Fewer and smaller cases, in seconds: to see that it works, too few to conclude from."""

    @abstractmethod
    def smaller(self) -> Self:
        """The same experiment in seconds."""

    @abstractmethod
    def run(self, folder: RunFolder, fabric: Fabric) -> Results:
        """Measures; what takes long leaves in the folder how far it has got."""

    def check(self) -> None:  # most need nothing
        """Raises what is wrong with the data, before anything is written."""

    def subjects(self, folder: RunFolder) -> Iterable[Subject]:
        """The ODEs that a run with these settings has trained, for `isocline explore`; most experiments train none.

        Raises:
            RunFolderError: A checkpoint is damaged.
        """
        return ()

    def threads(self) -> int | None:
        """CPU threads; torch's choice if None."""
        return 1  # most experiments have states so small that they gain nothing from a second one

    def fabric(self) -> Fabric:
        """The processes that measure: one, if nothing else is said."""
        return launched()

    def main(self) -> None:
        """Measures, prints what was found, and leaves settings, results and figure in the run folder.

        Raises:
            DataError: Data are missing or damaged.
            RunFolderError: The folder already holds a run, or cannot be made; or holds none of this kind to resume.
        """
        experiment = self._settled()
        if (threads := experiment.threads()) is not None:
            torch.set_num_threads(threads)
        experiment.check()
        fabric = experiment.fabric()
        folder = experiment._folder(fabric)
        results = experiment.run(folder, fabric)
        if fabric.is_global_zero:
            leave(results, folder, type(self).__name__)

    def _settled(self) -> Self:
        """These settings, smaller ones, or those of the run to resume."""
        if self.resume is None:
            return replace(self.smaller(), quick=False) if self.quick else self
        if replace(self, resume=None) != type(self)():
            raise RunFolderError(f"--resume {self.resume}: takes every setting from the run; leave other options out")
        settings, _ = opened(type(self), self.resume)
        return replace(settings, resume=self.resume)

    def _folder(self, fabric: Fabric) -> RunFolder:
        """The run folder, which the first process makes and all use."""
        name = type(self).__name__
        default = Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
        path: Path = fabric.broadcast(self.resume or self.out or default)
        if self.resume is None and fabric.is_global_zero:
            RunFolder.create(path, {"experiment": name, **plain(self)})
        fabric.barrier()
        if fabric.is_global_zero:
            Console().print(f"run folder: {path} (continue it with --resume)", soft_wrap=True)
        return RunFolder.open(path)


R = TypeVar("R", bound=Reproduction)


def opened(kind: type[R], path: Path) -> tuple[R, RunFolder]:
    """Settings and folder of a run of an experiment.

    Raises:
        RunFolderError: The folder holds no run of this kind, or a damaged one.
    """
    folder = RunFolder.open(path)
    settings = dict(folder.config)
    if (found := settings.pop("experiment", None)) != kind.__name__:
        raise RunFolderError(f"{path}: expected a run of {kind.__name__}, found one of {found}")
    return restored(kind, settings, path), folder


def leave(results: Results, folder: RunFolder, name: str) -> None:
    """Writes results and figure into the folder, and prints them."""
    folder.write_json("results.json", {"experiment": name, **content(results)})
    figure = results.plot()
    paths = [folder.write(f"figure.{form}", drawn(figure, form)) for form in ("png", "svg")]
    console = Console()
    for table in (*results.tables(), *findings_table(results.findings())):
        console.print(table.printed())
    console.print(f"results and figure: {folder.path}, {paths[0]}", soft_wrap=True)


def content(results: Results) -> dict[str, Any]:
    """All that was found as JSON has it: what it says, tables, and the numbers themselves."""
    return {"findings": plain(results.findings()), "tables": plain(results.tables()), **plain(results)}


def findings_table(findings: tuple[Finding, ...]) -> tuple[Table, ...]:
    """The findings, a row each; nothing if there are none."""
    rows = tuple((finding.claim, finding.holds, finding.found) for finding in findings)
    title = "What is claimed, and what was found"
    return (Table(title, ("claim", "holds here", "found"), rows),) if rows else ()


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
