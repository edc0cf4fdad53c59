import pytest
from rich.console import Console

from isocline.experiments.tables import Table

NUMBERS = Table("Errors", ("model", "error (%)"), (("RNN", "1.5"), ("a|b", "0.5")), "in brackets: none")


def terminal(table: Table, width: int) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table.printed())
    return capture.get()


def test_a_page_has_every_cell_in_its_column() -> None:
    head, rule, *rows = NUMBERS.markdown().splitlines()
    assert head == "| model | error (%) |"
    assert rule == "| --- | --- |"
    assert rows[0] == "| RNN | 1.5 |"


def test_bars_in_cells_do_not_make_columns() -> None:
    assert "| a\\|b | 0.5 |\n" in NUMBERS.markdown()


def test_the_note_comes_last() -> None:
    assert NUMBERS.markdown().endswith("\n\nIn brackets: none.\n")
    assert "In brackets" not in Table("", ("a",), (("b",),)).markdown()


def test_numbers_stand_below_each_other_in_the_terminal() -> None:
    lines = terminal(NUMBERS, 60).splitlines()
    assert lines[0].strip() == "Errors"
    first, second = (next(line for line in lines if text in line) for text in ("1.5", "0.5"))
    assert first.index("1.5") == second.index("0.5")


@pytest.mark.parametrize("width", [60, 120])
def test_sentences_get_the_width(width: int) -> None:
    words = " ".join(["word"] * 40)
    shown = terminal(Table("", ("claim", "holds here", "found"), (("short", "in part", words),)), width)
    assert "in part" in shown
    assert shown.count("word") == 40
    assert len(shown.splitlines()) < 20
