"""Encoding a whole set of images once, by all processes, into memory or into a file."""

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from ldm_explorer.data import to_model
from ldm_explorer.files import cache_dir
from ldm_explorer.latents import BATCH_IMAGES, LatentCodec, Posterior, latent_shape
from ldm_explorer.memory_map import is_large, temporary_tensor
from ldm_explorer.pictures.collection import MemoryMap
from ldm_explorer.pictures.listing import DataError


def encode_all(
    codec: LatentCodec,
    images: Tensor,
    *,
    mirrored: bool = False,
    memory_map: MemoryMap = "auto",
    accelerator: Accelerator | None = None,
) -> Posterior:
    """The posteriors of images `(N, C, S, S) uint8`, those of their mirror images behind them where asked for.

    Every process encodes its part and gets all. Raises `DataError` where they are to go to a file, and there is no room
    for it.
    """
    processes = 1 if accelerator is None else accelerator.num_processes
    turns = (False, True) if mirrored else (False,)
    rows = _empty((len(images) * len(turns), 2, *latent_shape(codec.vae)), memory_map)
    rounds = [(turn, part) for turn in turns for part in torch.arange(len(images)).split(BATCH_IMAGES * processes)]
    for turn, part in tqdm(rounds, "encoding", leave=False, disable=None):  # None: not without a terminal
        mine = part if accelerator is None else part[accelerator.process_index * BATCH_IMAGES :][:BATCH_IMAGES]
        pixels = to_model(images[mine if len(mine) else part[:1]])  # all take part in the last round, too
        posterior = codec.posterior(pixels.flip(-1) if turn else pixels)
        encoded = torch.stack([posterior.mean, posterior.std], dim=1)
        if accelerator is not None:
            encoded = accelerator.gather(accelerator.pad_across_processes(encoded))[: len(part)]
        rows[part + len(images) * turn] = encoded.cpu()
    return Posterior(*rows.unbind(1))


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
