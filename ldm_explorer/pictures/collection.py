"""All pictures of a place as one tensor, with what is known of them."""

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ldm_explorer.files import printable
from ldm_explorer.memory_map import is_large
from ldm_explorer.pictures.cache import ImageCache
from ldm_explorer.pictures.decoding import DARK_BELOW, Decoded, channels_of, decode_into
from ldm_explorer.pictures.layout import SPLITS, Split
from ldm_explorer.pictures.listing import DataError, LeftOut, Listing, said_of
from ldm_explorer.pictures.picture import depth_of

MemoryMap = Literal["auto", "always", "never"]
"""Whether pictures are read from a memory map on disk: where they would take over half of the memory, or as said."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """`images (N, C, side, side) uint8` (C is 1 when every image is grey), `labels (N,) int64`, `splits` per image.

    They are in the order of their split, then of their name: a split is a slice, which copies nothing.
    """

    where: str  # as messages name it
    images: Tensor
    labels: Tensor
    splits: tuple[Split, ...]
    names: tuple[str, ...]
    class_names: tuple[str, ...]  # () when there are no classes
    left_out: LeftOut
    notes: tuple[str, ...]  # what was recognised

    def split(self, split: Split) -> tuple[Tensor, Tensor]:
        """Images and labels of one. Raises `DataError` where one of the three has none."""
        if missing := [name for name in SPLITS if name not in self.splits]:
            raise DataError(
                f"{printable(self.where)} holds {len(self.names)} images: too few to set some apart for "
                f"{' and '.join(missing)}"
            )
        first = self.splits.index(split)
        rows = slice(first, first + self.splits.count(split))
        return self.images[rows], self.labels[rows]

    @property
    def identity(self) -> str:
        """How many there are and a digest of their names: the same wherever they lie."""
        digest = hashlib.sha256("\0".join(sorted(self.names)).encode("utf-8", "surrogateescape"))
        return f"{len(self.names)} images, names {digest.hexdigest()[:16]}"

    @property
    def summary(self) -> str:
        """One line on what there is, what is left out and why, and what was recognised."""
        classes = f"{len(self.class_names)} classes" if self.class_names else "no classes"
        counts = ", ".join(f"{self.splits.count(split):,} {split}" for split in SPLITS if split in self.splits)
        said = f"{printable(self.where)}: {len(self.names):,} images ({counts}), {classes}, {said_of(self.left_out)}"
        return "; ".join([said, *map(printable, self.notes)])


def read_pictures(listing: Listing, side: int, memory_map: MemoryMap = "auto") -> Pictures:
    """Decode pictures, cropped to their central square and scaled to `side`.

    What cannot be read is named in a warning and left out. A memory map of the same pictures that is there already is
    used unless `memory_map` is "never". Raises `DataError` where nothing can be read.
    """
    cache = ImageCache(listing, side)
    stored = None if memory_map == "never" else cache.read()
    if stored is None and (memory_map == "always" or (memory_map == "auto" and is_large(len(listing) * 3 * side**2))):
        stored = cache.write()
    images, decoded = stored or _in_memory(listing, side)
    kept = [place for place in range(len(listing)) if place not in decoded.broken]
    return Pictures(
        where=listing.where,
        images=images,
        labels=torch.tensor([listing.labels[place] for place in kept]),
        splits=tuple(listing.splits[place] for place in kept),
        names=tuple(listing.names[place] for place in kept),
        class_names=listing.class_names,
        left_out=listing.left_out.and_named("that cannot be read", [listing.names[place] for place in decoded.broken]),
        notes=(*listing.notes, *_notes(decoded)),
    )


def _in_memory(listing: Listing, side: int) -> tuple[Tensor, Decoded]:
    array = np.empty((len(listing), 3, side, side), np.uint8)
    decoded = decode_into(array, listing)
    kept = array[: len(array) - len(decoded.broken)]
    return torch.from_numpy(np.ascontiguousarray(kept[:, : channels_of(kept)])), decoded


def _notes(decoded: Decoded) -> list[str]:
    notes = []
    if decoded.brightest is not None:
        depth = depth_of(decoded.brightest)
        notes.append(f"the brightest value in 16 bits is {decoded.brightest:,}, so they are read as {depth} bits")
    if decoded.dark:
        notes.append(f"{decoded.dark:,} are all but black, with no value above {DARK_BELOW - 1} of 255")
    return notes
