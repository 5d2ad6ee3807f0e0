"""Which latent size? The same images, and the same seeds, through checkpoints of different latents."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.data import crop, to_model, to_uint8
from ldm_explorer.explore.images import example_images, first_of_class
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.reconstruction import LatentSize, latent_size
from ldm_explorer.latents import decode_images
from ldm_explorer.samplers import final_latents

MAX_IMAGES = 24
UNCONDITIONAL_IMAGES = 10
MAX_CACHED_SAMPLES = 64


@dataclass(frozen=True, eq=False)
class SizePictures:
    """What one checkpoint makes of the images and seeds."""

    name: str
    size: LatentSize
    num_steps: int
    images: Tensor  # (n, C, side, side) uint8
    reconstructions: Tensor  # (n, C, side, side) uint8
    samples: Tensor | None  # (m, C, side, side) uint8, one per class

    @property
    def errors(self) -> Tensor:
        """(n, C, side, side) in [-2, 2]: reconstructions minus images."""
        return to_model(self.reconstructions) - to_model(self.images)


def compare_sizes(
    library: Library, names: Sequence[str], image: Tensor, seed: int, num_steps: int | None = None
) -> Iterator[SizePictures]:
    """Reconstruct the same images, `image (1, C, S, S)` in [-1, 1] first, and generate from the same seeds.

    Each is sampled as it is made to be, where no number of steps is given, and one after the other, as each takes a
    while. Raises `ValueError` without a name or for one that the library does not hold.
    """
    if not names:
        raise ValueError("choose at least one checkpoint to compare")
    for name in dict.fromkeys(names):
        yield _pictures(library.get(name), image, seed, num_steps)


def _pictures(checkpoint: Checkpoint, image: Tensor, seed: int, num_steps: int | None) -> SizePictures:
    num_steps = checkpoint.sampling.num_inference_steps if num_steps is None else num_steps
    spec, codec = checkpoint.spec, checkpoint.codec
    examples = example_images(checkpoint)
    images = torch.cat([to_uint8(image), examples.images[first_of_class(examples)[:MAX_IMAGES]]])
    return SizePictures(
        name=checkpoint.name,
        size=latent_size(checkpoint),
        num_steps=num_steps,
        images=crop(images, spec),
        reconstructions=decode_images(codec, codec.encode(to_model(images)), spec),
        samples=_samples(checkpoint, seed, num_steps) if checkpoint.has_denoiser else None,
    )


@lru_cache(maxsize=MAX_CACHED_SAMPLES)
def _samples(checkpoint: Checkpoint, seed: int, num_steps: int) -> Tensor:
    """Kept, as only the image changes most of the time."""
    pipeline, spec = checkpoint.pipeline, checkpoint.spec
    classes = pipeline.denoiser.num_classes
    labels = list(range(min(classes, spec.num_classes, MAX_IMAGES))) if classes else None
    seeds = range(seed, seed + (UNCONDITIONAL_IMAGES if labels is None else len(labels)))
    steps = pipeline.denoise(labels, seeds, num_inference_steps=num_steps)
    return decode_images(checkpoint.codec, final_latents(steps), spec)
