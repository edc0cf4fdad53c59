"""`isocline explore`: starts the page."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tyro.conf import Positional

from isocline.experiments.command import Command
from isocline.experiments.explore.found import subjects_of
from isocline.experiments.run_folder import RunFolderError

PAGE = Path(__file__).with_name("page.py")


@dataclass(frozen=True)
class Explore(Command):
    """Play with the trained ODEs of a run, on a page of this computer: tolerance, cost and error, slopes and paths."""

    run: Positional[Path]
    """Folder of a run of demo, table1, figure3, figure5 or table2."""
    port: int = 8501
    """Of the page, on localhost."""
    browser: bool = True
    """Open the page in a browser."""

    def main(self) -> None:
        """Serves the page until it is interrupted.

        Raises:
            RunFolderError: The folder holds no trained ODE; or Streamlit is not installed.
        """
        subjects_of(self.run)
        if find_spec("streamlit") is None:
            raise RunFolderError("isocline explore needs Streamlit; install isocline[explore]")
        from streamlit.web import cli as streamlit  # an extra

        streamlit.main(self._arguments())

    def _arguments(self) -> list[str]:
        settings = {
            "server.address": "localhost",
            "server.port": str(self.port),
            "server.headless": str(not self.browser).lower(),
            "browser.gatherUsageStats": "false",
        }
        options = [part for name, value in settings.items() for part in (f"--{name}", value)]
        return ["run", str(PAGE), *options, "--", str(self.run)]
