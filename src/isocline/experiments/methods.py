"""`isocline methods`: every method that `solve` knows by name."""

import json
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from isocline.experiments.command import Command
from isocline.solvers import METHODS


@dataclass(frozen=True)
class Methods(Command):
    """List the methods by name: order, kind, error control, order of the interpolant, and where they come from."""

    json: bool = False
    """Print JSON instead of a table."""

    def main(self) -> None:
        """Prints the list."""
        if self.json:
            print(json.dumps(listing(), indent=1, ensure_ascii=False))
            return
        table = Table(title="method=NAME in isocline.solve", title_justify="left", box=None, padding=(0, 2, 0, 0))
        table.add_column("name", no_wrap=True)
        table.add_column("order", justify="right")
        table.add_column("kind", overflow="fold")
        table.add_column("steps", no_wrap=True)
        table.add_column("dense order", justify="right")
        table.add_column("citation", overflow="fold")
        for row in listing():
            steps = "adaptive" if row["adaptive"] else "fixed"
            table.add_row(row["name"], str(row["order"]), row["kind"], steps, str(row["dense_order"]), row["citation"])
        Console().print(table)


def listing() -> list[dict[str, Any]]:
    """Returns what is known of each method, in the order of `METHODS`."""
    return [
        {
            "name": name,
            "order": solver.order,
            "kind": solver.kind,
            "adaptive": solver.error_order is not None,
            "dense_order": solver.dense_order,
            "citation": solver.citation,
        }
        for name, solver in METHODS.items()
    ]
