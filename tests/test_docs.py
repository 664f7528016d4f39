"""What the README and the quickstart say can be pasted and runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


PAGES = ["README.md", "docs/quickstart.md", *sorted(f"docs/networks/{p.name}" for p in ROOT.glob("docs/networks/*.md"))]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_python_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)


def test_pictures_and_links_of_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text()
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert link.startswith("http") or (ROOT / link).exists(), link


@pytest.mark.parametrize("page", [p for p in PAGES if "networks/" in p])
def test_a_page_of_a_network_ends_with_its_picture(page: str) -> None:
    path = ROOT / page
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", path.read_text())
    assert f"../img/{path.stem}.png" in pictures
    for picture in pictures:
        assert (path.parent / picture).exists(), picture


def test_nothing_points_at_somebodys_machine() -> None:
    pattern = re.compile(r"/(?:home|root|work|Users)/")
    for path in [*ROOT.glob("*.md"), *ROOT.glob("src/**/*.py"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*")]:
        if path.is_file() and path.suffix in (".md", ".py"):
            assert not pattern.search(path.read_text()), path
