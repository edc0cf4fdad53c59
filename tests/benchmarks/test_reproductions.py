"""The page of what was trained is made of the kept results."""

from benchmarks.reproductions import PAGE, page


def test_the_page_is_that_of_the_kept_results() -> None:
    assert PAGE.read_text() == page()
