"""Samplers: a name maps to a diffusers scheduler, and `denoise` walks it from noise to a clean latent.

Every scheduler is built from the checkpoint's own DDPMScheduler config, so it shares the betas that were trained.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from diffusers import (
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    SchedulerMixin,
    UniPCMultistepScheduler,
)
from torch import Tensor

from ldm_explorer.denoiser import Denoiser
from ldm_explorer.files import shown
from ldm_explorer.prediction import PredictionType, to_z0
from ldm_explorer.schedules import Schedule


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


SAMPLERS: dict[str, Callable[[DDPMScheduler], SchedulerMixin]] = {
    "dpm++": lambda scheduler: DPMSolverMultistepScheduler.from_config(scheduler.config),
    "unipc": lambda scheduler: UniPCMultistepScheduler.from_config(scheduler.config),
    "ddim": lambda scheduler: DPMSolverMultistepScheduler.from_config(scheduler.config, solver_order=1),
    "ddpm": lambda scheduler: DDPMScheduler.from_config(scheduler.config),
}
"""DPM-Solver++ 2M (Lu et al. 2022), UniPC (Zhao et al. 2023), DDIM (Song et al. 2021), ancestral DDPM (Ho et al. 2020).

DDIM is first-order DPM-Solver++ (Lu et al. 2022, section 4.1): diffusers' DDIMScheduler strides by T // steps, which is
wrong where the steps do not divide T.
"""
if TYPE_CHECKING:  # a type checker takes no Literal that is computed
    SamplerName = str
else:
    SamplerName = Literal[tuple(SAMPLERS)]

DEFAULT_SAMPLER = "unipc"
DEFAULT_NUM_STEPS = 10
"""The sampler with the lowest feature FD on ldm-8x8x4-cosine, with the fewest evaluations that bring it within 5 % of
that, by the stored measures of `train/evaluate.py --few-evaluations`."""


def make_sampler(name: str, scheduler: DDPMScheduler) -> SchedulerMixin:
    """A fresh sampler over the checkpoint's betas; samplers have state, so every run makes its own."""
    if name not in SAMPLERS:
        raise ValueError(f"unknown sampler {name!r}: choose one of {', '.join(SAMPLERS)}")
    return SAMPLERS[name](scheduler)


@dataclass(frozen=True)
class DenoiseStep:
    """One evaluation of the network. All latents are normalised, `(B, c, h, w)`."""

    index: int  # 0 .. total - 1
    total: int
    timestep: int
    z_t: Tensor  # what the network saw
    z0: Tensor  # the clean latent that its output implies
    z_next: Tensor  # after the step; the result when index == total - 1


def draw_noise(shape: Sequence[int], seeds: Sequence[int]) -> tuple[Tensor, list[torch.Generator]]:
    """Standard normal noise `(len(seeds), *shape)`, one generator per image: image i depends on seed i alone."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return torch.stack([torch.randn(*shape, generator=generator) for generator in generators]), generators


def set_timesteps(sampler: SchedulerMixin, num_steps: int) -> None:
    """Give a sampler exactly `num_steps` trailing timesteps; diffusers' own arange gains t = -1 at 61 of 1000.

    Raises `ValueError` for a number of steps outside 1..T, and for one at which another spacing stands still.
    """
    num_timesteps = sampler.config.num_train_timesteps
    if not isinstance(num_steps, int) or not 1 <= num_steps <= num_timesteps:
        raise ValueError(f"{shown(num_steps)} steps: give 1 to {num_timesteps}, the schedule's length")
    sampler.set_timesteps(num_steps)
    if len(sampler.timesteps) > num_steps:
        sampler.set_timesteps(num_steps - 1e-9)
    if len(sampler.timesteps.unique()) < num_steps:
        raise ValueError(
            f"{num_steps} steps with timestep_spacing {sampler.config.timestep_spacing!r} come to a timestep twice: "
            f"give fewer than {num_timesteps}"
        )


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
    without labels, or a sampler that adds noise without generators.
    """
    if not isinstance(guidance_scale, int | float) or not math.isfinite(guidance_scale):
        raise ValueError(f"guidance_scale is {shown(guidance_scale)}: give a finite number, 1 for none")
    guided = guidance_scale != 1.0
    if guided and (class_labels is None or denoiser.null_class is None):
        raise ValueError("guidance needs class labels and a network trained with a null class")
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
