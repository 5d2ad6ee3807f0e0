"""The options of a student's training, and the teacher that follows from them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from diffusers import DDPMScheduler

from ldm_explorer.checkpoints import Checkpoint, read_checkpoint
from ldm_explorer.diagnosis.known import non_finite
from ldm_explorer.files import counted
from ldm_explorer.model_folder import find_model
from ldm_explorer.network_files import weights_sha256
from ldm_explorer.run_files import read_run_config
from ldm_explorer.run_layout import UNET
from ldm_explorer.sampler_steps import SamplerSteps, steps_of_student
from ldm_explorer.samplers import DEFAULT_SAMPLER, make_sampler
from ldm_explorer.shipped import find_checkpoint
from ldm_explorer.standalone_pipeline import set_timesteps
from ldm_explorer.training.dataset import TrainConfig

METHOD = "progressive distillation"
OF_THE_TEACHER = (
    *("vae", "schedule", "zero_terminal_snr", "num_timesteps", "prediction"),
    *("normalise_latents", "class_labels", "flip"),
)
"""What a student has of its teacher's options: others ask its train_config.json about them."""


@dataclass(frozen=True, kw_only=True)
class DistillConfig(TrainConfig):
    """The options of a student's training, from Python or on the command line of train/distill.py.

    Raises `ValueError` for values that cannot be.
    """

    DEFAULT_MINUTES: ClassVar[float] = 30
    ENCODES: ClassVar[bool] = True
    LEARNING_RATES: ClassVar[dict[str, float]] = {"muon": 2e-3, "adamw": 3e-4}

    teacher: Path = Path("checkpoints/fashion_mnist/flagship-8x8x4")
    """Run folder of the denoiser to learn from, from here or from the repository's root: along betas, no flow. It may
    be a student of more evaluations."""
    evaluations: int = 4
    """Evaluations of the network for an image of the student's."""
    teacher_evaluations: int = 4
    """Evaluations of the teacher that one of the student's stands for, 2 or more; a teacher that is a student itself
    takes its own."""
    label_dropout: float = 0.1
    """Share of examples trained with the null class in place of their label."""
    batch_size: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("evaluations", 1), ("teacher_evaluations", 2)):  # by one the student has nothing to learn
            if (value := getattr(self, name)) < least:
                raise ValueError(f"--{name.replace('_', '-')} is {value}: give at least {least}")
        if not 0 <= self.label_dropout < 1:
            raise ValueError(f"--label-dropout is {self.label_dropout}: give a share in [0, 1)")

    @property
    def teacher_folder(self) -> Path:
        """Raises `CheckpointError` for one of checkpoints/ where nothing is shipped."""
        return find_checkpoint(self.teacher)

    @property
    def places(self) -> dict[str, str]:
        folder = self.teacher_folder
        weights = weights_sha256(folder / (find_model(folder).network or UNET))
        return super().places | {"teacher": f"a denoiser of SHA-256 {weights[:16]}"}

    @property
    def follows(self) -> dict[str, Any]:
        """What the student has of its teacher."""
        told: Mapping[str, Any] = read_run_config(self.teacher_folder)
        return {name: told[name] for name in OF_THE_TEACHER if name in told} | {"method": METHOD}

    @property
    def sampling(self) -> SamplerSteps:
        """How the student is sampled."""
        return steps_of_student(self.evaluations)

    def walk_of(self, teacher: Checkpoint) -> SamplerSteps:
        """How the teacher walks from noise to an image: whole steps of it lie in each of the student's.

        Raises `ValueError` for a teacher that is a student of no more evaluations, or of no multiple of them.
        """
        if teacher.teacher is None:
            return SamplerSteps(DEFAULT_SAMPLER, self.evaluations * self.teacher_evaluations)
        taken = teacher.sampling.num_inference_steps
        if taken <= self.evaluations or taken % self.evaluations:
            raise ValueError(
                f"{self.teacher} is a student of {counted(taken, 'evaluation')}, and --evaluations is "
                f"{self.evaluations}: give a --teacher of two, three or more times as many, or one that is no student"
            )
        return teacher.sampling


def load_teacher(config: DistillConfig) -> Checkpoint:
    """The teacher of the options.

    Raises `CheckpointError` where there is none, and `ValueError` for what no student can be made of: an autoencoder,
    another program's model, a denoiser of other images than the dataset's or along no betas.
    """
    teacher = read_checkpoint(config.teacher_folder)
    if not teacher.has_denoiser:
        raise ValueError(f"{config.teacher} is an autoencoder alone: give the run folder of a denoiser as --teacher")
    if not teacher.model.is_ours:
        raise ValueError(f"{config.teacher} is no run of this project: give a folder of train/ldm.py as --teacher")
    if (teacher.dataset, teacher.config.get("image_side")) != (config.dataset, config.image_side):
        side = f" --image-side {told}" if (told := teacher.config.get("image_side")) else ""
        raise ValueError(f"{config.teacher} was trained on other images: give --dataset {teacher.dataset}{side}")
    if non_finite(teacher.pipeline.network):
        raise ValueError(
            f"{config.teacher} has weights that are not finite: give another --teacher, or look into it by ldm-diagnose"
        )
    if teacher.pipeline.null_class is None and config.label_dropout != DistillConfig.label_dropout:
        raise ValueError(f"{config.teacher} was trained without class labels: leave out --label-dropout")
    if not isinstance(teacher.pipeline.scheduler, DDPMScheduler):
        raise ValueError(f"{config.teacher} is a flow: give a --teacher along betas (--schedule cosine or linear)")
    if (longest := teacher.schedule.num_timesteps) < (steps := config.walk_of(teacher).num_inference_steps):
        raise ValueError(
            f"{config.teacher} has {longest} timesteps, and would take {steps} steps: give fewer --evaluations or "
            "--teacher-evaluations"
        )
    _check_steps_meet(config, teacher)
    return teacher


def _check_steps_meet(config: DistillConfig, teacher: Checkpoint) -> None:
    """Raises `ValueError` where rounding keeps the teacher from being at a timestep of the student's."""
    walk, taken = config.walk_of(teacher), list[list[int]]()
    for sampler, num_steps in (config.sampling, walk):
        made = make_sampler(sampler, teacher.pipeline.scheduler)
        set_timesteps(made, num_steps)
        taken.append(made.timesteps.tolist())
    own, passed = taken[0], taken[1][:: walk.num_inference_steps // config.evaluations]
    if apart := [pair for pair in zip(own, passed, strict=True) if pair[0] != pair[1]]:
        raise ValueError(
            f"of {counted(config.evaluations, 'evaluation')} one begins at timestep {apart[0][0]}, and of the "
            f"teacher's {walk.num_inference_steps} at {apart[0][1]}, by rounding: give another number of --evaluations "
            "or --teacher-evaluations, a power of 2 at best"
        )
