"""Decoded pictures in a file that is read where it is looked at: for those that do not fit in memory.

It lies in the cache, one for a place and a side, and is written anew when the pictures there change.
"""

import hashlib
import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from torch import Tensor

from ldm_explorer.atomic import put, write_json
from ldm_explorer.files import CheckpointError, cache_dir, printable, read_json
from ldm_explorer.memory_map import new_array_file, read_array_file
from ldm_explorer.pictures.decoding import CHUNK, Decoded, channels_of, decode_into
from ldm_explorer.pictures.listing import DataError, Listing

FORMAT = 1


@dataclass(frozen=True)
class ImageCache:
    """The file of a listing's pictures at one side."""

    listing: Listing
    side: int

    @property
    def path(self) -> Path:
        name = re.sub(r"[^A-Za-z0-9]+", "-", self.listing.origin)[-40:].strip("-")
        digest = hashlib.sha256(self.listing.origin.encode("utf-8", "surrogateescape")).hexdigest()[:12]
        return cache_dir() / "images" / f"{name}-{digest}-{self.side}.npy"

    @property
    def _facts_path(self) -> Path:
        return self.path.with_suffix(".json")

    def read(self) -> tuple[Tensor, Decoded] | None:
        """The pictures `(N, C, side, side) uint8`, and what came of decoding them; None where these are not there."""
        try:
            facts = read_json(self._facts_path)
            if facts.get("format") != FORMAT or facts.get("stamp") != self.listing.stamp:
                return None
            broken = {int(place): why for place, why in facts["broken"].items()}
            decoded = Decoded(broken, facts["dark"], facts["brightest"])
            images = read_array_file(self.path)
        except (CheckpointError, OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        count = len(self.listing) - len(broken)
        fits = images.shape in [(count, channels, self.side, self.side) for channels in (1, 3)]
        return (images, decoded) if fits else None

    def write(self) -> tuple[Tensor, Decoded]:
        """Decode the pictures into the file; of several processes one does, and the others find it.

        Raises `DataError` where there is no room for it, and as `decode_into` does.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_suffix(".lock")):
                if (stored := self.read()) is not None:
                    return stored
                self._write()
                stored = self.read()
        except (OSError, NotImplementedError) as error:
            raise self._refused(str(error)) from error
        if stored is None:
            raise self._refused("it cannot be read back")
        return stored

    def _write(self) -> None:
        part, smaller = self.path.with_suffix(".part"), self.path.with_suffix(".small")
        needed = len(self.listing) * 3 * self.side**2
        if shutil.disk_usage(self.path.parent).free < needed:
            raise OSError(f"{needed / 1e9:,.1f} GB are needed")
        try:
            array = new_array_file(part, (len(self.listing), 3, self.side, self.side))
            decoded = decode_into(array, self.listing)
            kept = array[: len(array) - len(decoded.broken)]
            kept = kept[:, : channels_of(kept)]
            if kept.shape != array.shape:
                _copy(kept, new_array_file(smaller, kept.shape))
                os.replace(smaller, part)
            del array, kept
            self._facts_path.unlink(missing_ok=True)  # facts of before do not go with pictures of now
            put(part, self.path)
            write_json(self._facts_path, {"format": FORMAT, "stamp": self.listing.stamp} | asdict(decoded))
        finally:
            for path in (part, smaller):  # those of a killed process, too: nobody else has the lock
                path.unlink(missing_ok=True)

    def _refused(self, why: str) -> DataError:
        return DataError(
            f"{printable(self.listing.where)} is too large for the memory, and cannot be kept in "
            f"{printable(self.path.parent)} ({why}): make room there, or set XDG_CACHE_HOME to a folder on another disk"
        )


def _copy(source: np.ndarray, target: np.ndarray) -> None:
    """A part at a time: both are on disk."""
    for start in range(0, len(source), CHUNK):
        target[start : start + CHUNK] = source[start : start + CHUNK]
