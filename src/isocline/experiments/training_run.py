"""What the subcommands that train share: where the settings come from, what is printed and what is written."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from isocline.experiments.comparison import Comparison, Result, results_table, resume, start
from isocline.experiments.run_folder import RunFolder, RunFolderError


def open_run(
    wanted: Comparison, default: Comparison, out: Path | None, resumed: Path | None
) -> tuple[RunFolder, Comparison]:
    """Starts a new run with the `wanted` settings, or opens the one in `resumed` with its own.

    Raises:
        RunFolderError: No run to resume, a run where a new one should be, or settings together with a resume.
    """
    if resumed is not None and (wanted != default or out is not None):
        raise RunFolderError(f"--resume {resumed}: takes every setting from the run; leave the other options out")
    folder, comparison = (start(wanted, out), wanted) if resumed is None else resume(resumed, wanted.task)
    Console().print(f"run folder: {folder.path} (continue it with --resume)", soft_wrap=True)
    return folder, comparison


def report(folder: RunFolder, results: list[Result], **more: Any) -> None:
    """Writes results.json, with `more` next to the results, and prints the table."""
    folder.write_json("results.json", {"results": [asdict(result) for result in results], **more})
    Console().print(results_table(results))
