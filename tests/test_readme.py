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


def test_the_page_on_flows_is_one_program() -> None:
    blocks = programs("docs/flows.md")
    assert len(blocks) > 4
    exec("\n".join(blocks), {"__name__": "page"})
