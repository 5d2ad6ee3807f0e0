"""What faults change of a sampling run, and what undoes it: each takes a run and returns another."""

from collections.abc import Callable
from dataclasses import replace

import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

from ldm_explorer.denoiser import Denoiser, StandIn
from ldm_explorer.diagnosis.sampling import Sampling, first_order, steps_that_divide
from ldm_explorer.prediction import PredictionType
from ldm_explorer.samplers import (
    FLOW_PREDICTION,
    is_flow,
    make_scheduler,
    own_schedule,
    prediction_type_of,
    prediction_types_of,
    set_timesteps,
    shift_of,
    shifted,
)
from ldm_explorer.schedules import BetaSchedule, FlowSchedule, Schedule, make_schedule

Change = Callable[[Sampling], Sampling]


def configured(**fields) -> Change:
    """Other scheduler fields."""
    return lambda sampling: sampling.configured(**fields)


def shifted_by(factor: float) -> Change:
    """A flow's shift, so many times as large."""
    return lambda sampling: sampling.configured(flow_shift=factor * sampling.scheduler.config.flow_shift)


def own(*names: str) -> Change:
    """Scheduler fields as the right run has them."""

    def change(sampling: Sampling) -> Sampling:
        config = Sampling.right(sampling.pipeline).scheduler.config
        return sampling.configured(**{name: config[name] for name in names})

    return change


def other_schedule(sampling: Sampling) -> Sampling:
    """The linear schedule where another was trained, the cosine one where the linear was."""
    trained = sampling.pipeline.scheduler.betas
    linear = make_schedule("linear", len(trained)).betas
    other = make_schedule("cosine", len(trained)).betas if torch.allclose(trained, linear) else linear
    return sampling.configured(trained_betas=other.tolist())


def other_prediction(sampling: Sampling) -> Sampling:
    trained = prediction_type_of(sampling.scheduler)
    other = next(kind for kind in prediction_types_of(own_schedule(sampling.scheduler)) if kind != trained)
    return sampling.configured(prediction_type=FLOW_PREDICTION if other == "flow" else other)


def zero_terminal_snr(sampling: Sampling) -> Sampling:
    schedule = BetaSchedule("own", sampling.pipeline.scheduler.betas).with_zero_terminal_snr()
    config = make_scheduler(schedule, sampling.pipeline.scheduler.config.prediction_type).config
    return replace(sampling, scheduler=DPMSolverMultistepScheduler.from_config(config, solver_order=1))


def right_scheduler(sampling: Sampling) -> Sampling:
    return replace(sampling, scheduler=Sampling.right(sampling.pipeline).scheduler)


class _AskedOtherwise(StandIn):
    """A denoiser that is told another timestep than where the latent is, or whose output is turned around.

    With a `schedule` it walks along that one in the place of its own.
    """

    def __init__(
        self,
        right: Denoiser,
        told: Callable[[Tensor], Tensor] = lambda timestep: timestep,
        sign: int = 1,
        schedule: Schedule | None = None,
    ):
        super().__init__(right)
        self.right, self.told, self.sign = right, told, sign
        self.schedule = schedule or right.schedule

    def forward(self, z_t: Tensor, timestep: float | Tensor, class_labels: Tensor | None = None) -> Tensor:
        return self.sign * self.right(z_t, self.told(torch.as_tensor(timestep)), class_labels)


def right_denoiser(sampling: Sampling) -> Sampling:
    denoiser = sampling.denoiser
    return replace(sampling, denoiser=denoiser.right) if isinstance(denoiser, _AskedOtherwise) else sampling


def step_index(sampling: Sampling) -> Sampling:
    """The network told the number of the step."""
    walked = type(sampling.scheduler).from_config(sampling.scheduler.config)
    set_timesteps(walked, sampling.num_steps)
    return _told(sampling, lambda timestep: (walked.timesteps - timestep).abs().argmin())


def reversed_time(sampling: Sampling) -> Sampling:
    """A flow's network told T - t: 0 where noise is."""
    num_timesteps = sampling.scheduler.config.num_train_timesteps
    return _told(sampling, lambda timestep: num_timesteps - timestep)


def time_as_share(sampling: Sampling) -> Sampling:
    """A flow's network told s, which is 0 to 1, in the place of T s."""
    num_timesteps = sampling.scheduler.config.num_train_timesteps
    return _told(sampling, lambda timestep: timestep / num_timesteps)


def time_before_shift(sampling: Sampling) -> Sampling:
    """A flow's network told the time of the step before it was shifted."""
    num_timesteps, shift = sampling.scheduler.config.num_train_timesteps, shift_of(sampling.scheduler)
    return _told(sampling, lambda timestep: num_timesteps * shifted(timestep / num_timesteps, 1 / shift))


def _told(sampling: Sampling, told: Callable[[Tensor], Tensor]) -> Sampling:
    return replace(sampling, denoiser=_AskedOtherwise(sampling.denoiser, told))


def opposite_velocity(sampling: Sampling) -> Sampling:
    """-u or -v. Raises `ValueError` for a network that predicts neither."""
    _check_velocity(sampling)
    return replace(sampling, denoiser=_AskedOtherwise(sampling.denoiser, sign=-1))


def other_velocity(sampling: Sampling) -> Sampling:
    """The u of a flow read as v along the cosine schedule, or a v as the u of a flow.

    Raises `ValueError` for a network that predicts neither.
    """
    _check_velocity(sampling)
    num_timesteps = sampling.scheduler.config.num_train_timesteps
    if is_flow(sampling.scheduler):
        return along(make_schedule("cosine", num_timesteps), "v_prediction")(sampling)
    return along(FlowSchedule(num_timesteps), "flow")(sampling)


def _check_velocity(sampling: Sampling) -> None:
    if (kind := sampling.pipeline.denoiser.prediction_type) not in ("flow", "v_prediction"):
        raise ValueError(f"this fault is one of a velocity, and the network predicts {kind}: choose another checkpoint")


def along(schedule: Schedule, prediction_type: PredictionType) -> Change:
    """Sampled along another schedule, the output read as what is predicted there."""
    scheduler = first_order(make_scheduler(schedule, prediction_type))
    return lambda sampling: replace(
        sampling, scheduler=scheduler, denoiser=_AskedOtherwise(sampling.denoiser, schedule=schedule)
    )


def right_path(sampling: Sampling) -> Sampling:
    return right_denoiser(right_scheduler(sampling))


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


def shifted_steps(sampling: Sampling) -> Sampling:
    """A flow's steps as Stable Diffusion 3 takes them: more where noise is (Esser et al. 2024)."""
    return sampling.configured(flow_shift=3.0)
