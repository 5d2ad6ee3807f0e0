"""What the Markdown files say holds: links lead somewhere, commands name what is there, README stays short."""

import re
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
FOLDERS = ("docs", "benchmarks", "checkpoints", "ldm_explorer")
FILES = sorted([*REPO.glob("*.md"), *(path for folder in FOLDERS for path in (REPO / folder).rglob("*.md"))])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
MAX_README_LINES = 118
MAX_README_COLUMNS = 5


def anchors(text: str) -> set[str]:
    """The names that headings get on GitHub."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(path: Path) -> list[str]:
    """The relative links of a file that lead to no file, or to no heading in it."""
    broken = []
    for link in LINK.findall(FENCE.sub("", path.read_text())):
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if ":" in name:  # an address
            continue
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            broken.append(link)
    return broken


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPO)))
def test_every_relative_link_leads_somewhere(path):
    assert broken_links(path) == []


def test_a_link_to_no_file_and_to_no_heading_is_broken(tmp_path):
    (tmp_path / "there.md").write_text("# One heading, here\n```\n# no heading\n```\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](there.md) [b](there.md#one-heading-here) [c](https://a.b/c) [d](gone.md) [e](there.md#no-heading)"
    )
    assert broken_links(page) == ["gone.md", "there.md#no-heading"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPO)))
def test_every_checkpoint_and_script_that_is_named_is_there(path):
    named = re.findall(r"(?<![\w/.])(?:checkpoints|train|tools|tests|benchmarks|docs)/[\w./-]+\w", path.read_text())
    assert [name for name in named if not (REPO / name).exists()] == []


def test_readme_is_short_and_its_tables_are_narrow():
    lines = (REPO / "README.md").read_text().splitlines()
    assert len(lines) <= MAX_README_LINES
    assert max(line.count("|") - 1 for line in lines if line.startswith("|")) <= MAX_README_COLUMNS
