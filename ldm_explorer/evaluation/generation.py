"""Samples to be measured: from a pipeline, and what no denoiser at all would generate."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ldm_explorer.data import DatasetSpec
from ldm_explorer.files import shown
from ldm_explorer.latents import BatchMap, LatentCodec, decode_images, in_batches
from ldm_explorer.options import check_kind
from ldm_explorer.pipeline import LatentDiffusionPipeline
from ldm_explorer.samplers import draw_noise, final_latents

SEED_STRIDE = 1_000_003


@dataclass(frozen=True)
class Samples:
    images: Tensor  # (N, C, side, side) uint8
    labels: Tensor  # (N,), balanced
    latents: Tensor  # (N, c, h, w), normalised


def balanced_labels(num_images: int, spec: DatasetSpec) -> Tensor:
    """`(N,)`: image i has label i mod K, 0 without classes."""
    return torch.arange(num_images) % max(1, spec.num_classes)


def generate(
    pipeline: LatentDiffusionPipeline,
    spec: DatasetSpec,
    num_images: int,
    seed: int,
    *,
    num_steps: int,
    sampler: str,
    batched: BatchMap = in_batches,
) -> Samples:
    """`num_images` samples at guidance 1, labels balanced, each image with a seed of its own.

    Raises `ValueError` where the denoiser gives no numbers: their images would be black, and be measured; and for an
    unknown sampler, or no number of images or steps that can be.
    """
    check_kind(pipeline, LatentDiffusionPipeline, "the pipeline of a checkpoint")
    if not isinstance(num_images, int) or num_images < 1:
        raise ValueError(f"{shown(num_images)} images: give a whole number above 0")
    labels = balanced_labels(num_images, spec)

    def sampled(indices: Tensor) -> Tensor:
        seeds = [seed * SEED_STRIDE + index for index in indices.tolist()]
        conditional = labels[indices].tolist() if pipeline.denoiser.num_classes else None
        steps = pipeline.denoise(conditional, seeds, num_inference_steps=num_steps, sampler=sampler)
        return final_latents(steps).cpu()

    latents = batched(sampled, torch.arange(num_images), f"sampling, seed {seed}")
    if not latents.isfinite().all():
        raise ValueError(
            f"{sampler} with {num_steps} evaluations gives latents that are not finite: python -m "
            "ldm_explorer.diagnose looks for the cause in the checkpoint's folder"
        )
    return Samples(decode_images(pipeline.codec, latents, spec, batched), labels, latents)


def decoded_noise(
    codec: LatentCodec,
    latent_shape: tuple[int, int, int],
    spec: DatasetSpec,
    num_images: int,
    batched: BatchMap = in_batches,
) -> Tensor:
    """Images `(N, C, side, side) uint8` decoded from N(0, 1) latents: what no denoiser at all would generate."""
    noise, _ = draw_noise(latent_shape, range(num_images))
    return decode_images(codec, noise, spec, batched)
