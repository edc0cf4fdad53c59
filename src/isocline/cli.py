"""The `isocline` command."""

import sys
from importlib.metadata import version

from tyro.extras import SubcommandApp

from isocline.data import DataError
from isocline.experiments.demo import Demo, run_demo
from isocline.experiments.methods import Methods, run_methods
from isocline.experiments.run_folder import RunFolderError
from isocline.experiments.train_mnist import TrainMnist, run_train_mnist

_APP, _TRAIN = SubcommandApp(), SubcommandApp()
_APP.command(name="demo")(Demo)
_APP.command(name="methods")(Methods)
_APP.command(_TRAIN, name="train")
_TRAIN.command(name="mnist")(TrainMnist)


def main() -> None:
    """Entry point. Exits with code 2, and no traceback, when options, data or run folder are not usable."""
    if sys.argv[1:] == ["--version"]:
        print(f"isocline {version('isocline')}")
        return
    command = _APP.cli(prog="isocline", description="Neural differential equations, trained and measured.")
    try:
        if isinstance(command, Demo):
            run_demo(command)
        elif isinstance(command, Methods):
            run_methods(command)
        else:
            run_train_mnist(command)
    except (DataError, RunFolderError) as error:
        print(f"isocline: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
