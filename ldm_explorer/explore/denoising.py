"""How does noise become an image?"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.diagnosis.denoisers import DEFAULT_DENOISER, denoiser_of
from ldm_explorer.latents import decode_images

MAX_IMAGES = 64
MAX_KEPT_FRAMES = 100
MAX_EVALUATIONS = 2 * MAX_IMAGES * 100
"""Network evaluations of one image that one request may cost, so that it does not keep everyone else waiting."""


@dataclass(frozen=True)
class DenoisingFrame:
    """One step of a sampler, decoded: `(B, C, side, side) uint8`."""

    index: int
    total: int
    timestep: int
    alpha_bar: float
    noisy: Tensor  # what the network saw, z_t
    predicted: Tensor  # the clean latent it predicted


def denoise_images(
    checkpoint: Checkpoint,
    class_name: str | None,
    seed: int,
    num_images: int = 1,
    *,
    sampler: str,
    num_steps: int,
    guidance_scale: float,
    denoiser: str = DEFAULT_DENOISER,
) -> Iterator[DenoisingFrame]:
    """Sample `num_images` images (seeds seed, seed + 1, ...), decoding every step, or of long runs about 100 of them.

    `class_name` None asks for every class in turn, and for one image of each at least. `denoiser` is "network" or one
    that needed no training. Raises `ValueError` for arguments out of range.
    """
    if checkpoint.kind != "ldm":
        raise ValueError(f"{checkpoint.name} is an autoencoder: choose a checkpoint with a denoiser")
    if not 1 <= num_images <= MAX_IMAGES:
        raise ValueError(f"{num_images} images: give 1 to {MAX_IMAGES}")
    pipeline, spec = checkpoint.pipeline, checkpoint.spec
    if class_name is None:
        num_images = max(num_images, spec.num_classes)
    evaluations = num_images * num_steps * (1 if guidance_scale == 1 else 2)
    if evaluations > MAX_EVALUATIONS:
        raise ValueError(f"{evaluations:,} network evaluations: ask for fewer images or steps ({MAX_EVALUATIONS:,})")
    labels = None
    if pipeline.null_class is not None:
        chosen = None if class_name is None else spec.label_of(class_name)
        labels = [index % spec.num_classes if chosen is None else chosen for index in range(num_images)]
    steps = pipeline.denoise(
        labels,
        range(seed, seed + num_images),
        num_inference_steps=num_steps,
        guidance_scale=guidance_scale,
        sampler=sampler,
        unet=denoiser_of(denoiser, checkpoint),
    )
    every = -(-num_steps // MAX_KEPT_FRAMES)
    for step in steps:
        last = step.index == step.total - 1
        if last or step.index % every == 0:
            yield DenoisingFrame(
                index=step.index,
                total=step.total,
                timestep=step.timestep,
                alpha_bar=float(pipeline.scheduler.alphas_cumprod[step.timestep]),
                noisy=decode_images(pipeline.codec, step.z_t, spec),
                predicted=decode_images(pipeline.codec, step.z_next if last else step.z0, spec),
            )
