"""Many pictures to pixels, by several threads, a part at a time."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import UnidentifiedImageError
from tqdm import tqdm

from ldm_explorer.files import first_line, printable
from ldm_explorer.pictures.listing import DataError, Listing
from ldm_explorer.pictures.picture import depth_of, square_pixels

CHUNK = 512
"""Pictures that are decoded at a time."""
DARK_BELOW = 16
"""A picture without a value as large as this, of 255, is all but black."""
MAX_NAMED = 5
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decoded:
    """What came of decoding a listing, beside the pixels of those that could be read."""

    broken: dict[int, str]  # why, by place in the listing
    dark: int  # how many are all but black
    brightest: int | None  # value of those that have more than 8 bits


def decode_into(array: np.ndarray, listing: Listing) -> Decoded:
    """Fill the first rows of `array (N, 3, side, side) uint8` with the pictures that can be read, in their order.

    Those of more than 8 bits are scaled by the bits that the brightest of them all needs. What cannot be read is named
    in a warning. Raises `DataError` where nothing can.
    """
    broken: dict[int, str] = {}
    deep: dict[int, int] = {}  # the place of the picture that a row awaits
    row = dark = brightest = 0
    for place, found in _decoded(listing, range(len(listing)), array.shape[-1], None):
        if isinstance(found, str):
            broken[place] = found
            continue
        if isinstance(found, int):
            deep[row], brightest = place, max(brightest, found)
        else:
            array[row] = found
            dark += int(found.max() < DARK_BELOW)
        row += 1
    for row, (place, found) in zip(
        deep, _decoded(listing, [*deep.values()], array.shape[-1], depth_of(brightest)), strict=True
    ):
        if not isinstance(found, np.ndarray):
            raise DataError(f"{printable(listing.names[place])} changed while it was read: try again")
        array[row] = found
        dark += int(found.max() < DARK_BELOW)
    _name_broken(listing, broken)
    return Decoded(broken, dark, brightest if deep else None)


def _decoded(
    listing: Listing, places: Sequence[int], side: int, depth: int | None
) -> Iterator[tuple[int, np.ndarray | int | str]]:
    """Pixels, or the brightest value, or why there are none, of pictures in their order."""

    def decoded(place: int) -> np.ndarray | int | str:
        try:
            return square_pixels(listing.content(place), side, depth)
        except UnidentifiedImageError:  # its own sentence names an address in memory
            return "not an image that Pillow knows"
        except Exception as error:  # whatever a broken file makes the decoder raise
            return first_line(error)

    said = f"reading {printable(listing.where)}"
    with ThreadPoolExecutor() as pool, tqdm(total=len(places), desc=said, leave=False, disable=None) as bar:
        for start in range(0, len(places), CHUNK):
            chunk = places[start : start + CHUNK]
            for place, found in zip(chunk, pool.map(decoded, chunk), strict=True):
                bar.update()
                yield place, found


def _name_broken(listing: Listing, broken: dict[int, str]) -> None:
    if not broken:
        return
    named = ", ".join(f"{printable(listing.names[place])} ({why})" for place, why in list(broken.items())[:MAX_NAMED])
    more = f" and {len(broken) - MAX_NAMED} more" if len(broken) > MAX_NAMED else ""
    if len(broken) == len(listing):
        raise DataError(
            f"none of the {len(broken)} image files in {printable(listing.where)} can be read: {named}{more}"
        )
    _log.warning("%d image file(s) cannot be read and are left out: %s%s", len(broken), named, more)


def channels_of(images: np.ndarray) -> int:
    """1 where the channels of `(N, 3, side, side)` are the same everywhere, else 3."""
    parts = (images[start : start + CHUNK] for start in range(0, len(images), CHUNK))
    return 1 if all(bool((part == part[:, :1]).all()) for part in parts) else 3
