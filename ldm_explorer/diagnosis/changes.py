"""What faults change of a sampling run, and what undoes it: each takes a run and returns another."""

from collections.abc import Callable
from dataclasses import replace

import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

from ldm_explorer.denoiser import Denoiser, StandIn
from ldm_explorer.diagnosis.sampling import Sampling, steps_that_divide
from ldm_explorer.samplers import OF_BETAS, make_scheduler
from ldm_explorer.schedules import BetaSchedule, make_schedule

Change = Callable[[Sampling], Sampling]


def configured(**fields) -> Change:
    """Other scheduler fields."""
    return lambda sampling: sampling.configured(**fields)


def own(*names: str) -> Change:
    """Scheduler fields as the checkpoint has them."""
    return lambda sampling: sampling.configured(**{name: sampling.pipeline.scheduler.config[name] for name in names})


def other_schedule(sampling: Sampling) -> Sampling:
    """The linear schedule where another was trained, the cosine one where the linear was."""
    trained = sampling.pipeline.scheduler.betas
    linear = make_schedule("linear", len(trained)).betas
    other = make_schedule("cosine", len(trained)).betas if torch.allclose(trained, linear) else linear
    return sampling.configured(trained_betas=other.tolist())


def other_prediction(sampling: Sampling) -> Sampling:
    trained = sampling.scheduler.config.prediction_type
    others = [name for name in OF_BETAS if name != trained]
    return sampling.configured(prediction_type=others[0])


def zero_terminal_snr(sampling: Sampling) -> Sampling:
    schedule = BetaSchedule("own", sampling.pipeline.scheduler.betas).with_zero_terminal_snr()
    config = make_scheduler(schedule, sampling.pipeline.scheduler.config.prediction_type).config
    return replace(sampling, scheduler=DPMSolverMultistepScheduler.from_config(config, solver_order=1))


def right_scheduler(sampling: Sampling) -> Sampling:
    return replace(sampling, scheduler=Sampling.right(sampling.pipeline).scheduler)


class _StepIndex(StandIn):
    """A denoiser that is told the number of the step in place of its timestep."""

    def __init__(self, right: Denoiser, num_steps: int, num_timesteps: int):
        super().__init__(right)
        self.right, self.num_steps, self.num_timesteps = right, num_steps, num_timesteps

    def forward(self, z_t: Tensor, timestep: int | Tensor, class_labels: Tensor | None = None) -> Tensor:
        step = self.num_steps - 1 - (int(timestep) * self.num_steps) // self.num_timesteps
        return self.right(z_t, torch.tensor(step), class_labels)


def step_index(sampling: Sampling) -> Sampling:
    """The network told the number of the step."""
    num_timesteps = sampling.scheduler.config.num_train_timesteps
    return replace(sampling, denoiser=_StepIndex(sampling.denoiser, sampling.num_steps, num_timesteps))


def right_timestep(sampling: Sampling) -> Sampling:
    denoiser = sampling.denoiser
    return replace(sampling, denoiser=denoiser.right) if isinstance(denoiser, _StepIndex) else sampling


def encode_raw(sampling: Sampling) -> Sampling:
    """Latents as the encoder writes them."""
    codec = sampling.pipeline.codec
    return replace(sampling, encode=lambda pixels: codec.encode(pixels) * codec.std + codec.mean)


def encode_twice(sampling: Sampling) -> Sampling:
    """Latents normalised, and normalised again."""
    codec = sampling.pipeline.codec
    return replace(sampling, encode=lambda pixels: (codec.encode(pixels) - codec.mean) / codec.std)


def decode_raw(sampling: Sampling) -> Sampling:
    """Decoding with the latents' scaling left out."""
    codec = sampling.pipeline.codec
    return replace(sampling, decode=lambda latents: codec.decode((latents - codec.mean) / codec.std))


def right_codec(sampling: Sampling) -> Sampling:
    codec = sampling.pipeline.codec
    return replace(sampling, encode=codec.encode, decode=codec.decode)


def labels_ignored(sampling: Sampling) -> Sampling:
    """The null class for every label. Raises `ValueError` for a network without labels, or without a null class."""
    classes, null_class = _num_classes(sampling), sampling.pipeline.null_class
    if null_class is None:
        raise ValueError(
            f"this fault is one of the label that means none, and all {classes} are classes: choose another"
        )
    return replace(sampling, relabel=lambda labels: torch.full_like(labels, null_class))


def labels_shifted(sampling: Sampling) -> Sampling:
    """The next class for every label. Raises `ValueError` for a network without labels."""
    num_classes = _num_classes(sampling)
    return replace(sampling, relabel=lambda labels: (labels + 1) % num_classes)


def _num_classes(sampling: Sampling) -> int:
    """K. Raises `ValueError` for a network without labels."""
    if not (classes := sampling.pipeline.denoiser.num_classes):
        raise ValueError("this fault is one of class labels, and the network takes none: choose another checkpoint")
    return classes


def right_labels(sampling: Sampling) -> Sampling:
    return replace(sampling, relabel=lambda labels: labels)


def image_to_image(sampling: Sampling) -> Sampling:
    """From an image noised to half of the way."""
    return replace(sampling, first_step=sampling.num_steps // 2)


def few_steps(sampling: Sampling) -> Sampling:
    return replace(sampling, num_steps=steps_that_divide(sampling.pipeline, 8))
