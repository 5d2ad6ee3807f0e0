"""Write the figures that checkpoints store, and what follows from them, into README.md and checkpoints/README.md.

What stands between `<!-- NAME -->` and `<!-- end of NAME -->` there is replaced.
"""

from pathlib import Path

from ldm_explorer.atomic import write_text
from ldm_explorer.checkpoints import discover, read_json
from ldm_explorer.evaluation.results_table import tables
from ldm_explorer.explore.library import open_library
from ldm_explorer.explore.size_answer import answer_in_figures, answer_in_short, continuity_in_figures
from ldm_explorer.explore.size_figures import FAMILY, read_figures, read_training_spread
from ldm_explorer.shipped import shipped_checkpoints

REPO = Path(__file__).resolve().parents[1]
GROUPS = ("fashion_mnist", FAMILY, "lab")
"""The folders of checkpoints, and the names of their sections in checkpoints/README.md."""
IN_README = ("fashion_mnist", FAMILY)


def command_table(group: str) -> str:
    """What trained each checkpoint, and its autoencoder where that has no folder of its own."""
    files = sorted(shipped_checkpoints().glob(f"{group}/*/metrics.json"))
    costs = {path.parent.name: cost for path in files if (cost := read_json(path).get("training"))}
    commands = {cost["command"] for cost in costs.values()}
    for name, cost in tuple(costs.items()):
        autoencoder = cost.get("autoencoder")
        if autoencoder and autoencoder["command"] not in commands:
            commands.add(autoencoder["command"])
            costs[f"{name}, its autoencoder"] = autoencoder
    rows = ["| checkpoint | command | M parameters | images | precision | CPU-minutes |", f"|{' --- |' * 6}"]
    rows += [
        f"| {name} | `{cost['command']}` | {cost['parameters'] / 1e6:.2f} | {cost['images']:,} "
        f"| {cost['precision']} | {cost['cpu_minutes']} |"
        for name, cost in sorted(costs.items())
    ]
    return "\n".join(rows)


def figure_tables(group: str) -> str:
    """The full figures of the measured checkpoints of a group, as Markdown."""
    checkpoints = discover(shipped_checkpoints() / group)[0]

    def stored(section: str) -> dict[str, dict]:
        return {run.name: run.metrics[section] for run in checkpoints if section in run.metrics}

    return "\n\n".join([*tables(stored("evaluation")), *tables(stored("few_evaluations"))])


def latent_size_answer() -> str:
    """What the app says about the family, too."""
    library = open_library(shipped_checkpoints() / FAMILY)
    family, spread = read_figures(library, library.names()), read_training_spread(shipped_checkpoints() / FAMILY)
    lists = {
        "": answer_in_short(family, spread),
        "In figures:\n\n": answer_in_figures(family, spread),
        "[Continuity](#what-the-figures-mean) in figures, of all of which less is better:\n\n": continuity_in_figures(
            family, spread
        ),
    }
    return "\n\n".join(title + text for title, text in lists.items() if text)


def with_sections(text: str, sections: dict[str, str]) -> str:
    """A Markdown text with the content of its named sections replaced."""
    for name, content in sections.items():
        before, rest = text.split(f"<!-- {name} -->")
        _, after = rest.split(f"<!-- end of {name} -->")
        text = f"{before}<!-- {name} -->\n{content}\n<!-- end of {name} -->{after}"
    return text


def texts() -> dict[Path, str]:
    """Both files, with the figures as they are stored now."""
    figures = {group: figure_tables(group) for group in GROUPS}
    in_readme = {"latent size": latent_size_answer(), "results": "\n\n".join(figures[group] for group in IN_README)}
    commands = {group: f"{command_table(group)}\n\n{figures[group]}".rstrip() for group in GROUPS}
    sections = {REPO / "README.md": in_readme, shipped_checkpoints() / "README.md": commands}
    return {path: with_sections(path.read_text(), content) for path, content in sections.items()}


def main() -> None:
    for path, text in texts().items():
        write_text(path, text)


if __name__ == "__main__":
    main()
