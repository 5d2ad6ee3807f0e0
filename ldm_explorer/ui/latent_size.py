"""Tab: which latent size?"""

import html

import gradio as gr
from PIL import Image

from ldm_explorer.explore.latent_size import SizeReport, compare_sizes
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.reconstruction import LatentSize, latent_size
from ldm_explorer.figures.latent_size import distance_figure, psnr_figure
from ldm_explorer.ui.common import MODEL_QUEUE, SharedChoices, answer_changes, bind, chosen_image, opening
from ldm_explorer.ui.pictures import Picture, grid, notice, picture_row, scrolling

TITLE = "Which latent size?"
WHAT_TO_LOOK_AT = (
    "A larger latent loses less, but the denoiser then has more to learn and more to compute: look at PSNR and at "
    "feature FD together, and at the samples. **Latent size** is the side of the grid (8 is 8x8); channels are its "
    "second axis, and what counts is the number of values."
)
NUM_STEPS = 25

COLUMNS = (
    ("checkpoint", lambda r: r.name),
    ("latent", lambda r: f"{r.size.side}x{r.size.side}x{r.size.channels}"),
    ("values", lambda r: f"{r.size.values:,}"),
    ("compression", lambda r: f"{r.size.pixels / r.size.values:.1f}x" if r.size.compresses else "none"),
    ("PSNR dB \u2191", lambda r: _beside(r.psnr_db, PCA=r.pca_psnr_db if r.size.compresses else "lossless")),
    ("SSIM \u2191", lambda r: _beside(r.ssim)),
    ("rFD % \u2193", lambda r: _beside(r.rfd_percent, floor=r.fd_floor_percent)),
    ("FD % \u2193", lambda r: _beside(r.fd_percent, noise=r.fd_decoded_noise_percent)),
    ("class consistency", lambda r: _beside(r.class_consistency, classifier=r.classifier_accuracy)),
    ("GFLOPs/image \u2193", lambda r: _beside(r.gflops_per_sample)),
)
EXPLANATION = (
    "PSNR and SSIM: reconstructions of the test set; PCA: the best linear code of as many values. FD: Fréchet distance "
    "of 10,000 samples to the test images in the features of a small classifier trained here, in percent of their "
    "variance (compares with no published FID); rFD: the same for reconstructions; floor: for other real images; of "
    "noise: for decoded random latents. Class consistency is read beside the classifier's own accuracy. A dash: not "
    "measured."
)


def compare(
    library: Library,
    checkpoint: str,
    class_name: str,
    number: float,
    upload: Image.Image | None,
    seed: float,
    names: list[str],
):
    """Checkpoints side by side on the same images and seeds: a table and pictures as HTML, and two Plotly figures."""
    image = chosen_image(library, checkpoint, class_name, number, upload)
    comparable = library.of_same_images(checkpoint)
    others = [f"{name} was trained on other images." for name in names if name not in comparable]
    chosen = [name for name in names if name in comparable]
    if names and not chosen:  # as it stands after a checkpoint over other images was chosen
        chosen = default_names(library, checkpoint)
    reports = compare_sizes(library, chosen, image.pixels, int(seed), NUM_STEPS)
    pictures = notice(others) + "".join(_pictures(report) for report in reports)
    return _table(reports), pictures, psnr_figure(reports), distance_figure(reports)


def _beside(figure: float | None, **context: float | str | None) -> str:
    """A figure with what makes it readable in brackets; a dash where it was not measured."""

    def text(value: float | str) -> str:
        return value if isinstance(value, str) else f"{value:.3g}"

    if figure is None:
        return "\u2013"
    known = ", ".join(f"{name} {text(value)}" for name, value in context.items() if value is not None)
    return f"{text(figure)} ({known})" if known else text(figure)


def _table(reports: tuple[SizeReport, ...]) -> str:
    head = "".join(f"<th scope='col'>{title}</th>" for title, _ in COLUMNS)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(figure(report))}</td>" for _, figure in COLUMNS) + "</tr>"
        for report in reports
    )
    return scrolling(f'<table class="ldm-table"><tr>{head}</tr>{rows}</table>', "comparison")


def _pictures(report: SizeReport) -> str:
    pictures = [
        Picture(grid(report.images), "Test images", "the chosen one, then one of each class"),
        Picture(grid(report.reconstructions), "Reconstructions", "of the same images"),
    ]
    if report.samples is not None:
        caption = f"one of each class, {report.num_steps} evaluations, guidance 1"
        pictures.append(Picture(grid(report.samples), "Generated", caption))
    return picture_row(pictures, f"{report.name}: {report.size}", layout="large")


def default_names(library: Library, checkpoint: str) -> list[str]:
    """The denoisers of different latents over the same images as `checkpoint`, else all that are over these."""
    sizes: dict[LatentSize, str] = {}
    comparable = library.of_same_images(checkpoint)
    for name in comparable:
        if library.get(name).kind == "ldm":
            sizes.setdefault(latent_size(library.get(name)), name)
    return list(sizes.values()) if len(sizes) > 1 else comparable


def build(library: Library, shared: SharedChoices) -> None:
    """Lay out the tab inside the current Blocks."""
    gr.Markdown(WHAT_TO_LOOK_AT)
    names = gr.CheckboxGroup(
        library.names(), value=default_names(library, shared.checkpoint.value), label="Checkpoints to compare"
    )
    handler = bind(compare, library)
    inputs = [*shared.image, shared.seed, names]
    table, pictures, *figures = opening(handler, inputs)
    shown = [gr.HTML(table)]
    gr.Markdown(EXPLANATION)
    shown.append(gr.HTML(pictures))
    with gr.Row():
        shown += [gr.Plot(figure, show_label=False, min_width=320) for figure in figures]
    answer_changes(handler, inputs, shown, "compare_sizes", **MODEL_QUEUE)
