"""Let ``import torchdiffeq`` mean isocline, for programs that are not to be changed.

python -m isocline.compat.install          where Python looks for packages
python -m isocline.compat.install FOLDER   in a folder for PYTHONPATH, so that it is chosen from run to run
"""

import argparse
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

PROGRAM = '''"""torchdiffeq's interface, solved by isocline; written by isocline.compat.install."""

import sys

import isocline.compat.torchdiffeq

sys.modules[__name__] = isocline.compat.torchdiffeq
'''


def install(folder: Path) -> Path:
    """Write a package ``torchdiffeq`` that is isocline's into a folder, and return the file.

    Raises:
        FileExistsError: the folder has another torchdiffeq.
    """
    package = folder / "torchdiffeq"
    file = package / "__init__.py"
    if package.exists() and not (file.is_file() and file.read_text() == PROGRAM):
        raise FileExistsError(
            f"{package} is there already: remove it first (pip uninstall torchdiffeq), or name another folder and put "
            "it on PYTHONPATH"
        )
    package.mkdir(parents=True, exist_ok=True)
    file.write_text(PROGRAM)
    return file


def main(arguments: Sequence[str] | None = None) -> None:
    """Install, and say where."""
    parser = argparse.ArgumentParser(prog="python -m isocline.compat.install", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(sysconfig.get_path("purelib")))
    folder = parser.parse_args(arguments).folder
    try:
        print(f"import torchdiffeq is isocline now, by {install(folder)}; remove that folder to undo it")
    except FileExistsError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
