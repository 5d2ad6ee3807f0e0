"""Encoding a whole set of images once, by all processes, into memory or into a file, and for later trainings."""

from collections.abc import Iterator
from contextlib import nullcontext

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL
from torch import Tensor
from tqdm import tqdm

from ldm_explorer.data import to_model
from ldm_explorer.files import cache_dir
from ldm_explorer.latents import (
    BATCH_IMAGES,
    LatentCodec,
    LatentScale,
    Posterior,
    image_moments,
    latent_shape,
    raw_posterior,
    scale_of,
)
from ldm_explorer.memory_map import is_large, temporary_tensor
from ldm_explorer.pictures.collection import MemoryMap
from ldm_explorer.pictures.listing import DataError
from ldm_explorer.training.posterior_files import posterior_file

SCALE_IMAGES = 8192
"""Images that the scale of the latents is measured on where there are more: its standard error is some tenths of a
percent then."""
SCALE_SEED = 0


def measure_scale(vae: AutoencoderKL, images: Tensor, *, mirrored: bool = False) -> LatentScale:
    """The scale of the raw latents of images `(N, C, S, S) uint8`, and of their mirror images where asked for."""
    rows, turns = _scale_rows(len(images)), (False, True) if mirrored else (False,)
    moments = [
        torch.cat([image_moments(_as_posterior(raw)) for _, raw in _encode(vae, images, rows, turn)]) for turn in turns
    ]
    return scale_of(torch.stack(moments).mean(0), len(images))


def encode_all(
    codec: LatentCodec,
    images: Tensor,
    *,
    mirrored: bool = False,
    memory_map: MemoryMap = "auto",
    accelerator: Accelerator | None = None,
) -> Posterior:
    """The posteriors of images `(N, C, S, S) uint8`, those of their mirror images behind them where asked for.

    Every process encodes its part and gets all; what was encoded before is read from the cache. Raises `DataError`
    where they are to go to a file, and there is no room for it.
    """
    turns = (False, True) if mirrored else (False,)
    encoded = _empty((len(images) * len(turns), 2, *latent_shape(codec.vae)), memory_map)
    first = _scale_rows(len(images))
    others = torch.ones(len(images), dtype=torch.bool).index_fill(0, first, False).nonzero().flatten()
    for turn in turns:
        for rows in filter(len, (first, others)):  # the first are kept already where the autoencoder was trained here
            for part, raw in _encode(codec.vae, images, rows, turn, accelerator):
                posterior = codec.normalise(_as_posterior(raw))
                encoded[part + len(images) * turn] = torch.stack([posterior.mean, posterior.std], 1)
    return Posterior(*encoded.unbind(1))


def _scale_rows(num_images: int) -> Tensor:
    """The images that the scale is measured on, ascending `(M,)`: all, or those that are drawn alike everywhere."""
    drawn = torch.randperm(num_images, generator=torch.Generator().manual_seed(SCALE_SEED))
    return drawn[:SCALE_IMAGES].sort().values


def _as_posterior(raw: Tensor) -> Posterior:
    return Posterior(*raw.unbind(1))


def _encode(
    vae: AutoencoderKL, images: Tensor, rows: Tensor, mirrored: bool, accelerator: Accelerator | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Raw posteriors `(B, 2, c, h, w)` of `images[rows]`, some rows at a time: from the cache, or into it."""
    processes, main = (accelerator.num_processes, accelerator.is_main_process) if accelerator else (1, True)
    parts = torch.arange(len(rows)).split(BATCH_IMAGES * processes)
    file = posterior_file(vae, images, rows, mirrored)
    stored = file.read()
    if _all_agree(stored is not None, accelerator):
        assert stored is not None
        yield from ((rows[part], stored[part]) for part in parts)
        return
    with file.writing() if main else nullcontext() as kept:
        for part in tqdm(parts, "encoding", leave=False, disable=None):  # None: not without a terminal
            raw = _encode_part(vae, images, rows[part], mirrored, accelerator)
            if kept is not None:
                kept[part] = raw
            yield rows[part], raw


def _encode_part(
    vae: AutoencoderKL, images: Tensor, rows: Tensor, mirrored: bool, accelerator: Accelerator | None
) -> Tensor:
    mine = rows if accelerator is None else rows[accelerator.process_index * BATCH_IMAGES :][:BATCH_IMAGES]
    pixels = to_model(images[mine if len(mine) else rows[:1]])  # all take part in the last round, too
    posterior = raw_posterior(vae, pixels.flip(-1) if mirrored else pixels)
    encoded = torch.stack([posterior.mean, posterior.std], dim=1)
    if accelerator is not None:
        encoded = accelerator.gather(accelerator.pad_across_processes(encoded))[: len(rows)]
    return encoded.cpu()


def _all_agree(found: bool, accelerator: Accelerator | None) -> bool:
    """Whether it is so for every process: they encode together, or none does."""
    if accelerator is None or accelerator.num_processes == 1:
        return found
    return (
        int(accelerator.reduce(torch.tensor(int(found), device=accelerator.device), "sum")) == accelerator.num_processes
    )


def _empty(shape: tuple[int, ...], memory_map: MemoryMap) -> Tensor:
    num_bytes = 4 * torch.Size(shape).numel()
    if memory_map == "never" or (memory_map == "auto" and not is_large(num_bytes)):
        return torch.empty(shape)
    try:
        return temporary_tensor(shape, cache_dir() / "latents")
    except OSError as error:
        raise DataError(
            f"the latents take {num_bytes / 1e9:,.1f} GB, which cannot be kept in {cache_dir()} ({error.strerror}): "
            "make room there, or set XDG_CACHE_HOME to a folder on another disk"
        ) from error
