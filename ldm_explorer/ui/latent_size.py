"""Tab: which latent size?"""

from collections.abc import Iterator

import gradio as gr
import torch

from ldm_explorer.evaluation.measures import MEASURES
from ldm_explorer.explore.latent_size import SizePictures, compare_sizes
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.size_answer import answer_in_numbers, answer_in_short, continuity_in_numbers
from ldm_explorer.explore.size_measures import (
    SizeMeasures,
    comparable_names,
    csv_table,
    default_names,
    family_names,
    family_spread,
    kl_row,
    read_measures,
)
from ldm_explorer.figures.continuity import KL_MEASURES, PANELS, kl_figure, panel_figure
from ldm_explorer.figures.latent_size import ROWS, answer_figure
from ldm_explorer.samplers import DEFAULT_NUM_STEPS
from ldm_explorer.ui.common import (
    SharedChoices,
    answer_changes,
    answer_when_opened,
    bind,
    chosen_image,
    opening,
)
from ldm_explorer.ui.html import Markup
from ldm_explorer.ui.latent_views import build_views
from ldm_explorer.ui.pictures import Picture, csv_link, error_map, grid, notice, picture_row
from ldm_explorer.ui.server.work import LONG
from ldm_explorer.ui.size_table import explanation, size_table

TITLE = "Which latent size?"
WHAT_TO_LOOK_AT = (
    "A latent is a grid of **side** x side places with some **channels** each: 8x8x4 holds 256 values. What more "
    "values, and more side, give and cost:"
)
HOW_TO_READ = (
    "One colour per side, open symbols where nothing is compressed; PCA is the best linear code of as many values. All "
    "of the family trained for equally long, so finer grids have narrower networks: at the widths of an 8x8 grid, one "
    "evaluation at 32x32 would cost 15 times as much.\n\n"
    "The spread of seeds is how far apart three short trainings end that differ in their seed alone, relative to their "
    "mean but for decibels; it was measured at 8x8x4 and 32x32x1, and the larger spread counts. A smaller difference "
    "is called luck; in each measure next to none to a third of the pairs of latents that are equally good would still "
    "be told apart, by how much their own seeds vary. Whiskers show this spread."
)
WHAT_KL_SHOWS = (
    "### What does the KL term do?\nThe same autoencoder with other weights of the KL term, which pulls every value of "
    "the latent towards noise: the active units are those that still say something about the image. Where none is "
    "left, the posterior has collapsed."
)
WHAT_CONTINUITY_IS = (
    "### Is the latent space continuous?\nThat is several questions, and one latent can do well in one and badly in "
    "another: no single grade is made of them. Colours are those of the sides, open symbols compress nothing."
)
MAIN_COLUMNS = [*ROWS, "pca_psnr_db", "fd_percent_spread", "fd_floor_percent"]


def show_measures(library: Library, checkpoint: str, names: list[str]):
    """Stored measures of checkpoints: the answer in words, its figure, the answer in numbers, a table, the figure over
    KL weights, and those of continuity; each Plotly figure followed by its table as a link to CSV in HTML."""
    sizes = read_measures(library, comparable_names(library, checkpoint, names))
    family, spread = _family(library, checkpoint), family_spread(library, checkpoint)
    main = answer_figure(sizes, spread), csv_link(csv_table(sizes, MAIN_COLUMNS), "latent-size")
    answers = answer_in_short(family, spread), *main, answer_in_numbers(family, spread)
    of_continuity = continuity_in_numbers(family, spread), *_panels(sizes, spread)
    return *answers, size_table(sizes), *_kl(family, spread), *of_continuity


def compare_pictures(
    library: Library,
    checkpoint: str,
    class_name: str,
    number: float,
    upload: str | None,
    seed: float,
    names: list[str],
) -> Iterator[Markup]:
    """Reconstructions of the same images, their errors, and samples from the same seeds, as HTML; one checkpoint after
    the other."""
    image = chosen_image(library, checkpoint, class_name, number, upload)
    chosen = comparable_names(library, checkpoint, names)
    others = [
        f"{name} was trained on other images." for name in names if name not in library.of_same_images(checkpoint)
    ]
    shown = notice(others)
    for result in compare_sizes(library, chosen, image.pixels, int(seed), DEFAULT_NUM_STEPS):
        shown += _pictures(result)
        yield shown


def measures_csv(library: Library, names: list[str]) -> str:
    """All stored measures of checkpoints as CSV, a line for each: reconstruction, generation, cost and continuity."""
    sizes = read_measures(library, names)
    return csv_table(sizes, list(dict.fromkeys([*MEASURES, *(name for item in sizes for name in item.measures)])))


def _family(library: Library, checkpoint: str) -> tuple[SizeMeasures, ...]:
    names = family_names(library, checkpoint)
    return read_measures(library, names) if names else ()


def _kl(family: tuple[SizeMeasures, ...], spread: dict[str, float]) -> tuple:
    """Whether there are several KL weights, the figure and its table."""
    row = kl_row(family)
    if not row:
        return gr.update(visible=False), None, ""
    return gr.update(visible=True), kl_figure(row, spread), csv_link(csv_table(row, KL_MEASURES), "kl-weight")


def _panels(sizes: tuple[SizeMeasures, ...], spread: dict[str, float]) -> list:
    shown = []
    for name, panel in PANELS.items():
        shown += [panel_figure(panel, sizes, spread), csv_link(csv_table(sizes, panel.columns), name)]
    return shown


def _pictures(result: SizePictures) -> Markup:
    errors = torch.stack([error_map(error) for error in result.errors])
    pictures = [
        Picture(grid(result.images), "Test images", "the chosen one, then one of each class"),
        Picture(grid(result.reconstructions), "Reconstructions", "of the same images"),
        Picture(grid(errors), "Errors", "orange: too bright, blue: too dark; full at a tenth of the range"),
    ]
    if result.samples is not None:
        caption = f"one of each class, {result.num_steps} evaluations, guidance 1"
        pictures.append(Picture(grid(result.samples), "Generated", caption))
    return picture_row(pictures, f"{result.name}: {result.size}", layout="four")


def build(library: Library, shared: SharedChoices) -> None:
    """Lay out the tab inside the current Blocks."""
    names = gr.CheckboxGroup(
        library.names(),
        value=default_names(library, shared.checkpoint.value),
        label="Checkpoints to compare",
        render=False,
    )
    measures, pictures = bind(show_measures, library), bind(compare_pictures, library, LONG)
    first = iter(opening(measures, [shared.checkpoint, names]))
    tab = gr.Markdown(WHAT_TO_LOOK_AT).parent
    shown = [gr.Markdown(next(first)), *_figure(first), gr.Markdown(next(first))]
    gr.Markdown(HOW_TO_READ)
    names.render()
    shown.append(gr.HTML(next(first)))
    with gr.Accordion("What the columns mean", open=False):
        gr.Markdown(explanation())
    inputs = [*shared.image, shared.seed, names]
    shown_pictures = gr.HTML("")
    shown += _build_continuity(first)
    answer_changes(measures, [shared.checkpoint, names], shown, "compare_sizes")
    answer_when_opened(tab, pictures, inputs, shown_pictures)
    answer_changes(pictures, inputs, shown_pictures, "compare_pictures")
    gr.api(bind(measures_csv, library), api_name="size_figures", api_description=measures_csv.__doc__)
    build_views(library, tab, shared, names)


def _build_continuity(first: Iterator) -> list[gr.components.Component]:
    """The figure over KL weights, where there is one, and the small figures, three in a row where there is room."""
    with gr.Column(visible=next(first)["visible"]) as section:
        gr.Markdown(WHAT_KL_SHOWS)
        shown = [section, *_figure(first)]
    gr.Markdown(WHAT_CONTINUITY_IS)
    shown.append(gr.Markdown(next(first)))
    with gr.Row():
        for panel in PANELS.values():
            with gr.Column(min_width=320):
                gr.Markdown(f"#### {panel.title}")
                plot = gr.Plot(next(first), show_label=False, min_width=320)
                gr.Markdown(panel.reading)
                shown += [plot, _table_link(next(first))]
    return shown


def _figure(first: Iterator) -> list[gr.components.Component]:
    """A figure and the button that saves its table."""
    return [gr.Plot(next(first), show_label=False, min_width=320), _table_link(next(first))]


def _table_link(link: Markup) -> gr.HTML:
    return gr.HTML(link, padding=False)
