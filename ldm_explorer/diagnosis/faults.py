"""What goes wrong with latent diffusion: each fault breaks one thing of a sampling run that was right.

An entry here shows up in the failure lab and in the tests over all entries.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

from ldm_explorer.checkpoints import Checkpoint, read_checkpoint
from ldm_explorer.denoiser import StandIn
from ldm_explorer.diagnosis.sampling import Sampling, steps_that_divide
from ldm_explorer.prediction import PREDICTION_TYPES
from ldm_explorer.samplers import make_scheduler, own_schedule
from ldm_explorer.schedules import make_schedule
from ldm_explorer.shipped import shipped_checkpoints

Change = Callable[[Sampling], Sampling]
Symptom = Literal["latents_std", "class_probability", "psnr_to_original", "roughness"]


@dataclass(frozen=True)
class Fault:
    title: str
    what_happens: str
    fix: str  # the line of code or config
    symptom: Symptom  # the measure that gives it away
    inject: Change
    fixed: Change  # undoes what was injected
    base: Change = lambda sampling: sampling  # the right run beside which it shows
    in_folder: bool = False  # it can lie in a checkpoint's files; the others lie in calling code
    lab_run: str | None = None  # the right run of the lab beside which it shows; None: any checkpoint's
    broken_run: str | None = None  # for a fault of training, the run of the lab that has it
    harmless: str | None = None  # for one that does next to no harm here, the number that says so


@cache
def lab_checkpoint(name: str) -> Checkpoint:
    """A run of the lab, made for a fault that only training can show; its weights are loaded once.

    Their commands are in checkpoints/README.md. Raises `CheckpointError` where the shipped checkpoints are not here.
    """
    return read_checkpoint(shipped_checkpoints("lab", name))


def lab_sampling(name: str) -> Sampling:
    """The same, sampled as it should be."""
    return Sampling.right(lab_checkpoint(name).pipeline)


def _of_training(right: str, broken: str) -> dict:
    return {
        "inject": lambda _: lab_sampling(broken),
        "fixed": lambda _: lab_sampling(right),
        "lab_run": right,
        "broken_run": broken,
        "in_folder": True,
    }


def _configured(**fields) -> Change:
    return lambda sampling: sampling.configured(**fields)


def _own(*names: str) -> Change:
    """Scheduler fields as the checkpoint has them."""
    return lambda sampling: sampling.configured(**{name: sampling.pipeline.scheduler.config[name] for name in names})


def _with_other_schedule(sampling: Sampling) -> Sampling:
    """The linear schedule where another was trained, the cosine one where the linear was."""
    own = sampling.pipeline.scheduler.betas
    linear = make_schedule("linear", len(own)).betas
    other = make_schedule("cosine", len(own)).betas if torch.allclose(own, linear) else linear
    return sampling.configured(trained_betas=other.tolist())


def _with_other_prediction(sampling: Sampling) -> Sampling:
    own = sampling.scheduler.config.prediction_type
    others = [name for name in PREDICTION_TYPES if name != own]
    return sampling.configured(prediction_type=others[0])


def _zero_terminal_snr(sampling: Sampling) -> Sampling:
    schedule = own_schedule(sampling.pipeline.scheduler).with_zero_terminal_snr()
    config = make_scheduler(schedule, sampling.pipeline.scheduler.config.prediction_type).config
    return replace(sampling, scheduler=DPMSolverMultistepScheduler.from_config(config, solver_order=1))


class _StepIndex(StandIn):
    """A denoiser that is told the number of the step in place of its timestep."""

    def __init__(self, sampling: Sampling):
        super().__init__(sampling.denoiser)
        self.right, self.num_steps = sampling.denoiser, sampling.num_steps
        self.num_timesteps = sampling.scheduler.config.num_train_timesteps

    def forward(self, z_t: Tensor, timestep: int | Tensor, class_labels: Tensor | None = None) -> Tensor:
        step = self.num_steps - 1 - (int(timestep) * self.num_steps) // self.num_timesteps
        return self.right(z_t, torch.tensor(step), class_labels)


def _right_denoiser(sampling: Sampling) -> Sampling:
    return replace(sampling, denoiser=sampling.denoiser.right)


def _raw(sampling: Sampling) -> Callable[[Tensor], Tensor]:
    """Decoding with the latents' scaling left out."""
    codec = sampling.pipeline.codec
    return lambda latents: codec.decode((latents - codec.mean) / codec.std)


def _encode_raw(sampling: Sampling) -> Callable[[Tensor], Tensor]:
    codec = sampling.pipeline.codec
    return lambda pixels: codec.encode(pixels) * codec.std + codec.mean


def _encode_twice(sampling: Sampling) -> Callable[[Tensor], Tensor]:
    codec = sampling.pipeline.codec
    return lambda pixels: (codec.encode(pixels) - codec.mean) / codec.std


def _right_codec(sampling: Sampling) -> Sampling:
    codec = sampling.pipeline.codec
    return replace(sampling, encode=codec.encode, decode=codec.decode)


def _ignored(sampling: Sampling) -> Sampling:
    null_class = sampling.pipeline.null_class
    return replace(sampling, relabel=lambda labels: torch.full_like(labels, null_class))


def _shifted(sampling: Sampling) -> Sampling:
    num_classes = sampling.pipeline.null_class
    return replace(sampling, relabel=lambda labels: (labels + 1) % num_classes)


def _right_labels(sampling: Sampling) -> Sampling:
    return replace(sampling, relabel=lambda labels: labels)


def _image_to_image(sampling: Sampling) -> Sampling:
    """From an image noised to half of the way."""
    return replace(sampling, first_step=sampling.num_steps // 2)


def _few_steps(sampling: Sampling) -> Sampling:
    return replace(sampling, num_steps=steps_that_divide(sampling.pipeline, 8))


FAULTS: dict[str, Fault] = {
    "clip_sample": Fault(
        title="Latents clipped to [-1, 1]",
        what_happens="A third of a unit Gaussian lies beyond 1. DDPMScheduler and DDIMScheduler cut it off at every "
        "step unless told otherwise, which suits pixels, not latents: these come out narrow, the images flat.",
        fix='scheduler_config.json: "clip_sample": false',
        symptom="latents_std",
        inject=_configured(clip_sample=True),
        fixed=_configured(clip_sample=False),
        in_folder=True,
    ),
    "other_schedule": Fault(
        title="Sampled along another schedule than trained",
        what_happens="The network is told t, and takes from it how much noise there is; along another schedule there "
        "is more or less of it. Noise stays in the image, or details are taken for noise.",
        fix='scheduler_config.json: "trained_betas", or "beta_schedule", as in training',
        symptom="class_probability",
        inject=_with_other_schedule,
        fixed=_own("trained_betas"),
        in_folder=True,
    ),
    "other_prediction": Fault(
        title="The output taken for another prediction type",
        what_happens="A velocity read as noise is noise plus image: every step moves the wrong way, and the latents "
        "leave the range that the decoder knows.",
        fix='scheduler_config.json: "prediction_type" as in training',
        symptom="latents_std",
        inject=_with_other_prediction,
        fixed=_own("prediction_type"),
        in_folder=True,
    ),
    "not_normalised": Fault(
        title="An image's latents not normalised (image to image)",
        what_happens="The network learned latents of mean 0 and standard deviation 1 per channel, and is given what "
        "the encoder wrote: in Stable Diffusion's terms, times 0.18215 was forgotten.",
        fix="z = (vae.encode(x).latent_dist.mean - latents_mean) / latents_std",
        symptom="roughness",
        inject=lambda sampling: replace(sampling, encode=_encode_raw(sampling)),
        fixed=_right_codec,
        base=_image_to_image,
    ),
    "normalised_twice": Fault(
        title="An image's latents normalised twice (image to image)",
        what_happens="Two parts of a program each subtract the mean and divide by the standard deviation.",
        fix="normalise in one place: LatentCodec.encode does it already",
        symptom="psnr_to_original",
        inject=lambda sampling: replace(sampling, encode=_encode_twice(sampling)),
        fixed=_right_codec,
        base=_image_to_image,
    ),
    "decoded_raw": Fault(
        title="Decoded without undoing the normalisation",
        what_happens="The sampler's latents are right and the decoder is given them at the wrong scale: washed-out or "
        "distorted images of the right shapes.",
        fix="x = vae.decode(z * latents_std + latents_mean)",
        symptom="roughness",
        inject=lambda sampling: replace(sampling, decode=_raw(sampling)),
        fixed=_right_codec,
    ),
    "leading_spacing": Fault(
        title="Leading timesteps with few steps",
        what_happens="With 8 steps diffusers' default spacing begins at t = 875 and not at 999: the network is given "
        "pure noise and told that there is an image in it (Lin et al. 2023).",
        fix='scheduler_config.json: "timestep_spacing": "trailing"',
        symptom="latents_std",
        inject=_configured(timestep_spacing="leading"),
        fixed=_own("timestep_spacing"),
        base=_few_steps,
        in_folder=True,
    ),
    "step_index": Fault(
        title="The number of the step passed in place of the timestep",
        what_happens="for i, t in enumerate(timesteps): unet(z, i). The network is told that there is next to no noise "
        "when there is nothing else, and leaves it in.",
        fix="unet(z_t, t), with t out of scheduler.timesteps",
        symptom="class_probability",
        inject=lambda sampling: replace(sampling, denoiser=_StepIndex(sampling)),
        fixed=_right_denoiser,
    ),
    "labels_ignored": Fault(
        title="The label never reaches the network",
        what_happens="Every image is drawn with the null class: good images, of any class.",
        fix="unet(z_t, t, class_labels)",
        symptom="class_probability",
        inject=_ignored,
        fixed=_right_labels,
    ),
    "labels_shifted": Fault(
        title="Labels shifted by one",
        what_happens="Good images of the wrong class: training counted classes from 0, the caller from 1.",
        fix="class_labels = labels, from 0 to K - 1; K means no label",
        symptom="class_probability",
        inject=_shifted,
        fixed=_right_labels,
    ),
    "epsilon_zero_snr": Fault(
        title="Epsilon at zero terminal SNR",
        what_happens="Where nothing of the image is left, epsilon says nothing of it: z0 = (z - b eps) / a divides by "
        "zero at the first step.",
        fix='train and sample with "prediction_type": "v_prediction", or keep a little signal at the end',
        symptom="latents_std",
        inject=_zero_terminal_snr,
        fixed=lambda sampling: replace(sampling, scheduler=Sampling.right(sampling.pipeline).scheduler),
        in_folder=True,
        lab_run="lab-normalised",
    ),
    "middle_weights": Fault(
        title="Weights from the middle of training, not averaged",
        what_happens="Half-way the learning rate is still high, and the weights of one step are as noisy as its "
        "gradient; their moving average (EMA) is not.",
        fix="load the average of the last step, not the weights of some checkpoint on the way",
        symptom="class_probability",
        harmless="the classes asked for have a probability of .60 and .65, with the averaged weights at the end .64 to "
        ".82 over five seeds: worse, but hardly by more than seeds differ.",
        **_of_training("lab-healthy", "lab-middle-weights"),
    ),
    "raw_latents": Fault(
        title="Latents never scaled, in training",
        what_happens="The network learns latents of another standard deviation than the noise: the signal-to-noise "
        "ratio of every timestep is another than the schedule says.",
        fix="train on (z - latents_mean) / latents_std",
        symptom="class_probability",
        harmless="this encoder's latents have standard deviations of .9 to 1.8, near enough to 1. The network closed "
        "6 % of the gap below the Gaussian floor, on normalised latents 5 %, and the classes asked for have a "
        "probability of .56 and .63 beside .62 to .71 over five seeds. With another encoder it need not be.",
        **_of_training("lab-normalised", "lab-raw-latents"),
    ),
    "posterior_collapse": Fault(
        title="Posterior collapse",
        what_happens="The weight of the KL term was so high that the encoder writes the same for every image: the "
        "decoder knows one grey mean, and the denoiser learns pure noise.",
        fix="train/vae.py --kl-weight 1e-4",
        symptom="class_probability",
        **_of_training("lab-healthy", "lab-collapsed"),
    ),
    "high_learning_rate": Fault(
        title="Learning rate far too high, no warm-up, no clipping",
        what_happens="The first steps throw the weights to where only the scale of the latents can be learned.",
        fix="train/ldm.py --learning-rate 2e-3 --lr-warmup-steps 200 --grad-clip-norm 1",
        symptom="class_probability",
        **_of_training("lab-healthy", "lab-high-learning-rate"),
    ),
    "few_steps": Fault(
        title="Far too few training steps",
        what_happens="60 steps teach the network the covariance at best: clouds of the right brightness.",
        fix="train longer: the loss still falls below the Gaussian floor",
        symptom="class_probability",
        **_of_training("lab-healthy", "lab-few-steps"),
    ),
}
