"""How does noise become an image?"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.data import crop, dataset_spec, to_uint8

MAX_IMAGES = 64
MAX_KEPT_FRAMES = 100


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
    class_label: int | None,
    seed: int,
    num_images: int = 1,
    *,
    sampler: str,
    num_steps: int,
    guidance_scale: float,
) -> Iterator[DenoisingFrame]:
    """Sample `num_images` images (seeds seed, seed + 1, ...), decoding every step; at most about 100 are yielded.

    `class_label` None asks for every class in turn. Raises `ValueError` for arguments out of range.
    """
    if checkpoint.kind != "ldm":
        raise ValueError(f"{checkpoint.name} is an autoencoder: choose a checkpoint with a denoiser")
    if not 1 <= num_images <= MAX_IMAGES:
        raise ValueError(f"{num_images} images: give 1 to {MAX_IMAGES}")
    pipeline, spec = checkpoint.pipeline, dataset_spec(checkpoint.dataset)
    labels = None
    if pipeline.null_class is not None:
        labels = [index % spec.num_classes if class_label is None else class_label for index in range(num_images)]
    steps = pipeline.denoise(
        labels,
        range(seed, seed + num_images),
        num_inference_steps=num_steps,
        guidance_scale=guidance_scale,
        sampler=sampler,
    )
    every = max(1, num_steps // MAX_KEPT_FRAMES)

    def decode(latents: Tensor) -> Tensor:
        return crop(to_uint8(pipeline.codec.decode(latents)), spec).cpu()

    for step in steps:
        last = step.index == step.total - 1
        if last or step.index % every == 0:
            yield DenoisingFrame(
                index=step.index,
                total=step.total,
                timestep=step.timestep,
                alpha_bar=float(pipeline.scheduler.alphas_cumprod[step.timestep]),
                noisy=decode(step.z_t),
                predicted=decode(step.z_next if last else step.z0),
            )
