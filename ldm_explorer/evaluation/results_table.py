"""The figures of checkpoints as Markdown tables."""

from collections.abc import Callable
from typing import Any

from ldm_explorer.explore.size_figures import MEASURES

Figures = dict[str, Any]
Column = Callable[[Figures], Any]


def _in(section: str, name: str) -> Column:
    return lambda figures: figures[section][name]


def _measures(section: str, *names: str) -> dict[str, Column]:
    """By the titles that the app gives them."""
    return {f"{MEASURES[name].title} {MEASURES[name].unit}".rstrip(): _in(section, name) for name in names}


RECONSTRUCTION: dict[str, Column] = {
    "values": _in("reconstruction", "values"),
    **_measures("reconstruction", "psnr_db"),
    "PCA dB": lambda figures: figures["reconstruction"]["pca_psnr_db"] or "lossless",
    **_measures("reconstruction", "ssim", "rfd_percent", "fd_floor_percent"),
    **_measures("latent_space", "kl_per_value", "active_units"),
    "GFLOPs encode": _in("cost", "encode_gflops"),
    "GFLOPs decode": _in("cost", "decode_gflops"),
}
CONTINUITY: dict[str, Column] = {
    **_measures("continuity", "ifd_percent", "ifd_random_percent"),
    **_measures("reconstruction", "rfd_percent"),
    **_measures("continuity", "high_share", "high_share_of_images", "flatness", "flatness_of_images", "turn_error"),
    **_measures("continuity", "half_scale_mse", "half_scale_floor_mse"),
    **_measures("continuity", "length_over_chord", "largest_step_over_mean", "stretch", "stretch_variation"),
}
GENERATION: dict[str, Column] = {
    **_measures("generation", "fd_percent", "fd_percent_spread"),
    "sampler": _in("generation", "sampler"),
    "evaluations": _in("generation", "evaluations"),
    **_measures("generation", "fd_floor_percent", "fd_decoded_noise_percent"),
    **_measures("generation", "precision", "recall", "density", "coverage"),
    "of real": lambda figures: " ".join(
        _text(figures["generation"][f"{name}_of_real"]) for name in ("precision", "recall", "density", "coverage")
    ),
    **_measures("generation", "class_consistency", "classifier_accuracy", "copying_ratio", "copying_near_share"),
    "latent std": _in("generation", "latents_std"),
    "GFLOPs/evaluation": _in("cost", "evaluation_gflops"),
}
LOSS: dict[str, Column] = {
    "val loss": _in("loss", "validation_last_tenth"),
    "class Gaussian": lambda figures: figures["loss"]["floors"].get("gaussian_per_class"),
    "Gaussian": lambda figures: figures["loss"]["floors"]["gaussian"],
    "white": lambda figures: figures["loss"]["floors"]["white"],
    "zero": lambda figures: figures["loss"]["floors"]["zero"],
}


def tables(results: dict[str, Figures]) -> list[str]:
    """One Markdown table per kind of figures, with a row for each checkpoint that has some."""
    kinds = (RECONSTRUCTION, CONTINUITY, GENERATION, LOSS, _few_evaluations(results))
    return [table for columns in kinds if (table := _table(results, columns))]


def _few_evaluations(results: dict[str, Figures]) -> dict[str, Column]:
    """FD by sampler and evaluations, one column per number of evaluations; empty when nobody measured it."""
    measured = [figures for figures in results.values() if "evaluations" in figures]
    return {
        f"FD % with {count}": lambda figures, place=place: " ".join(
            f"{name} {_text(curve[place])}" for name, curve in figures["fd_percent"].items()
        )
        for figures in measured[:1]
        for place, count in enumerate(figures["evaluations"])
    }


def _table(results: dict[str, Figures], columns: dict[str, Column]) -> str:
    """With the rows that have a figure in the first column, and the columns that have one in some row."""
    rows = {name: [_cell(column, figures) for column in columns.values()] for name, figures in results.items()}
    rows = {name: cells for name, cells in rows.items() if cells and cells[0] != "-"}
    if not rows:
        return ""
    known = [index for index in range(len(columns)) if any(cells[index] != "-" for cells in rows.values())]
    titles = [title for index, title in enumerate(columns) if index in known]
    lines = [["checkpoint", *titles], ["---"] * (len(titles) + 1)]
    lines += [[name, *(cells[index] for index in known)] for name, cells in rows.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(column: Column, figures: Figures) -> str:
    """A figure that a checkpoint does not have is a dash."""
    try:
        value = column(figures)
    except KeyError:
        value = None
    return _text(value)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
