"""Tables of words and numbers, for the terminal and for pages."""

from dataclasses import dataclass
from typing import Any

import rich.table


@dataclass(frozen=True)
class Table:
    """A table as it is shown; kept with results, so that whoever shows them need not know what was measured.

    Attributes:
        title: What it is of.
        head: What the columns are called.
        rows: Their cells.
        note: What a reader must know beside it.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    @classmethod
    def of(cls, content: dict[str, Any]) -> "Table":
        """The table that was kept as JSON."""
        rows = tuple(tuple(row) for row in content["rows"])
        return cls(content["title"], tuple(content["head"]), rows, content["note"])

    def printed(self) -> rich.table.Table:
        """For the terminal: short cells to the right, sentences with lines between the rows."""
        wordy = any(len(cell) > 40 for row in self.rows for cell in row)
        shown = rich.table.Table(title=self.title, caption=self.note or None, show_lines=wordy)
        for index, name in enumerate(self.head):
            widest = max((len(row[index]) for row in self.rows), default=0)
            numbers = not wordy and index > 0
            ratio = 1 + widest // 100 if widest > 40 else None
            shown.add_column(name, justify="right" if numbers else "left", ratio=ratio, no_wrap=widest <= 10)
        for row in self.rows:
            shown.add_row(*row)
        return shown

    def markdown(self) -> str:
        """For a page, without the title."""
        lines = [self.head, ("---",) * len(self.head), *self.rows]
        shown = "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)
        return shown + (f"\n{self.note[0].upper()}{self.note[1:]}.\n" if self.note else "")
