"""What an encoder said of images, in the cache: later trainings on the same latents read it in place of encoding again.

A file is found by a digest of all that its content depends on, so that of changed weights or images there is none. It
ends with a digest of the content itself: what was changed since is not read. It may be deleted at any time.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from uuid import uuid4

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from ldm_explorer.atomic import delete, put
from ldm_explorer.files import cache_dir, first_line, printable
from ldm_explorer.latents import BATCH_IMAGES, latent_shape
from ldm_explorer.memory_map import new_array_file, read_array_file

FORMAT = 2
MIN_IMAGES = 1024
"""Fewer are encoded about as fast as they are found."""
MAX_FILE_BYTES, MAX_BYTES = 1_000_000_000, 4_000_000_000
"""Of one file, and of all of them together: those that were not read for the longest time go first."""
LEFT_SECONDS = 86_400
"""A file that was begun so long ago is no longer written: what wrote it was killed."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PosteriorFile:
    """The file of the raw posteriors of some images under one autoencoder, `(N, 2, c, h, w) float32`: mean and std."""

    path: Path | None  # None for few images, and for more than are kept
    shape: tuple[int, ...]

    def read(self) -> Tensor | None:
        """The posteriors, mapped into memory; None where they are not there."""
        if self.path is None:
            return None
        try:
            stored = read_array_file(self.path)
            with self.path.open("rb") as file:
                file.seek(-len(_digest(b"")), os.SEEK_END)
                kept = file.read()
            os.utime(self.path)
        except (OSError, ValueError, EOFError, TypeError):
            return None
        fits = stored.shape == self.shape and stored.dtype == torch.float32
        return stored if fits and _digest(stored.numpy().data) == kept else None

    @contextmanager
    def writing(self) -> Iterator[np.memmap | None]:
        """An array to be filled, which is the file once the block ends without an error; None where it is not kept.

        A disk that has no room for it is a warning: the training needs no file.
        """
        if self.path is None:
            yield None
            return
        part = self.path.with_suffix(f".{uuid4().hex}")
        array = self._begin(part)
        try:
            yield array
            if array is not None:
                with suppress(OSError):
                    array.flush()
                    with part.open("ab") as file:
                        file.write(_digest(array.data))
                    put(part, self.path)
                    _make_room(self.path)
        finally:
            with suppress(OSError):
                delete(part)

    def _begin(self, part: Path) -> np.memmap | None:
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            return new_array_file(part, self.shape, np.float32)
        except OSError as error:
            _log.warning("the latents are not kept in %s (%s)", printable(part.parent), first_line(error))
            return None


def posterior_file(vae: AutoencoderKL, images: Tensor, rows: Tensor, mirrored: bool) -> PosteriorFile:
    """The file of the posteriors of `images[rows]`, or of their mirror images."""
    shape = (len(rows), 2, *latent_shape(vae))
    if len(rows) < MIN_IMAGES or 4 * prod(shape) > MAX_FILE_BYTES:
        return PosteriorFile(None, shape)
    network = {name: value for name, value in vae.config.items() if not name.startswith(("_", "latents_"))}
    what = {
        "format": FORMAT,
        "torch": torch.__version__,  # another version, or another device, rounds otherwise
        "device": vae.device.type,
        "network": network,
        "images": [len(rows), *images.shape[1:]],
        "mirrored": mirrored,
    }
    digest = hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode())
    for name, tensor in sorted(vae.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    for part in rows.split(BATCH_IMAGES):
        digest.update(images[part].numpy().data)
    return PosteriorFile(cache_dir() / "latents" / f"{digest.hexdigest()[:32]}.npy", shape)


def _digest(content: bytes | memoryview) -> bytes:
    return hashlib.sha256(content).digest()


def _make_room(newest: Path) -> None:
    """Delete what was left half-written, and what was not read for the longest time until the rest is small enough."""
    for path in newest.parent.iterdir():
        if path.suffix != newest.suffix and path.stat().st_mtime < time.time() - LEFT_SECONDS:
            delete(path)
    files = [(path.stat(), path) for path in newest.parent.iterdir() if path.is_file() and path != newest]
    room = MAX_BYTES - newest.stat().st_size
    for status, path in sorted(files, key=lambda file: file[0].st_mtime, reverse=True):
        room -= status.st_size
        if room < 0:
            delete(path)
