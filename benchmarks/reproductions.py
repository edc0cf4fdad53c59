"""docs/reproductions.md: the paper's trained tables and figures, from the run folders of their experiments.

python benchmarks/reproductions.py runs/table1 runs/figure3   # takes these runs into docs/figures, makes the page
python benchmarks/reproductions.py runs/table1-longer         # another run of table1, beside that one
python benchmarks/reproductions.py                            # only the page, from what is there
"""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks.peers.results import machine
from isocline.experiments import registry
from isocline.experiments.reproduction import Finding, findings_table
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.tables import Table

FIGURES = Path(__file__).parent.parent / "docs" / "figures"
PAGE = FIGURES.parent / "reproductions.md"
PLACES = "out", "resume", "trained", "data_dir"
"""Settings that say where something is on one machine."""
DRAWN = "picture", "pictures", "samples"
"""Results that only the figure needs, thousands of numbers each: they stay in the run folder."""
NUMBERS = re.compile(r"\[[^][{}\"]*\]")
"""A list of numbers as JSON."""
NAMES = {kind.__name__: name for name, kind in registry.EXPERIMENTS.items()}

INTRODUCTION = """# What was trained

Tables and figures of *Neural Ordinary Differential Equations* ([Chen et al. 2018](https://arxiv.org/abs/1806.07366))
that need training, each by one command, with the paper's numbers beside ours. Every run ends with a figure, its
numbers as JSON, and a sentence on each claim; a killed one goes on with `--resume`. `--quick` is a small form that
takes seconds and shows nothing but that it works. Where a run names several models each may have been trained in a
process of its own, beside others on the same machine, which its seconds include. This page is made by
`python benchmarks/reproductions.py RUN...`.
"""


def take(path: Path) -> None:
    """Copies settings, versions, results, figure and animations of a finished run."""
    run = RunFolder.open(path)
    config = {key: value for key, value in run.config.items() if key not in PLACES}
    name = NAMES[config.pop("experiment")]
    if path.name.startswith(f"{name}-"):
        name = path.name
    versions, results = (json.loads((path / f"{part}.json").read_text()) for part in ("versions", "results"))
    command = re.sub(r" --(out|resume|data-dir)[ =]\S+", "", versions.pop("command"))
    command = re.sub(r"( --trained[ =])\S*/", r"\1runs/", command)
    about = {"command": command, "machine": machine("cpu"), "versions": versions, "config": config}
    text = json.dumps({**about, **_without_drawn(results)}, indent=1, allow_nan=False)
    (FIGURES / f"{name}.json").write_text(NUMBERS.sub(lambda list_: " ".join(list_[0].split()), text) + "\n")
    shutil.copy(path / "figure.png", FIGURES / f"{name}.png")
    for animation in path.glob("*.gif"):
        shutil.copy(animation, FIGURES / f"{name}-{animation.name}")


def _without_drawn(results: Any) -> Any:
    if isinstance(results, dict):
        return {key: _without_drawn(value) for key, value in results.items() if key not in DRAWN}
    return [_without_drawn(value) for value in results] if isinstance(results, list) else results


def section(name: str) -> str:
    """What the page says of one experiment."""
    content = json.loads((FIGURES / f"{name}.json").read_text())
    tables = [Table.of(table) for table in content["tables"]]
    tables += findings_table(tuple(Finding(**finding) for finding in content["findings"]))
    threads = content["versions"]["threads"]
    about = f"`{content['command']}`, {content['machine']}, {threads} thread{'s' if threads > 1 else ''}"
    head = f"## {name}\n\n{about} ([results and settings](figures/{name}.json))\n"
    paths = FIGURES / f"{name}.png", *sorted(FIGURES.glob(f"{name}-*.gif"))
    pictures = [f"![{path.stem}](figures/{path.name})" for path in paths]
    return "\n".join([head, " ".join(pictures) + "\n", *(table.markdown() for table in tables)])


def page() -> str:
    """The whole page, from what is in docs/figures."""
    names = [
        path.stem
        for name in registry.EXPERIMENTS
        for path in (*FIGURES.glob(f"{name}.json"), *sorted(FIGURES.glob(f"{name}-*.json")))
    ]
    return "\n".join([INTRODUCTION, *map(section, names)])


def main(runs: list[str]) -> None:
    for run in runs:
        take(Path(run))
    PAGE.write_text(page())


if __name__ == "__main__":
    main(sys.argv[1:])
