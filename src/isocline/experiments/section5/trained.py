"""Latent ODEs of spirals that table2 has trained, or that are trained here in the same way."""

from pathlib import Path

import isocline as iso
from isocline.data import spirals
from isocline.experiments.reproduction import opened
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.section5.spiral_models import build, fitted
from isocline.experiments.section5.table2 import Table2


def table_of(trained: Path | None, own: Table2, folder: RunFolder) -> tuple[Table2, RunFolder]:
    """Settings and folder of a run of table2; without one, `own` settings and the folder of this run.

    Raises:
        RunFolderError: `trained` holds no run of table2.
    """
    return (own, folder) if trained is None else opened(Table2, trained)


def latent_ode_of(table: Table2, observations: int, home: RunFolder) -> iso.LatentODE:
    """The latent ODE of the table's first seed for so many observations, trained to its end."""
    seed = table.seeds[0]
    model = build("latent-ode", table.train, seed)
    assert isinstance(model, iso.LatentODE)
    series = spirals(table.count, observations, seed=seed).observed
    fitted(f"latent-ode-{observations}-{seed}", model, series, table.train, seed, home)
    return model
