"""The page of what was trained is made of the kept results."""

import re

from benchmarks.reproductions import PAGE, page


def test_the_page_is_that_of_the_kept_results() -> None:
    assert PAGE.read_text() == page()


def test_commands_name_no_place_of_one_machine() -> None:
    assert not [line for line in PAGE.read_text().splitlines() if re.search(r"`isocline [^`]* ~?/", line)]
