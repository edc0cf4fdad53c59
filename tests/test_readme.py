"""Programs in the documentation run as they stand."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def programs(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)


def test_the_first_program(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    exec(programs("README.md")[0], names)
    assert capsys.readouterr().out.startswith("torch.Size([100, 128, 2]) ")
    assert all(p.grad is not None for p in names["net"].parameters())  # type: ignore[attr-defined]


def test_the_page_on_series(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    found = programs("docs/series.md")
    assert len(found) == 5
    for program in found:
        exec(program, names)
    assert "torch.Size([9, 2, 2]) tensor(True)" in capsys.readouterr().out
