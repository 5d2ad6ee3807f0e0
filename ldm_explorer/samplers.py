"""Samplers: a name maps to a diffusers scheduler, and `denoise` walks it from noise to a clean latent.

Every sampler is built from the config of the checkpoint's own scheduler, so it shares the schedule that was trained.
The names are in `standalone_pipeline`, which samples from run folders where this package is not. The default is the
sampler with the lowest feature FD on ldm-8x8x4-cosine, with the fewest evaluations that bring it within 5 % of that, by
the stored measures of `train/evaluate.py --few-evaluations`.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    SchedulerMixin,
)
from torch import Tensor

from ldm_explorer.amplitudes import Amplitudes, amplitudes_of
from ldm_explorer.denoiser import Denoiser
from ldm_explorer.files import shown
from ldm_explorer.prediction import PredictionType, to_z0
from ldm_explorer.schedules import BetaSchedule, FlowSchedule, Schedule
from ldm_explorer.standalone_pipeline import DEFAULT_NUM_STEPS as DEFAULT_NUM_STEPS
from ldm_explorer.standalone_pipeline import DEFAULT_SAMPLER as DEFAULT_SAMPLER
from ldm_explorer.standalone_pipeline import FLOW_SAMPLERS, SAMPLERS, is_flow, set_timesteps

OF_BETAS: tuple[PredictionType, ...] = ("epsilon", "v_prediction", "sample")
OF_FLOWS: tuple[PredictionType, ...] = ("flow", "epsilon", "sample")
"""What diffusers' samplers read along either; v needs a schedule that preserves variance."""
FLOW_PREDICTION = "flow_prediction"
"""What diffusers calls the prediction type "flow"."""
OF_VELOCITY = ("euler", "heun")
"""The samplers that take the flow velocity alone."""


def make_scheduler(schedule: Schedule, prediction_type: PredictionType, shift: float = 1.0) -> SchedulerMixin:
    """The scheduler that a checkpoint stores: one by which stock diffusers samples from it.

    Of betas a DDPMScheduler: the betas themselves go into its config, so every sampler made from it reads the same
    ones, and `clip_sample` is off, as it would cut latents at +-1. Of a flow a FlowMatchEulerDiscreteScheduler, which
    takes the flow velocity alone, or DPM-Solver++ with flow sigmas; a `shift` above 1 has it take more of its steps
    where noise is (Esser et al. 2024, section 5.3.2). Raises `ValueError` for a prediction type that no scheduler of
    diffusers reads along this schedule.
    """
    if prediction_type not in (known := prediction_types_of(schedule)):
        raise ValueError(f"{prediction_type} along {schedule.name}: no sampler reads it; choose {', '.join(known)}")
    if isinstance(schedule, FlowSchedule):
        if prediction_type == "flow":
            given = {"shift": shift} if shift != 1 else {}  # others, made of it, warn of a field that they do not know
            return FlowMatchEulerDiscreteScheduler(num_train_timesteps=schedule.num_timesteps, **given)
        return DPMSolverMultistepScheduler(
            num_train_timesteps=schedule.num_timesteps,  # by name: `from_config` forgets what came by position
            prediction_type=prediction_type,
            use_flow_sigmas=True,
            flow_shift=shift,
        )
    assert isinstance(schedule, BetaSchedule)
    return DDPMScheduler(
        num_train_timesteps=schedule.num_timesteps,
        trained_betas=schedule.betas.tolist(),
        prediction_type=prediction_type,
        clip_sample=False,
        timestep_spacing="trailing",
        rescale_betas_zero_snr=bool(schedule.alpha_bars[-1] == 0),  # tells samplers not to divide by it
    )


def prediction_types_of(schedule: Schedule) -> tuple[PredictionType, ...]:
    """What a network may predict along a schedule so that diffusers' samplers can read it."""
    return OF_FLOWS if isinstance(schedule, FlowSchedule) else OF_BETAS


def own_schedule(scheduler: SchedulerMixin) -> Schedule:
    """The schedule that a scheduler holds."""
    if is_flow(scheduler):
        return FlowSchedule(scheduler.config.num_train_timesteps)
    return BetaSchedule("own", scheduler.betas)


def prediction_type_of(scheduler: SchedulerMixin) -> PredictionType:
    """What a scheduler takes a network's output for."""
    kind = scheduler.config.get("prediction_type", FLOW_PREDICTION)  # the flow-matching ones take nothing else
    return "flow" if kind == FLOW_PREDICTION else kind


ALL_SAMPLERS = tuple({**SAMPLERS, **FLOW_SAMPLERS})
if TYPE_CHECKING:  # a type checker takes no Literal that is computed
    SamplerName = str
else:
    SamplerName = Literal[ALL_SAMPLERS]


def shift_of(scheduler: SchedulerMixin) -> float:
    """The shift of a flow's scheduler."""
    return scheduler.config.get("shift", scheduler.config.get("flow_shift", 1.0))


def shifted(s: Tensor | float, shift: float) -> Tensor | float:
    """A flow's time s after a shift, which is more at the noisy end for one above 1 (Esser et al. 2024, eq. 23)."""
    return shift * s / (1 + (shift - 1) * s)


def samplers_of(schedule: Schedule, prediction_type: PredictionType) -> tuple[SamplerName, ...]:
    """Those that walk along a schedule with what a network predicts."""
    if not isinstance(schedule, FlowSchedule):
        return tuple(SAMPLERS)
    return tuple(name for name in FLOW_SAMPLERS if prediction_type == "flow" or name not in OF_VELOCITY)


def takes_evaluations(name: str, num_steps: int) -> bool:
    """Whether a sampler can be given so many: Heun's method takes two a step, but one for the last."""
    return name != "heun" or num_steps % 2 == 1


def is_trial(name: str, index: int) -> bool:
    """Whether an evaluation, counted from 0, is at a point that a sampler goes back from: of Heun's two a step the
    second."""
    return name == "heun" and index % 2 == 1


def make_sampler(name: str, scheduler: SchedulerMixin) -> SchedulerMixin:
    """A fresh sampler over the checkpoint's schedule; samplers have state, so every run makes its own.

    Raises `ValueError` for one that does not walk along this schedule, or does not read this prediction.
    """
    schedule, prediction_type = own_schedule(scheduler), prediction_type_of(scheduler)
    known = samplers_of(schedule, prediction_type)
    if name in known:
        return (FLOW_SAMPLERS if is_flow(scheduler) else SAMPLERS)[name](scheduler)
    if name in OF_VELOCITY and is_flow(scheduler):
        why = f"sampler {name!r} takes the flow velocity u, and this network predicts {prediction_type}"
    elif name in ALL_SAMPLERS:
        why = f"sampler {name!r} does not walk along {'a flow' if is_flow(scheduler) else 'a schedule of betas'}"
    else:
        why = f"unknown sampler {shown(name)}"
    raise ValueError(f"{why}: choose one of {', '.join(known)}")


def clipping(scheduler: SchedulerMixin) -> SchedulerMixin:
    """The same scheduler of pixels, of which every sampler clips z0 to [-1, 1] where it says that it does.

    The fast samplers of diffusers know no `clip_sample`; dynamic thresholding (Saharia et al. 2022, section 2.3) is a
    clip where nothing above 1 is let through.
    """
    if not scheduler.config.get("clip_sample") or scheduler.config.clip_sample_range != 1:
        return scheduler
    return type(scheduler).from_config(scheduler.config, thresholding=True, sample_max_value=1.0)


@cache
def _kinds(makers: tuple[Callable, ...], stored: type[SchedulerMixin]) -> tuple[type[SchedulerMixin], ...]:
    """The classes of the samplers that are made of a stored one, and the one that many others sample along betas by."""
    return DDIMScheduler, *{type(make(stored())) for make in makers}


def _check_sampler(sampler: SchedulerMixin, schedule: Schedule) -> None:
    """Raises `TypeError` for what is no sampler along such a schedule."""
    of_flow = isinstance(schedule, FlowSchedule)
    known = FLOW_SAMPLERS if of_flow else SAMPLERS
    kinds = _kinds(tuple(known.values()), FlowMatchEulerDiscreteScheduler if of_flow else DDPMScheduler)
    if not isinstance(sampler, kinds) or is_flow(sampler) != of_flow:
        raise TypeError(
            f"{type(sampler).__name__} is no sampler along {'a flow' if of_flow else 'betas'} that is known here: give "
            f"make_sampler(NAME, ...), {', '.join(known)}"
        )


@dataclass(frozen=True)
class DenoiseStep:
    """One evaluation of the network. All latents are normalised, `(B, c, h, w)`."""

    index: int  # 0 .. total - 1
    total: int
    timestep: float  # what the network was told; whole numbers along a schedule of betas
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
    _check_sampler(sampler, denoiser.schedule)
    if isinstance(sampler, DDPMScheduler) and generators is None:
        raise ValueError("this sampler adds noise: give it one generator per image")
    takes_generators = "generator" in inspect.signature(sampler.step).parameters
    stochastic = {"generator": generators} if takes_generators else {}
    set_timesteps(sampler, num_steps)
    if first_step and hasattr(sampler, "set_begin_index"):
        sampler.set_begin_index(first_step)
    z = noise * getattr(sampler, "init_noise_sigma", 1.0)
    for index, timestep in enumerate(sampler.timesteps[first_step:], first_step):
        z_t = z if is_flow(sampler) else sampler.scale_model_input(z, timestep)
        prediction = denoiser.predict(z_t, timestep, class_labels)
        if guided:
            unconditional = denoiser.predict(z_t, timestep)
            prediction = unconditional + guidance_scale * (prediction - unconditional)
        # Read as the sampler reads it: that may have been told another prediction type or schedule.
        z0 = to_z0(prediction_type_of(sampler), prediction, z_t, amplitudes_at(sampler, timestep))
        z = sampler.step(prediction, timestep, z, return_dict=False, **stochastic)[0]
        yield DenoiseStep(index, num_steps, timestep.item(), z_t, z0, z)


def amplitudes_at(sampler: SchedulerMixin, timestep: Tensor) -> Amplitudes:
    """(a, b) where a sampler is at a timestep."""
    if is_flow(sampler):
        return own_schedule(sampler).at(timestep)
    return amplitudes_of(sampler.alphas_cumprod[int(timestep)])  # where a sampler moved the last one away from zero


def final_latents(steps: Iterable[DenoiseStep]) -> Tensor:
    """Walk to the end and return the clean latents."""
    for step in steps:
        latents = step.z_next
    return latents
