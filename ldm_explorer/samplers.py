"""Samplers: a name maps to a diffusers scheduler, and `denoise` walks it from noise to a clean latent.

Every scheduler is built from the checkpoint's own DDPMScheduler config, so it shares the betas that were trained. The
names are in `standalone_pipeline`, which samples from run folders where this package is not. The default is the sampler
with the lowest feature FD on ldm-8x8x4-cosine, with the fewest evaluations that bring it within 5 % of that, by the
stored measures of `train/evaluate.py --few-evaluations`.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

import torch
from diffusers import DDIMScheduler, DDPMScheduler, SchedulerMixin
from torch import Tensor

from ldm_explorer.denoiser import Denoiser
from ldm_explorer.files import shown
from ldm_explorer.prediction import PredictionType, to_z0
from ldm_explorer.schedules import Schedule
from ldm_explorer.standalone_pipeline import DEFAULT_NUM_STEPS as DEFAULT_NUM_STEPS
from ldm_explorer.standalone_pipeline import DEFAULT_SAMPLER as DEFAULT_SAMPLER
from ldm_explorer.standalone_pipeline import SAMPLERS, set_timesteps


def make_scheduler(schedule: Schedule, prediction_type: PredictionType) -> DDPMScheduler:
    """The DDPMScheduler a checkpoint is trained with and stores.

    The betas themselves go into its config, so every sampler made from it reads the same ones. `clip_sample` is off:
    it would cut latents at +-1.
    """
    return DDPMScheduler(
        num_train_timesteps=schedule.num_timesteps,
        trained_betas=schedule.betas.tolist(),
        prediction_type=prediction_type,
        clip_sample=False,
        timestep_spacing="trailing",
        rescale_betas_zero_snr=bool(schedule.alpha_bars[-1] == 0),  # tells samplers not to divide by it
    )


def own_schedule(scheduler: SchedulerMixin) -> Schedule:
    """The schedule whose betas a scheduler holds."""
    return Schedule("own", scheduler.betas)


if TYPE_CHECKING:  # a type checker takes no Literal that is computed
    SamplerName = str
else:
    SamplerName = Literal[tuple(SAMPLERS)]


def make_sampler(name: str, scheduler: DDPMScheduler) -> SchedulerMixin:
    """A fresh sampler over the checkpoint's betas; samplers have state, so every run makes its own."""
    if name not in SAMPLERS:
        raise ValueError(f"unknown sampler {shown(name)}: choose one of {', '.join(SAMPLERS)}")
    return SAMPLERS[name](scheduler)


@cache
def _kinds(makers: tuple[Callable[[DDPMScheduler], SchedulerMixin], ...]) -> tuple[type[SchedulerMixin], ...]:
    """The classes of the samplers here, and the one that many others sample by."""
    return DDIMScheduler, *{type(make(DDPMScheduler())) for make in makers}


@dataclass(frozen=True)
class DenoiseStep:
    """One evaluation of the network. All latents are normalised, `(B, c, h, w)`."""

    index: int  # 0 .. total - 1
    total: int
    timestep: int
    z_t: Tensor  # what the network saw
    z0: Tensor  # the clean latent that its output implies
    z_next: Tensor  # after the step; the result when index == total - 1


def make_generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """One per image."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def draw_noise(shape: Sequence[int], seeds: Sequence[int]) -> tuple[Tensor, list[torch.Generator]]:
    """Standard normal noise `(len(seeds), *shape)`, one generator per image: image i depends on seed i alone."""
    generators = make_generators(seeds)
    return torch.stack([torch.randn(*shape, generator=generator) for generator in generators]), generators


def check_guidance(guidance_scale: float, denoiser: Denoiser, has_labels: bool) -> None:
    """Raises `ValueError` for what is no finite number, and for guidance without labels or a null class."""
    if not isinstance(guidance_scale, int | float) or not math.isfinite(guidance_scale):
        raise ValueError(f"guidance_scale is {shown(guidance_scale)}: give a finite number, 1 for none")
    if guidance_scale != 1 and not (has_labels and denoiser.null_class is not None):
        raise ValueError("guidance needs class labels and a network trained with a null class")


@torch.no_grad()
def denoise(
    denoiser: Denoiser,
    sampler: SchedulerMixin,
    noise: Tensor,
    class_labels: Tensor | None = None,
    *,
    num_steps: int,
    first_step: int = 0,
    guidance_scale: float = 1.0,
    generators: list[torch.Generator] | None = None,
) -> Iterator[DenoiseStep]:
    """Walk from `noise (B, c, h, w) ~ N(0, 1)` to a clean latent, yielding every step.

    With `first_step` above 0, `noise` is an image's latent noised to the timestep of that step, and the earlier steps
    are left out (image to image; Meng et al. 2021). `guidance_scale` w mixes e = e_null + w (e_label - e_null) (Ho &
    Salimans 2022; 1 is no guidance and costs one evaluation instead of two). `generators`, one per image, serve the
    samplers that add noise. Raises `ValueError` for a number of steps outside 1..T, guidance that is no number or
    without labels, or a sampler that adds noise without generators; `TypeError` for a scheduler of another class:
    what those do with a prediction is not known here.
    """
    check_guidance(guidance_scale, denoiser, class_labels is not None)
    guided = guidance_scale != 1.0
    if not isinstance(sampler, _kinds(tuple(SAMPLERS.values()))):
        raise TypeError(
            f"{type(sampler).__name__} is no sampler along betas that is known here: give make_sampler(NAME, ...), "
            f"{', '.join(SAMPLERS)}"
        )
    if isinstance(sampler, DDPMScheduler) and generators is None:
        raise ValueError("this sampler adds noise: give it one generator per image")
    takes_generators = "generator" in inspect.signature(sampler.step).parameters
    stochastic = {"generator": generators} if takes_generators else {}
    set_timesteps(sampler, num_steps)
    if first_step and hasattr(sampler, "set_begin_index"):
        sampler.set_begin_index(first_step)
    alpha_bars = sampler.alphas_cumprod
    z = noise * sampler.init_noise_sigma
    for index, timestep in enumerate(sampler.timesteps[first_step:], first_step):
        z_t = sampler.scale_model_input(z, timestep)
        prediction = denoiser.predict(z_t, timestep, class_labels)
        if guided:
            unconditional = denoiser.predict(z_t, timestep)
            prediction = unconditional + guidance_scale * (prediction - unconditional)
        t = int(timestep)
        # Read as the sampler reads it: that may have been told another prediction type or schedule.
        z0 = to_z0(sampler.config.prediction_type, prediction, z_t, alpha_bars[t])
        z = sampler.step(prediction, timestep, z, return_dict=False, **stochastic)[0]
        yield DenoiseStep(index, num_steps, t, z_t, z0, z)


def final_latents(steps: Iterable[DenoiseStep]) -> Tensor:
    """Walk to the end and return the clean latents."""
    for step in steps:
        latents = step.z_next
    return latents
