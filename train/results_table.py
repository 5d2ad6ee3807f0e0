"""The figures of checkpoints as Markdown tables."""

from collections.abc import Callable
from typing import Any

Figures = dict[str, Any]
Column = Callable[[Figures], Any]


def _in(section: str, name: str) -> Column:
    return lambda figures: figures[section][name]


RECONSTRUCTION: dict[str, Column] = {
    "values": _in("reconstruction", "values"),
    "PSNR dB": _in("reconstruction", "psnr_db"),
    "PCA dB": lambda figures: figures["reconstruction"]["pca_psnr_db"] or "lossless",
    "SSIM": _in("reconstruction", "ssim"),
    "rFD %": _in("reconstruction", "rfd_percent"),
    "floor %": _in("reconstruction", "fd_floor_percent"),
    "KL per value": _in("latent_space", "kl_per_value"),
    "active": _in("latent_space", "active_units"),
    "GFLOPs encode": _in("cost", "encode_gflops"),
    "GFLOPs decode": _in("cost", "decode_gflops"),
}
CONTINUITY: dict[str, Column] = {
    "iFD %": _in("continuity", "ifd_percent"),
    "iFD random %": _in("continuity", "ifd_random_percent"),
    "rFD %": _in("reconstruction", "rfd_percent"),
    "high share": _in("continuity", "high_share"),
    "of images": _in("continuity", "high_share_of_images"),
    "flatness": _in("continuity", "flatness"),
    "of images ": _in("continuity", "flatness_of_images"),
    "turn error": _in("continuity", "turn_error"),
    "half scale MSE": _in("continuity", "half_scale_mse"),
    "its floor": _in("continuity", "half_scale_floor_mse"),
    "path/chord": _in("continuity", "length_over_chord"),
    "largest step": _in("continuity", "largest_step_over_mean"),
    "stretch": _in("continuity", "stretch"),
    "its variation": _in("continuity", "stretch_variation"),
}
GENERATION: dict[str, Column] = {
    "FD %": _in("generation", "fd_percent"),
    "spread": _in("generation", "fd_percent_spread"),
    "sampler": _in("generation", "sampler"),
    "evaluations": _in("generation", "evaluations"),
    "floor %": _in("generation", "fd_floor_percent"),
    "noise FD %": _in("generation", "fd_decoded_noise_percent"),
    "precision": _in("generation", "precision"),
    "recall": _in("generation", "recall"),
    "density": _in("generation", "density"),
    "coverage": _in("generation", "coverage"),
    "of real": lambda figures: " ".join(
        _text(figures["generation"][f"{name}_of_real"]) for name in ("precision", "recall", "density", "coverage")
    ),
    "consistency": _in("generation", "class_consistency"),
    "classifier": _in("generation", "classifier_accuracy"),
    "copying ratio": _in("generation", "copying_ratio"),
    "near share": _in("generation", "copying_near_share"),
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
