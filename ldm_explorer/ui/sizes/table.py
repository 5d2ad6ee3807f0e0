"""Part: the stored measures of checkpoints as a table, each with what makes it readable."""

from collections.abc import Iterator, Sequence

import gradio as gr

from ldm_explorer.evaluation.measures import MEASURES, Measure, on_their_own
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.size_measures import SizeMeasures, csv_table
from ldm_explorer.ui.html import Markup, html, table
from ldm_explorer.ui.pictures import csv_link, scrolling
from ldm_explorer.ui.server.work import LIGHT
from ldm_explorer.ui.sizes.compared import Compared, compared

NAME = "sizes-table"
QUESTION = "What was measured of latents of different sizes?"
TITLE = "All measures as a table"
FOLDED = True
WORK = LIGHT
SETTINGS = Compared
ARROWS = {"higher": " ↑", "lower": " ↓", "neither": ""}
FACTS = (
    ("checkpoint", lambda r: r.name),
    ("latent", lambda r: r.size.shape),
    ("values", lambda r: f"{r.size.values:,}"),
    ("compression", lambda r: f"{r.size.pixels / r.size.values:.1f}x" if r.size.compresses else "none"),
    ("sampled by", lambda r: f"{r.sampler}, {r.evaluations}" if r.sampler else "–"),
)
HOW_SAMPLED = (
    "Sampled by: the sampler and its number of evaluations; samples by others are not comparable. A dash: not measured."
)


def build(_library: Library) -> list[gr.components.Component]:
    shown = [gr.HTML("", padding=False), gr.HTML("", padding=False)]
    gr.Markdown(explanation())
    return shown


def answer(library: Library, chosen: Compared, _beside: Compared | None) -> Iterator[tuple]:
    """A row per checkpoint, and all that is stored of them as CSV."""
    sizes = compared(library, chosen)
    yield size_table(sizes), csv_link(all_measures(sizes), "latent-size-all-measures")


def all_measures(sizes: Sequence[SizeMeasures]) -> str:
    """All stored measures of checkpoints as CSV, a line for each: reconstruction, generation, cost and continuity."""
    return csv_table(sizes, list(dict.fromkeys([*MEASURES, *(name for item in sizes for name in item.measures)])))


def explanation() -> str:
    """What the columns mean, as Markdown."""
    lines = []
    for measure in _compared():
        readable = "".join(f" *{MEASURES[name].label}*: {MEASURES[name].definition}" for name in measure.beside)
        lines.append(f"- **{measure.title}**: {measure.definition}{readable}")
    return "\n".join([HOW_SAMPLED, "", *lines])


def size_table(sizes: Sequence[SizeMeasures]) -> Markup:
    """A row per checkpoint, as HTML."""
    titles = [*(title for title, _ in FACTS), *(f"{m.heading}{ARROWS[m.better]}" for m in _compared())]
    rows = [
        [*(fact(item) for _, fact in FACTS), *(_beside(item, measure) for measure in _compared())] for item in sizes
    ]
    return scrolling(table(titles, rows), "comparison")


def _compared() -> Iterator[Measure]:
    return on_their_own(("reconstruction", "generation", "derived"))


def _beside(item: SizeMeasures, measure: Measure) -> Markup | str:
    """A measure and below it what makes it readable; a dash where it was not measured."""
    value = item.get(measure.name)
    if value is None:
        return "–"
    readable = {MEASURES[name].label: _text(item.get(name)) for name in measure.beside}
    if "pca_psnr_db" in measure.beside and not item.size.compresses:
        readable[MEASURES["pca_psnr_db"].label] = "lossless"
    known = ", ".join(f"{name} {text}" for name, text in readable.items() if text)
    return html("{}<small>{}</small>", _text(value), known) if known else _text(value)


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
