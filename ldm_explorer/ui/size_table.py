"""The stored figures of checkpoints as a table, each with what makes it readable."""

from collections.abc import Sequence

from ldm_explorer.explore.size_figures import SizeFigures
from ldm_explorer.ui.html import Markup, html, table
from ldm_explorer.ui.pictures import scrolling

COLUMNS = (
    ("checkpoint", lambda r: r.name),
    ("latent", lambda r: r.size.shape),
    ("values", lambda r: f"{r.size.values:,}"),
    ("compression", lambda r: f"{r.size.pixels / r.size.values:.1f}x" if r.size.compresses else "none"),
    ("PSNR dB ↑", lambda r: _beside(r, "psnr_db", PCA="pca_psnr_db" if r.size.compresses else "lossless")),
    ("SSIM ↑", lambda r: _beside(r, "ssim")),
    ("rFD % ↓", lambda r: _beside(r, "rfd_percent", floor="fd_floor_percent")),
    ("FD % ↓", lambda r: _beside(r, "fd_percent", spread="fd_percent_spread", noise="fd_decoded_noise_percent")),
    ("sampled by", lambda r: f"{r.sampler}, {r.evaluations}" if r.sampler else "–"),
    ("coverage ↑", lambda r: _beside(r, "coverage", real="coverage_of_real")),
    ("class consistency", lambda r: _beside(r, "class_consistency", classifier="classifier_accuracy")),
    ("copying", lambda r: _beside(r, "copying_ratio", near="copying_near_share")),
    ("GFLOPs ↓", lambda r: _beside(r, "gflops_per_image")),
)
EXPLANATION = (
    "PSNR and SSIM: reconstructions of the test set; PCA: the best linear code of as many values. FD: Fréchet "
    "distance of samples to the test images in the features of a small classifier trained here, in percent of their "
    "variance (compares with no published FID), its spread over sampling seeds, and that of decoded random latents "
    "(noise); rFD: the same for reconstructions; floor: for other real images. Sampled by: the sampler and its number "
    "of evaluations; FDs by others are not comparable. Coverage: share of real images with a sample near them, and "
    "that for as many real images. Class consistency is read beside the classifier's own accuracy. Copying: distance "
    "of samples to their nearest training image over that of reconstructed test images (1: as new as these), and the "
    "share nearer than 99 % of those (.01: none is copied). GFLOPs of one image: the network's evaluations and one "
    "decode. A dash: not measured."
)


def size_table(figures: Sequence[SizeFigures]) -> Markup:
    """A row per checkpoint, as HTML."""
    rows = [[cell(item) for _, cell in COLUMNS] for item in figures]
    return scrolling(table((title for title, _ in COLUMNS), rows), "comparison")


def _beside(item: SizeFigures, measure: str, **context: str) -> Markup | str:
    """A figure and below it what makes it readable, measures or words; a dash where it was not measured."""
    value = item.get(measure)
    if value is None:
        return "–"
    readable = {name: word if word == "lossless" else _text(item.get(word)) for name, word in context.items()}
    known = ", ".join(f"{name} {text}" for name, text in readable.items() if text)
    return html("{}<small>{}</small>", _text(value), known) if known else _text(value)


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
