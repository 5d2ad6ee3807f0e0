"""What does a fault look like, beside the same run without it?"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.data import DatasetSpec, crop, to_model, to_uint8
from ldm_explorer.diagnosis.denoisers import DEFAULT_DENOISER, denoiser_of
from ldm_explorer.diagnosis.fault import Fault
from ldm_explorer.diagnosis.faults import FAULTS, lab_checkpoint
from ldm_explorer.diagnosis.sampling import Sampling
from ldm_explorer.evaluation.features import FeatureNet
from ldm_explorer.evaluation.reconstruction import psnr_db
from ldm_explorer.explore.images import example_images, first_of_class
from ldm_explorer.files import CheckpointError
from ldm_explorer.latents import in_batches
from ldm_explorer.lazy import cached_property
from ldm_explorer.prediction import add_noise
from ldm_explorer.samplers import amplitudes_at, denoise, draw_noise, set_timesteps


@dataclass(frozen=True)
class Moment:
    """One step of one of the two runs."""

    timestep: float
    z0: Tensor  # (B, c, h, w), the clean latents it believes in; at the last step the result
    z_t: Tensor  # (B, c, h, w), what the network saw
    decode: Callable[[Tensor], Tensor] = field(repr=False)

    @cached_property
    def predicted(self) -> Tensor:
        """`(B, C, side, side) uint8`, z0 decoded when that is asked for: a run's result may be all that is."""
        return self.decode(self.z0)


@dataclass(frozen=True)
class Subject:
    """What both runs are given, and what their results are measured with."""

    checkpoint: Checkpoint
    labels: Tensor | None  # (B,), None for a network without classes
    originals: Tensor | None  # (B, C, S, S) in [-1, 1], one test image per label; None where there are none
    seeds: range
    classifier: FeatureNet | None

    @classmethod
    def of(cls, checkpoint: Checkpoint, classifier: FeatureNet | None, seed: int, num_images: int = 10) -> "Subject":
        """The labels that there are test images of, in turn, each with its first one; image i has seed + i.

        All labels in turn where it is not known which images are of which.
        """
        classes, seeds = checkpoint.denoiser.num_classes, range(seed, seed + num_images)
        in_turn = torch.arange(num_images)
        try:
            examples = example_images(checkpoint)
        except CheckpointError:
            return cls(checkpoint, in_turn % classes if classes else None, None, seeds, classifier)
        firsts = torch.tensor(first_of_class(examples))
        chosen = firsts[in_turn % len(firsts)]
        known = in_turn % max(1, classes) if examples.labels is None else examples.labels[chosen]
        return cls(checkpoint, known if classes else None, to_model(examples.images[chosen]), seeds, classifier)

    @property
    def test_images(self) -> Tensor:
        """The originals. Raises `ValueError` where there are none."""
        if self.originals is None:
            raise ValueError(f"this fault is shown on images, and none like those of {self.checkpoint.name} are known")
        return self.originals

    @property
    def spec(self) -> DatasetSpec:
        return self.checkpoint.spec


def run_sampling(sampling: Sampling, subject: Subject) -> Iterator[Moment]:
    """Walk one run from noise, or from the noised originals."""

    def decoded(latents: Tensor) -> Tensor:
        finite = latents.nan_to_num(0, 0, 0)
        return in_batches(lambda part: crop(to_uint8(sampling.decode(part).nan_to_num()), subject.spec), finite)

    sampler = type(sampling.scheduler).from_config(sampling.scheduler.config)
    start, generators = draw_noise(sampling.pipeline.latent_shape, subject.seeds)
    if sampling.first_step:
        set_timesteps(sampler, sampling.num_steps)
        mixed = amplitudes_at(sampler, sampler.timesteps[sampling.first_step])
        start = add_noise(in_batches(sampling.encode, subject.test_images), start, mixed)
    labels = None if subject.labels is None else sampling.relabel(subject.labels)
    for step in denoise(
        sampling.denoiser,
        sampler,
        start,
        labels,
        num_steps=sampling.num_steps,
        first_step=sampling.first_step,
        generators=generators,
    ):
        z0 = step.z_next if step.index == step.total - 1 else step.z0
        yield Moment(step.timestep, z0, step.z_t, decoded)


def latents_std(moment: Moment, _subject: Subject) -> float:
    """Standard deviation of the latents."""
    return float(moment.z0.std())


def class_probability(moment: Moment, subject: Subject) -> float:
    """Mean probability that the classifier gives the classes asked for."""
    if subject.classifier is None or subject.labels is None:
        raise ValueError(f"{subject.checkpoint.name} has no labels, or no classifier of its images: choose another")
    with torch.no_grad():
        logits = subject.classifier(to_model(moment.predicted))
    return float(F.softmax(logits, 1)[torch.arange(len(logits)), subject.labels].mean())


def psnr_to_original(moment: Moment, subject: Subject) -> float:
    """PSNR in dB of the images to those that the run began with."""
    originals = crop(to_uint8(subject.test_images), subject.spec)
    return float(psnr_db(to_model(moment.predicted), to_model(originals)).mean())


def roughness(moment: Moment, subject: Subject) -> float:
    """Mean difference of neighbouring pixels, over that of the test images."""

    def step(images: Tensor) -> Tensor:
        return images.float().diff(dim=-1).abs().mean() + images.float().diff(dim=-2).abs().mean()

    return float(step(moment.predicted) / step(crop(to_uint8(subject.test_images), subject.spec)))


def contrast(moment: Moment, _subject: Subject) -> float:
    """Standard deviation of the pixels, which are 0 to 255."""
    return float(moment.predicted.float().std())


SYMPTOMS: dict[str, Callable[[Moment, Subject], float]] = {
    "latents_std": latents_std,
    "class_probability": class_probability,
    "psnr_to_original": psnr_to_original,
    "roughness": roughness,
    "contrast": contrast,
}


SYMPTOM_NAMES = {
    "latents_std": "standard deviation of the predicted latents",
    "class_probability": "probability of the class asked for, by the classifier",
    "psnr_to_original": "PSNR to the image it began with, dB",
    "roughness": "mean difference of neighbouring pixels, over that of test images",
    "contrast": "standard deviation of the pixels, 0 to 255",
}


@dataclass(frozen=True)
class FaultFrame:
    """One step of both runs."""

    index: int
    total: int
    right: Moment
    broken: Moment
    right_symptom: float
    broken_symptom: float


@dataclass(frozen=True)
class Experiment:
    """A fault, the checkpoint that shows it, and both ways to sample."""

    fault: Fault
    checkpoint: Checkpoint
    right: Sampling
    broken: Sampling

    @property
    def total(self) -> int:
        """The steps that both take."""
        return self.right.num_steps - self.right.first_step


class OtherPath(ValueError):
    """A fault that there is not along the path of the checkpoint it was asked of."""

    def __init__(self, why: str, fault: str, checkpoint: Checkpoint):
        super().__init__(f"{why}: choose another fault")
        self.fault, self.checkpoint = fault, checkpoint


def faults_of(checkpoint: Checkpoint) -> set[str]:
    """The names of those that can be put into a checkpoint, by its path alone; none into an autoencoder alone."""
    if not checkpoint.has_denoiser:
        return set()
    path = checkpoint.sampled_along
    return {name for name, fault in FAULTS.items() if _is_along(fault, path)}


def _is_along(fault: Fault, path: str) -> bool:
    return bool(fault.lab_run) or fault.along in (None, path)


def set_up(checkpoint: Checkpoint, fault_name: str, denoiser: str = DEFAULT_DENOISER) -> Experiment:
    """A fault put into a checkpoint, or for one that needs it into a run made for it.

    Raises `ValueError` for an unknown fault, a checkpoint that has no part of what it breaks or is sampled along
    another kind of path, the network of a student, or an exact denoiser in a fault of training.
    """
    if fault_name not in FAULTS:
        raise ValueError(f"unknown fault {fault_name!r}: choose one of {', '.join(FAULTS)}")
    fault = FAULTS[fault_name]
    if fault.lab_run:
        checkpoint = lab_checkpoint(fault.lab_run)
    if not checkpoint.has_denoiser:
        raise ValueError(f"{checkpoint.name} is an autoencoder: choose a checkpoint with a denoiser")
    if checkpoint.teacher and denoiser == DEFAULT_DENOISER:
        raise ValueError(
            f"{checkpoint.name} is a student, which knows its own few steps alone: choose a network that was not "
            "distilled, or an exact denoiser"
        )
    if fault.broken_run and denoiser != DEFAULT_DENOISER:
        raise ValueError("an exact denoiser was never trained: choose the network for a fault of training")
    path = checkpoint.sampled_along
    if not _is_along(fault, path):
        why = f"{fault.elsewhere}, and {checkpoint.name} is sampled along {path}"
        raise OtherPath(why, fault_name, checkpoint)
    fault = fault.told_along(path)
    right = fault.base(Sampling.right(checkpoint.pipeline, denoiser_of(denoiser, checkpoint)))
    return Experiment(fault, checkpoint, right, fault.inject(right))


def run_experiment(
    experiment: Experiment, subject: Subject, right_subject: Subject | None = None
) -> Iterator[FaultFrame]:
    """Both runs step by step, from the same noise; the right one of another checkpoint where its subject is given."""
    measure, of_right = SYMPTOMS[experiment.fault.symptom], right_subject or subject
    runs = (run_sampling(experiment.right, of_right), run_sampling(experiment.broken, subject))
    for index, (right, broken) in enumerate(zip(*runs, strict=True), 1):
        yield FaultFrame(index, experiment.total, right, broken, measure(right, of_right), measure(broken, subject))


def final_symptom(sampling: Sampling, subject: Subject, symptom: str) -> float:
    """The measure of a run's result."""
    *_, last = run_sampling(sampling, subject)
    return SYMPTOMS[symptom](last, subject)
