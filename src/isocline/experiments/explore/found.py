"""The trained ODEs in the folder of a run."""

from pathlib import Path

from isocline.experiments.demo import Demo
from isocline.experiments.explore.subject import Subject
from isocline.experiments.registry import EXPERIMENTS
from isocline.experiments.reproduction import Reproduction, opened
from isocline.experiments.run_folder import RunFolder, RunFolderError

_ALL: tuple[type[Reproduction], ...] = (Demo, *EXPERIMENTS.values())
KINDS = {kind.__name__: kind for kind in _ALL}


def subjects_of(path: Path) -> tuple[Subject, ...]:
    """The ODEs that the run in a folder has trained, or is training.

    Raises:
        RunFolderError: There are none, no run, or a damaged one.
    """
    name = RunFolder.open(path).config.get("experiment")
    if name not in KINDS:
        raise RunFolderError(f"{path}: expected a run of an experiment, found one of {name}")
    settings, folder = opened(KINDS[name], path)
    found = tuple(settings.subjects(folder))
    if not found:
        raise RunFolderError(f"{path}: expected a trained ODE, found none in this run of {name}")
    return found
