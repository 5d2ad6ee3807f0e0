"""A and B: whether they can stand side by side, and how far apart they are."""

import math
from typing import TypeVar

from torch import Tensor

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.explore.denoising import closeness_db
from ldm_explorer.explore.images import ANY_CLASS
from ldm_explorer.explore.library import Library
from ldm_explorer.ui.settings import Settings

S = TypeVar("S", bound=Settings)


def comparable(library: Library, chosen: S, beside: S | None) -> tuple[list[S], list[str]]:
    """A, and B where its checkpoint makes the same images, so far as is known; otherwise a sentence that says why it is
    not there. Of a model whose classes have no names B has the class of A's number.

    Raises `ValueError` for a checkpoint that is not there.
    """
    if beside is None:
        return [chosen], []
    names = [side.checkpoint for side in (chosen, beside)]  # type: ignore[attr-defined]
    if library.comparable(*names) or library.may_be_comparable(*names):
        return [chosen, in_its_classes(library, chosen, beside)], []
    one, other = map(library.get, names)
    return [chosen], [f"{other.name} {_why_not(one, other)} and is not shown."]


def in_its_classes(library: Library, chosen: S, beside: S) -> S:
    """B with the class of A's number where their classes are not the same: it would not know A's by its name.

    Raises `ValueError` for a checkpoint that is not there.
    """
    names = [side.checkpoint for side in (chosen, beside)]  # type: ignore[attr-defined]
    if library.comparable(*names):
        return beside
    own, others = (library.get(name).spec.class_names for name in names)
    return beside.model_copy(update=_its_class(own, others, chosen))


def _why_not(one: Checkpoint, other: Checkpoint) -> str:
    """What keeps two checkpoints apart, as far as it is known."""
    if one.model.is_ours and other.model.is_ours:
        return "was trained on other images"
    return f"takes images of {_size(other)}, {one.name} of {_size(one)}"


def _size(checkpoint: Checkpoint) -> str:
    side = checkpoint.spec.model_side
    return f"{side} x {side} in {'grey' if checkpoint.spec.channels == 1 else 'colour'}"


def _its_class(names: tuple[str, ...], others: tuple[str, ...], chosen: Settings) -> dict[str, str]:
    """The class of the same number among others, where there is one."""
    class_name = getattr(chosen, "class_name", None)
    place = names.index(class_name) if class_name in names else 0
    return {"class_name": others[place] if place < len(others) else ANY_CLASS}


def lettered(titles: list[str]) -> list[str]:
    """Titles that say which is A and which B, where there are two."""
    return titles if len(titles) < 2 else [f"{letter} · {title}" for letter, title in zip("AB", titles, strict=True)]


def decibels(images: Tensor, others: Tensor) -> str:
    """PSNR between images `(B, C, H, W) uint8`."""
    db = closeness_db(images, others)
    return "identical" if math.isinf(db) else f"PSNR {db:.1f} dB"
