"""The README's first program runs as it stands."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


def test_the_first_program(capsys: pytest.CaptureFixture[str]) -> None:
    program = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)[0]
    names: dict[str, object] = {}
    exec(program, names)
    assert capsys.readouterr().out.startswith("torch.Size([100, 128, 2]) ")
    assert all(p.grad is not None for p in names["net"].parameters())  # type: ignore[attr-defined]
