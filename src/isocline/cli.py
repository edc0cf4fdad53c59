"""The `isocline` command."""

import sys
from importlib.metadata import version
from typing import cast

from tyro.extras import SubcommandApp

from isocline.data import DataError
from isocline.experiments.command import Command
from isocline.experiments.demo import Demo
from isocline.experiments.everything import Everything
from isocline.experiments.explore.command import Explore
from isocline.experiments.methods import Methods
from isocline.experiments.registry import EXPERIMENTS
from isocline.experiments.report import Report
from isocline.experiments.run_folder import RunFolderError

Commands = dict[str, "type[Command] | Commands"]

COMMANDS: Commands = {
    "demo": Demo,
    "methods": Methods,
    "reproduce": {"all": Everything, **EXPERIMENTS},
    "report": Report,
    "explore": Explore,
}
"""What users write, and what is run; a dict is a group of commands."""


def main() -> None:
    """Entry point. Exits with code 2, and no traceback, when options, data or run folder are not usable."""
    if sys.argv[1:] == ["--version"]:
        print(f"isocline {version('isocline')}")
        return
    app = _app(COMMANDS)
    command = cast(
        Command, app.cli(prog="isocline", description="Neural differential equations, trained and measured.")
    )
    try:
        command.main()
    except (DataError, RunFolderError) as error:
        print(f"isocline: {error}", file=sys.stderr)
        sys.exit(2)


def _app(commands: Commands) -> SubcommandApp:
    app = SubcommandApp()
    for name, command in commands.items():
        if isinstance(command, dict):
            app.command(_app(command), name=name)
        else:
            app.command(name=name)(command)
    return app


if __name__ == "__main__":
    main()
