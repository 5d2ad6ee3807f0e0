"""How does noise become an image?"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.data import to_model
from ldm_explorer.diagnosis.denoisers import DEFAULT_DENOISER, denoiser_of
from ldm_explorer.evaluation.cost import measure_cost
from ldm_explorer.evaluation.reconstruction import psnr_db
from ldm_explorer.files import counted
from ldm_explorer.latents import decode_images
from ldm_explorer.prediction import to_eps
from ldm_explorer.samplers import make_sampler, set_timesteps

MAX_IMAGES = 64
MAX_KEPT_FRAMES = 100


@dataclass(frozen=True)
class DenoisingFrame:
    """One step of a sampler, decoded: `(B, C, side, side) uint8`."""

    index: int
    total: int
    timestep: float
    alpha_bar: float
    noisy: Tensor  # what the network saw, z_t
    predicted: Tensor  # the clean latent it predicted
    z_t: Tensor  # (B, c, h, w), what the network saw
    z0: Tensor  # the clean latent it predicted, at the last step the result
    eps: Tensor  # the noise it predicted


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
    max_gflops: float = math.inf,
) -> Iterator[DenoisingFrame]:
    """Sample `num_images` images (seeds seed, seed + 1, ...), decoding every step, or of long runs about 100 of them.

    `class_name` None asks for every class in turn, and for one image of each at least. `denoiser` is "network" or one
    that needed no training. Raises `ValueError` for arguments out of range, and for what costs more than `max_gflops`
    (in 1e9 floating-point operations of the networks).
    """
    num_images, labels = labels_to_denoise(checkpoint, class_name, num_images)
    pipeline, spec = checkpoint.pipeline, checkpoint.spec
    check_cost(checkpoint, num_images, num_steps, guidance_scale != 1, max_gflops)
    steps = pipeline.denoise(
        labels,
        range(seed, seed + num_images),
        num_inference_steps=num_steps,
        guidance_scale=guidance_scale,
        sampler=sampler,
        denoiser=denoiser_of(denoiser, checkpoint),
    )
    every = _every(num_steps)
    for step in steps:
        check_finite(checkpoint, step.z_next)
        last = step.index == step.total - 1
        if last or step.index % every == 0:
            mixed = pipeline.denoiser.schedule.at(step.timestep)
            z0 = step.z_next if last else step.z0
            yield DenoisingFrame(
                index=step.index,
                total=step.total,
                timestep=step.timestep,
                alpha_bar=float(mixed.a.square()),
                noisy=decode_images(pipeline.codec, step.z_t, spec),
                predicted=decode_images(pipeline.codec, z0, spec),
                z_t=step.z_t,
                z0=z0,
                eps=to_eps("sample", step.z0, step.z_t, mixed),
            )


def check_finite(checkpoint: Checkpoint, latents: Tensor) -> None:
    """Raise `ValueError` where a walk came to what is no picture."""
    if not latents.isfinite().all():
        raise ValueError(
            f"{checkpoint.name} gives latents that are not finite, and there is no picture of them: Diagnosis looks "
            "for the cause"
        )


def timesteps_shown(checkpoint: Checkpoint, sampler: str, num_steps: int) -> list[float]:
    """The timesteps of the frames that `denoise_images` will yield."""
    used = make_sampler(sampler, checkpoint.pipeline.scheduler)
    set_timesteps(used, num_steps)
    timesteps = used.timesteps.tolist()
    return [t for index, t in enumerate(timesteps) if index % _every(num_steps) == 0 or index == num_steps - 1]


def closeness_db(images: Tensor, others: Tensor) -> float:
    """PSNR in dB between two runs' images `(B, C, side, side) uint8`, the mean over images; infinite for the same."""
    return float(psnr_db(to_model(images), to_model(others)).mean())


def labels_to_denoise(checkpoint: Checkpoint, class_name: str | None, num_images: int) -> tuple[int, list[int] | None]:
    """How many images there will be, and their labels, None for a network without classes.

    Raises `ValueError` for an autoencoder alone, a number out of range and an unknown class.
    """
    if not checkpoint.has_denoiser:
        raise ValueError(f"{checkpoint.name} is an autoencoder: choose a checkpoint with a denoiser")
    if not 1 <= num_images <= MAX_IMAGES:
        raise ValueError(f"{num_images} images: give 1 to {MAX_IMAGES}")
    spec, told = checkpoint.spec, checkpoint.denoiser.num_classes
    if class_name is None:
        num_images = min(MAX_IMAGES, max(num_images, spec.num_classes))
    if not told:
        return num_images, None
    chosen = None if class_name is None else spec.label_of(class_name)
    return num_images, [index % spec.num_classes if chosen is None else chosen for index in range(num_images)]


def _every(num_steps: int) -> int:
    """The number of steps from one that is kept to the next."""
    return -(-num_steps // MAX_KEPT_FRAMES)


def check_cost(
    checkpoint: Checkpoint,
    num_images: int,
    num_steps: int,
    guided: bool,
    max_gflops: float,
    least_images: int = 1,
) -> None:
    """Raise `ValueError`, with what would fit, where sampling and decoding every kept step costs more.

    An exact denoiser counts as the network whose place it takes. Fewer than `least_images` are not asked for.
    """
    cost = measure_cost(checkpoint)
    evaluation_gflops = cost.evaluation_gflops or 0.0  # None of an autoencoder alone, which never samples

    def gflops(images: int, steps: int) -> float:
        kept = -(-steps // _every(steps))
        return images * (steps * evaluation_gflops * (1 + guided) + 2 * kept * cost.decode_gflops)

    if num_steps < 1 or gflops(num_images, num_steps) <= max_gflops:
        return
    steps = next((steps for steps in range(num_steps, 0, -1) if gflops(num_images, steps) <= max_gflops), 0)
    images = next(
        (images for images in range(num_images, least_images - 1, -1) if gflops(images, num_steps) <= max_gflops), 0
    )
    fitting = [counted(steps, "step")] * (steps > 0) + [counted(images, "image")] * (images > 0)
    raise ValueError(
        f"{counted(num_images, 'image')} in {counted(num_steps, 'step')} cost {gflops(num_images, num_steps):,.0f} "
        f"GFLOPs, one request may cost {max_gflops:,.0f}: ask for {' or '.join(fitting) or 'another checkpoint'}; on "
        "your own machine `python app.py --limits off` lifts this"
    )
