"""A sampling run taken apart, so that one thing in it can be changed."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, SchedulerMixin
from torch import Tensor

from ldm_explorer.denoiser import Denoiser
from ldm_explorer.pipeline import LatentDiffusionPipeline
from ldm_explorer.samplers import FLOW_SAMPLERS, is_flow

NUM_STEPS = 25
MIN_STEPS = 4


def steps_that_divide(pipeline: LatentDiffusionPipeline, most: int) -> int:
    """The largest number of steps up to `most` that divides T: with others diffusers' DDIMScheduler strides wrongly.

    A flow can be walked in any number. Raises `ValueError` where only fewer than 4 do.
    """
    num_timesteps = pipeline.scheduler.config.num_train_timesteps
    return min(most, num_timesteps) if is_flow(pipeline.scheduler) else divisor(num_timesteps, most)


def divisor(num_timesteps: int, most: int) -> int:
    """The largest number of steps up to `most` that divides so many timesteps. Raises `ValueError` as above."""
    steps = max(count for count in range(1, most + 1) if num_timesteps % count == 0)
    if steps < MIN_STEPS:
        raise ValueError(
            f"no number of steps up to {most} divides {num_timesteps} timesteps: choose another checkpoint"
        )
    return steps


def first_order(scheduler: SchedulerMixin) -> SchedulerMixin:
    """DDIM along betas, by diffusers' DDIMScheduler, as it can be told everything that people get wrong.

    Along a flow its step is that of Euler's method; first-order DPM-Solver++ takes it for every prediction type.
    """
    if is_flow(scheduler):
        return DPMSolverMultistepScheduler.from_config(FLOW_SAMPLERS["dpm++"](scheduler).config, solver_order=1)
    return DDIMScheduler.from_config(scheduler.config)


@dataclass(frozen=True)
class Sampling:
    """All that takes part in sampling from a pipeline; `encode` and `decode` are from and to pixels."""

    pipeline: LatentDiffusionPipeline
    denoiser: Denoiser
    scheduler: SchedulerMixin  # its class and config; every run makes its own
    decode: Callable[[Tensor], Tensor]
    encode: Callable[[Tensor], Tensor]
    relabel: Callable[[Tensor], Tensor] = lambda labels: labels
    num_steps: int = NUM_STEPS
    first_step: int = 0  # above 0: image to image, from a noised image at this step of the sampler

    @classmethod
    def right(cls, pipeline: LatentDiffusionPipeline, denoiser: Denoiser | None = None) -> "Sampling":
        """First-order steps over the pipeline as it is; `denoiser` answers in the place of its network."""
        return cls(
            pipeline,
            denoiser or pipeline.denoiser,
            first_order(pipeline.scheduler),
            pipeline.codec.decode,
            pipeline.codec.encode,
            num_steps=steps_that_divide(pipeline, NUM_STEPS),
        )

    def configured(self, **fields) -> "Sampling":
        """With some fields of the scheduler's config changed."""
        return replace(self, scheduler=type(self.scheduler).from_config(self.scheduler.config, **fields))
