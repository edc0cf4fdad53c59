"""`isocline reproduce all`: one experiment after the other."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rich.console import Console

from isocline.experiments.command import Command
from isocline.experiments.registry import EXPERIMENTS


@dataclass(frozen=True)
class Everything(Command):
    """Run every experiment, each into a folder of its own; again with the same --out, go on from where it stopped."""

    out: Path | None = None
    """Folder of the folders; runs/all-TIME if not given."""
    quick: bool = False
    """The small form of each: to see that they work, too few to conclude from."""

    def main(self) -> None:
        """Runs what is not finished.

        Raises:
            DataError: MNIST is missing or damaged.
            RunFolderError: A run folder cannot be made, or is damaged.
        """
        out = self.out or Path("runs") / f"all-{datetime.now():%Y%m%d-%H%M%S}"
        console = Console()
        for name, experiment in EXPERIMENTS.items():
            folder = out / name
            if (folder / "results.json").exists():
                console.print(f"{name}: finished in {folder}", soft_wrap=True)
                continue
            console.rule(name)
            begun = (folder / "config.json").exists()
            (experiment(resume=folder) if begun else experiment(out=folder, quick=self.quick)).main()
