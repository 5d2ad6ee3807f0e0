"""How good generated images are: feature FD beside its floor, and class consistency."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ldm_explorer.data import DatasetSpec
from ldm_explorer.latents import BATCH_IMAGES, LatentCodec, decode_images
from ldm_explorer.pipeline import LatentDiffusionPipeline
from ldm_explorer.samplers import draw_noise, final_latents


@dataclass(frozen=True)
class GeneratedBatch:
    images: Tensor  # (B, C, side, side) uint8
    labels: Tensor  # (B,), balanced
    latents: Tensor  # (B, c, h, w), normalised


def generate(
    pipeline: LatentDiffusionPipeline,
    spec: DatasetSpec,
    num_images: int,
    seed: int,
    *,
    num_steps: int,
    sampler: str,
    batch_size: int = BATCH_IMAGES,
) -> Iterator[GeneratedBatch]:
    """`num_images` samples at guidance 1 in batches; image i has label i mod K (0 without classes) and its own seed."""
    for first in range(0, num_images, batch_size):
        indices = range(first, min(first + batch_size, num_images))
        labels = [index % max(1, spec.num_classes) for index in indices]
        seeds = [seed * 1_000_003 + index for index in indices]
        conditional = labels if pipeline.null_class is not None else None
        latents = final_latents(pipeline.denoise(conditional, seeds, num_inference_steps=num_steps, sampler=sampler))
        yield GeneratedBatch(decode_images(pipeline.codec, latents, spec), torch.tensor(labels), latents.cpu())


def decoded_noise(codec: LatentCodec, latent_shape: tuple[int, int, int], spec: DatasetSpec, num_images: int) -> Tensor:
    """Images `(N, C, side, side) uint8` decoded from N(0, 1) latents: what no denoiser at all would generate."""
    noise, _ = draw_noise(latent_shape, range(num_images))
    return decode_images(codec, noise, spec)
