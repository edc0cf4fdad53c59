"""Latent ODEs of spirals that table2 has trained, or that are trained here in the same way."""

from pathlib import Path

import isocline as iso
from isocline.data import spirals
from isocline.experiments.run_folder import RunFolder, RunFolderError
from isocline.experiments.section5.spiral_models import Training, build
from isocline.experiments.section5.table2 import Table2
from isocline.experiments.settings import restored


def table_of(trained: Path | None, own: Table2, folder: RunFolder) -> tuple[Table2, RunFolder]:
    """Settings and folder of a run of table2; without one, `own` settings and the folder of this run.

    Raises:
        RunFolderError: `trained` holds no run of table2.
    """
    if trained is None:
        return own, folder
    home = RunFolder.open(trained)
    if (found := home.config.pop("experiment", None)) != "Table2":
        raise RunFolderError(f"{trained}: expected a run of Table2, found one of {found}")
    return restored(Table2, home.config, trained), home


def latent_ode_of(table: Table2, observations: int, home: RunFolder) -> iso.LatentODE:
    """The latent ODE of the table's first seed for so many observations, trained to its end."""
    seed = table.seeds[0]
    model = build("latent-ode", table.train, seed)
    assert isinstance(model, iso.LatentODE)
    series = spirals(table.count, observations, seed=seed).observed
    Training(f"latent-ode-{observations}-{seed}", model, series, table.train, seed).run(home)
    return model
