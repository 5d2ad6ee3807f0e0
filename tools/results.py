"""Write what checkpoints store, and what follows from it, into README.md, docs/results.md and checkpoints/README.md.

What stands between `<!-- NAME -->` and `<!-- end of NAME -->` there is replaced. The cards of the checkpoints are
written as those of any run.
"""

from pathlib import Path

from ldm_explorer.atomic import write_text
from ldm_explorer.discovery import discover
from ldm_explorer.evaluation.measures import MEASURES, measures_table
from ldm_explorer.evaluation.measures.denoiser import FURTHER, FURTHER_FDS
from ldm_explorer.evaluation.reference import flat_measures
from ldm_explorer.evaluation.results_table import tables
from ldm_explorer.explore.library import open_library
from ldm_explorer.explore.size_answer import answer_in_numbers, answer_in_short, continuity_in_numbers
from ldm_explorer.explore.size_measures import FAMILY, read_measures, read_training_spread
from ldm_explorer.explore.twins import answer as answer_of_twins
from ldm_explorer.explore.twins import read_twins
from ldm_explorer.files import read_json
from ldm_explorer.run_layout import CARD_FILE, METRICS_FILE
from ldm_explorer.shipped import shipped_checkpoints
from ldm_explorer.training.run_card import run_card

REPO = Path(__file__).resolve().parents[1]
GROUPS = ("fashion_mnist", FAMILY, "sizes-autoencoders", "lab")
"""The folders of checkpoints, and the names of their sections in checkpoints/README.md."""
MEASURED = ("fashion_mnist", FAMILY)
"""Those with full measures, and the names of their sections in docs/results.md."""
BY_NO_COMMAND = "[a program of its own, on a GPU](#the-flagship)"
LICENSE, CARD_SAYS = "mit", {"parameters", "images", "steps", "cpu_minutes", "gflops_per_image"}
FLAGSHIP, TWIN = "flagship-8x8x4", "size-8x8x4"
HEADLINE = ("psnr_db", "rfd_percent", "fd_percent", "class_consistency")
"""The measures in README.md."""


def command_table(group: str) -> str:
    """What trained each checkpoint, and what it cost; a dash for what was not kept.

    What no command of this repository trained says where its recipe is.
    """
    rows = ["| checkpoint | command | M parameters | images | precision | CPU-minutes |", f"|{' --- |' * 6}"]
    for path in sorted(shipped_checkpoints().glob(f"{group}/*/{METRICS_FILE}")):
        if cost := read_json(path).get("training"):
            command = f"`{cost['command']}`" if "command" in cost else BY_NO_COMMAND
            minutes = cost.get("cpu_minutes", f"{cost['gpu_seconds']:.0f} s of an H100" if "gpu" in cost else "-")
            rows.append(
                f"| {path.parent.name} | {command} | {cost['parameters'] / 1e6:.2f} | {cost['images']:,} "
                f"| {cost.get('precision', '-')} | {minutes} |"
            )
    return "\n".join(rows)


def measure_tables(group: str) -> str:
    """The full measures of the checkpoints of a group, as Markdown."""
    checkpoints = discover(shipped_checkpoints() / group)[0]

    def stored(section: str) -> dict[str, dict]:
        return {run.name: run.metrics[section] for run in checkpoints if section in run.metrics}

    return "\n\n".join([*tables(stored("evaluation")), *tables(stored("few_evaluations"))])


def headline_table(group: str = "fashion_mnist") -> str:
    """The few measures by which the checkpoints of a group are known, beside those of other real images."""
    measured = {
        run.name: flat_measures(run.metrics["evaluation"]) for run in discover(shipped_checkpoints() / group)[0]
    }
    reference = measured[FLAGSHIP]
    floor, accuracy = reference["fd_floor_percent"], reference["classifier_accuracy"]
    measured["other real images"] = {"rfd_percent": floor, "fd_percent": floor, "class_consistency": accuracy}
    measured["other real images"] |= {f"fd_{name}_percent": reference[f"fd_{name}_floor_percent"] for name in FURTHER}
    titles = [MEASURES[name].heading for name in HEADLINE]
    rows = [["checkpoint", *titles], ["---"] * (len(HEADLINE) + 1)]
    rows += [
        [run, *(_headline(measures, name) if name in measures else "-" for name in HEADLINE)]
        for run, measures in measured.items()
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _headline(measures: dict[str, float], name: str) -> str:
    """A measure in the few; behind FD, in brackets, that in the features of the further networks."""
    further = [f"{measures[other]:.2g}" for other in FURTHER_FDS if name == "fd_percent" and other in measures]
    return f"{measures[name]:.3g}" + (f" ({', '.join(further)})" if further else "")


def latent_size_answer() -> str:
    """What the app says about the family, too."""
    library = open_library(shipped_checkpoints() / FAMILY)
    family, spread = read_measures(library, library.names()), read_training_spread(shipped_checkpoints() / FAMILY)
    lists = {
        "": answer_in_short(family, spread),
        "In numbers:\n\n": answer_in_numbers(family, spread),
        "[Continuity](measures.md) in numbers, of all of which less is better:\n\n": continuity_in_numbers(
            family, spread
        ),
    }
    return "\n\n".join(title + text for title, text in lists.items() if text)


def twins_answer() -> str:
    """What the app says of the family's twins, and their table."""
    twins = read_twins(open_library(shipped_checkpoints() / FAMILY), TWIN)
    return answer_of_twins(twins) if twins is None else f"{answer_of_twins(twins)}\n\n{twins.markdown()}"


def with_sections(text: str, sections: dict[str, str]) -> str:
    """A Markdown text with the content of its named sections replaced."""
    for name, content in sections.items():
        before, rest = text.split(f"<!-- {name} -->")
        _, after = rest.split(f"<!-- end of {name} -->")
        text = f"{before}<!-- {name} -->\n{content}\n<!-- end of {name} -->{after}"
    return text


def cards() -> dict[Path, str]:
    """The README of each checkpoint of which is kept what a card says; others have what was written by hand."""
    folders = {
        path.parent: read_json(path).get("training", {}) for path in shipped_checkpoints().glob(f"*/*/{METRICS_FILE}")
    }
    return {
        folder / CARD_FILE: run_card(folder, f"checkpoints/{folder.parent.name}/{folder.name}", license=LICENSE)
        for folder, training in folders.items()
        if training.keys() >= CARD_SAYS
    }


def texts() -> dict[Path, str]:
    """The files, with what is stored now."""
    sections = {
        REPO / "README.md": {"headline": headline_table()},
        REPO / "docs" / "results.md": {
            "latent size": latent_size_answer(),
            "twins": twins_answer(),
            **{group: measure_tables(group) for group in MEASURED},
        },
        REPO / "docs" / "measures.md": {"measures": measures_table()},
        shipped_checkpoints() / "README.md": {group: command_table(group) for group in GROUPS},
    }
    return {path: with_sections(path.read_text(), content) for path, content in sections.items()} | cards()


def main() -> None:
    for path, text in texts().items():
        write_text(path, text)


if __name__ == "__main__":
    main()
