"""What lies between two latents, and where in a latent the information is."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.data import to_uint8
from ldm_explorer.evaluation.latent_space import kl_map, raw_posteriors
from ldm_explorer.evaluation.paths import lerp, slerp
from ldm_explorer.explore.images import example_images
from ldm_explorer.explore.reconstruction import LatentSize, latent_size
from ldm_explorer.latents import LatentCodec, decode_images

NUM_FRAMES = 9


@dataclass(frozen=True, eq=False)
class Strip:
    """One way from a latent to another."""

    images: Tensor  # (NUM_FRAMES, C, side, side) uint8, both ends among them
    halfway_length: float  # of the latent half-way, over the mean of the ends


@dataclass(frozen=True, eq=False)
class Interpolation:
    """Between the latents of two images (posterior mode), through one checkpoint."""

    name: str
    size: LatentSize
    straight: Strip
    spherical: Strip


def interpolate(checkpoint: Checkpoint, first: Tensor, second: Tensor) -> Interpolation:
    """Between two padded images `(1, C, S, S)` in [-1, 1]: along the line, and along the arc, of normalised latents."""
    codec = checkpoint.codec
    ends = codec.encode(first), codec.encode(second)

    def strip(way: Callable[[Tensor, Tensor, float], Tensor]) -> Strip:
        latents = torch.cat([way(*ends, index / (NUM_FRAMES - 1)) for index in range(NUM_FRAMES)])
        lengths = latents.flatten(1).norm(dim=1)
        halfway = float(lengths[NUM_FRAMES // 2] / lengths[[0, -1]].mean())
        return Strip(decode_images(codec, latents, checkpoint.spec), halfway)

    return Interpolation(checkpoint.name, latent_size(checkpoint), strip(lerp), strip(slerp))


@dataclass(frozen=True, eq=False)
class LatentUseMaps:
    """KL from N(0, 1) in nats of every value of raw latents, both `(c, h, w)`."""

    name: str
    size: LatentSize
    of_examples: Tensor  # mean over the shipped test images
    num_examples: int
    of_image: Tensor  # of the chosen image


def map_latent_use(checkpoint: Checkpoint, image: Tensor) -> LatentUseMaps:
    """Map the test images that come with a checkpoint, and one padded image `(1, C, S, S)` in [-1, 1]."""
    codec, examples = LatentCodec(checkpoint.vae), example_images(checkpoint).images
    of_examples, of_image = (kl_map(raw_posteriors(codec, images)) for images in (examples, to_uint8(image)))
    return LatentUseMaps(checkpoint.name, latent_size(checkpoint), of_examples, len(examples), of_image)
