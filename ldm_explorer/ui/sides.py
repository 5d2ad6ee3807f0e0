"""A and B: whether they can stand side by side, and how far apart they are."""

import math
from typing import TypeVar

from torch import Tensor

from ldm_explorer.explore.denoising import closeness_db
from ldm_explorer.explore.library import Library
from ldm_explorer.ui.settings import Settings

S = TypeVar("S", bound=Settings)


def comparable(library: Library, chosen: S, beside: S | None) -> tuple[list[S], list[str]]:
    """A, and B where its checkpoint was trained on the same images; otherwise a sentence that says why it is not there.

    Raises `ValueError` for a checkpoint that is not there.
    """
    if beside is None:
        return [chosen], []
    name = beside.checkpoint  # type: ignore[attr-defined]
    if library.get(name).name in library.of_same_images(chosen.checkpoint):  # type: ignore[attr-defined]
        return [chosen, beside], []
    return [chosen], [f"{name} was trained on other images and is not shown."]


def lettered(titles: list[str]) -> list[str]:
    """Titles that say which is A and which B, where there are two."""
    return titles if len(titles) < 2 else [f"{letter} · {title}" for letter, title in zip("AB", titles, strict=True)]


def decibels(images: Tensor, others: Tensor) -> str:
    """PSNR between images `(B, C, H, W) uint8`."""
    db = closeness_db(images, others)
    return "identical" if math.isinf(db) else f"PSNR {db:.1f} dB"
