"""Write the figures that checkpoints store in their metrics.json into README.md and checkpoints/README.md.

What stands between `<!-- NAME -->` and `<!-- end of NAME -->` there is replaced.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm_explorer.checkpoints import SHIPPED_CHECKPOINTS, discover, read_json, write_text
from train.results_table import tables

REPO = Path(__file__).resolve().parents[1]
GROUPS = ("fashion_mnist", "sizes", "lab")
"""The folders of checkpoints, and the names of their sections in checkpoints/README.md."""
IN_README = ("fashion_mnist", "sizes")


def command_table(group: str) -> str:
    rows = ["| checkpoint | command | M parameters | images | precision | CPU-minutes |", f"|{' --- |' * 6}"]
    for path in sorted(SHIPPED_CHECKPOINTS.glob(f"{group}/*/metrics.json")):
        cost = read_json(path)["training"]
        rows.append(
            f"| {path.parent.name} | `{cost['command']}` | {cost['parameters'] / 1e6:.2f} | {cost['images']:,} "
            f"| {cost['precision']} | {cost['cpu_minutes']} |"
        )
    return "\n".join(rows)


def figure_tables(group: str) -> str:
    """The full figures of the measured checkpoints of a group, as Markdown."""
    measured = {
        checkpoint.name: checkpoint.metrics["evaluation"]
        for checkpoint in discover(SHIPPED_CHECKPOINTS / group)[0]
        if "evaluation" in checkpoint.metrics
    }
    return "\n\n".join(tables(measured))


def write_sections(path: Path, sections: dict[str, str]) -> None:
    """Replace the text of the named sections of a Markdown file."""
    text = path.read_text()
    for name, content in sections.items():
        before, rest = text.split(f"<!-- {name} -->")
        _, after = rest.split(f"<!-- end of {name} -->")
        text = f"{before}<!-- {name} -->\n{content}\n<!-- end of {name} -->{after}"
    write_text(path, text)


def main() -> None:
    figures = {group: figure_tables(group) for group in GROUPS}
    write_sections(REPO / "README.md", {"results": "\n\n".join(figures[group] for group in IN_README)})
    commands = {group: f"{command_table(group)}\n\n{figures[group]}".rstrip() for group in GROUPS}
    write_sections(SHIPPED_CHECKPOINTS / "README.md", commands)


if __name__ == "__main__":
    main()
