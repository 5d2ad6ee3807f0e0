"""Which latent size?"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.data import crop, to_model, to_uint8
from ldm_explorer.evaluation.cost import measure_cost
from ldm_explorer.explore.images import example_images
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.reconstruction import LatentSize, latent_size
from ldm_explorer.latents import LatentCodec, decode_images
from ldm_explorer.samplers import DEFAULT_SAMPLER

MAX_IMAGES = 24
UNCONDITIONAL_IMAGES = 10


@dataclass(frozen=True, eq=False)
class SizeReport:
    """One checkpoint's row in the comparison. Figures are None where train/evaluate.py did not measure them."""

    name: str
    color_index: int  # the checkpoint's place in the library: it keeps its colour whatever is selected
    size: LatentSize
    psnr_db: float | None
    ssim: float | None
    pca_psnr_db: float | None
    rfd_percent: float | None
    fd_floor_percent: float | None
    fd_percent: float | None
    fd_decoded_noise_percent: float | None
    class_consistency: float | None
    classifier_accuracy: float | None
    gflops_per_sample: float | None  # all network evaluations and one decode
    num_steps: int
    images: Tensor  # (n, C, side, side) uint8
    reconstructions: Tensor  # (n, C, side, side) uint8
    samples: Tensor | None  # (n, C, side, side) uint8, one per class


def compare_sizes(
    library: Library, names: Sequence[str], image: Tensor, seed: int, num_steps: int
) -> tuple[SizeReport, ...]:
    """Reconstruct the same images, `image (1, C, S, S)` in [-1, 1] first, and generate from the same seeds.

    Raises `ValueError` without a name or for one that the library does not hold.
    """
    if not names:
        raise ValueError("choose at least one checkpoint to compare")
    everything = list(library.checkpoints)
    checkpoints = [library.get(name) for name in dict.fromkeys(names)]
    return tuple(_report(item, everything.index(item.name), image, seed, num_steps) for item in checkpoints)


def _report(checkpoint: Checkpoint, color_index: int, image: Tensor, seed: int, num_steps: int) -> SizeReport:
    spec, codec = checkpoint.spec, LatentCodec(checkpoint.vae)
    examples = example_images(checkpoint)
    first_of_class = [int((examples.labels == label).nonzero()[0]) for label in examples.labels.unique().tolist()]
    images = torch.cat([to_uint8(image), examples.images[first_of_class[:MAX_IMAGES]]])
    measured = checkpoint.metrics.get("evaluation", {})
    reconstruction, generation = measured.get("reconstruction", {}), measured.get("generation", {})
    return SizeReport(
        name=checkpoint.name,
        color_index=color_index,
        size=latent_size(checkpoint),
        psnr_db=reconstruction.get("psnr_db"),
        ssim=reconstruction.get("ssim"),
        pca_psnr_db=reconstruction.get("pca_psnr_db"),
        rfd_percent=reconstruction.get("rfd_percent"),
        fd_floor_percent=reconstruction.get("fd_floor_percent"),
        fd_percent=generation.get("fd_percent"),
        fd_decoded_noise_percent=generation.get("fd_decoded_noise_percent"),
        class_consistency=generation.get("class_consistency"),
        classifier_accuracy=generation.get("classifier_accuracy"),
        gflops_per_sample=measure_cost(checkpoint).per_sample(num_steps),
        num_steps=num_steps,
        images=crop(images, spec),
        reconstructions=decode_images(codec, codec.encode(to_model(images)), spec),
        samples=_samples(checkpoint, seed, num_steps) if checkpoint.kind == "ldm" else None,
    )


def _samples(checkpoint: Checkpoint, seed: int, num_steps: int) -> Tensor:
    pipeline, spec = checkpoint.pipeline, checkpoint.spec
    labels = None if pipeline.null_class is None else list(range(min(spec.num_classes, MAX_IMAGES)))
    seeds = range(seed, seed + (UNCONDITIONAL_IMAGES if labels is None else len(labels)))
    images = pipeline(labels, seeds, num_inference_steps=num_steps, sampler=DEFAULT_SAMPLER, output_type="pt").images
    return crop(to_uint8(images), spec)
