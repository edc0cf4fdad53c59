"""The pages: their programs run, their links lead somewhere, and the reference has every public name."""

import importlib
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])
PACKAGES = ("isocline", "isocline.models", "isocline.models.flows", "isocline.data", "isocline.compat.torchdiffeq")
NEEDS = {"isocline.data": "sklearn"}
"""Packages that need an extra."""

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def programs(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def prose(page: Path) -> str:
    """The page without its code."""
    return re.sub(r"^```.*?^```|`[^`\n]*`", "`code`", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """What headings of the page can be linked to, and what the reference puts there."""
    text = page.read_text()
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    words = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"\s", "-", word) for word in words} | set(re.findall(r"^::: (\S+)$", text, re.MULTILINE))


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """File and anchor of each link that stays here."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if not re.match(r"[a-z]+:", target):
            file, _, anchor = target.partition("#")
            yield (page.parent / file).resolve() if file else page, anchor


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.parent == DOCS and programs(page)], ids=lambda p: p.stem
)
def test_the_programs_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, as a reader would."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "torchdiffeq", ModuleType("torchdiffeq"))  # one page replaces it
    names: dict[str, Any] = {"__name__": page.stem}
    for number, program in enumerate(programs(page), 1):
        exec(compile(program, f"{page.name}, program {number}", "exec"), names)


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for file, anchor in links(page):
        assert file.exists(), f"{page.name} links to {file}"
        assert not anchor or anchor in anchors(file), f"{page.name} links to {file.name}#{anchor}"
        if page.is_relative_to(DOCS):
            assert file.is_relative_to(DOCS), f"{page.name} links to {file}, which is not part of the site"


def test_the_site_has_every_page() -> None:
    def files(entries: Any) -> Iterator[str]:
        for entry in entries:
            for value in entry.values():
                yield from [value] if isinstance(value, str) else files(value)

    shown = list(files(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]))
    assert sorted(shown) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def documented() -> list[str]:
    return [
        name
        for page in sorted((DOCS / "api").glob("*.md"))
        for name in re.findall(r"^::: (\S+)$", page.read_text(), re.M)
    ]


def looked_up(name: str) -> Any:
    """What the dotted name is in Python; a function before the module that it hides."""
    module, _, attribute = name.rpartition(".")
    return getattr(sys.modules.get(module) or importlib.import_module(module), attribute)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_reference_has_every_public_name(package: str) -> None:
    if package in NEEDS:
        pytest.importorskip(NEEDS[package])
    module = importlib.import_module(package)
    found = [looked_up(name) for name in documented()]
    for name in module.__all__:
        assert sum(thing is getattr(module, name) for thing in found) == 1, f"{package}.{name}"


def test_the_paper_page_has_every_experiment() -> None:
    registry = pytest.importorskip("isocline.experiments.registry")
    text = (DOCS / "paper.md").read_text()
    for name in registry.EXPERIMENTS:
        assert re.search(rf"`(isocline reproduce )?{name}`", text), name
    for name in re.findall(r"isocline reproduce ([\w-]+)", text):
        assert name in {"all", *registry.EXPERIMENTS}, name
