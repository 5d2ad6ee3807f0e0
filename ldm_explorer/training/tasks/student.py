"""The training of a student, which samples with few evaluations: `accelerate launch train/distill.py`."""

import copy
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import DiTTransformer2DModel, UNet2DModel
from torch import Tensor, nn

from ldm_explorer.checkpoints import Checkpoint, pipeline_files, save_pipeline
from ldm_explorer.denoiser import no_labels
from ldm_explorer.evaluation.generation import generate
from ldm_explorer.film import film_files
from ldm_explorer.latents import BATCH_IMAGES, Posterior, encode_posterior
from ldm_explorer.lazy import cached_property
from ldm_explorer.network_files import weights_sha256
from ldm_explorer.networks import part_of
from ldm_explorer.options import check_kind
from ldm_explorer.pipeline import LatentDiffusionPipeline
from ldm_explorer.prediction import add_noise, coefficients, target
from ldm_explorer.run_folder import RunFolder
from ldm_explorer.run_layout import SAMPLES_FILE, STATISTICS_FILE
from ldm_explorer.sampler_steps import SamplerSteps
from ldm_explorer.samplers import denoise, final_latents, make_sampler
from ldm_explorer.standalone_pipeline import set_timesteps
from ldm_explorer.training.encoding import encode_all
from ldm_explorer.training.mirroring import draw_mirrored
from ldm_explorer.training.tasks.denoiser import FILM_IMAGES, FILM_SEED, VALIDATION_SEED, autoencoder_training
from ldm_explorer.training.tasks.student_config import DistillConfig, load_teacher

VALIDATION_LATENTS = 512


@dataclass
class StudentTask:
    """Progressive distillation (Salimans & Ho 2022, algorithm 2): one step of the student learns to land where several
    steps of its teacher do.

    The student begins as its teacher. Its N steps are those of DDIM along the trailing timesteps, and it is trained at
    these alone; the loss is the mean squared error of its prediction beside the one that leads there (app. G). What it
    is to predict follows from what it sees, so the error can fall to 0. `walk` says how the teacher goes from noise to
    an image, whole steps of it in each of the student's.
    """

    config: DistillConfig
    teacher: Checkpoint
    walk: SamplerSteps
    posterior: Posterior
    labels: Tensor
    validation_posterior: Posterior
    validation_labels: Tensor
    model: UNet2DModel | DiTTransformer2DModel = field(init=False)

    def __post_init__(self) -> None:
        pipeline = self.teacher.pipeline
        self.denoiser, self.scheduler = pipeline.denoiser.eval().requires_grad_(False), pipeline.scheduler
        self.model = copy.deepcopy(pipeline.network).train().requires_grad_(True)
        self.num_examples = len(self.labels)
        sampler = make_sampler(self.config.sampling.sampler, self.scheduler)
        set_timesteps(sampler, self.config.evaluations)
        self.timesteps = sampler.timesteps
        visited = self.scheduler.alphas_cumprod[self.timesteps]
        self.alpha_bars = torch.cat([visited, torch.ones(1)])
        """Of the student's steps `(N + 1,)`, the clean latent's at the end."""

    def batch(self, indices: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        size, shape = len(indices), (len(indices), *self.posterior.mean.shape[1:])
        noise = torch.randn(shape, generator=generator)
        batch = {
            "eps": torch.randn(shape, generator=generator),
            "step": torch.arange(size) % self.config.evaluations,
        }
        if (null_class := self.denoiser.null_class) is not None:
            dropped = torch.rand(size, generator=generator) < self.config.label_dropout
            batch["labels"] = self.labels[indices].masked_fill(dropped, null_class)
        if len(self.posterior.mean) > self.num_examples:  # mirror images stand behind
            indices = indices + self.num_examples * draw_mirrored(size, generator)
        return batch | {"z0": self.posterior[indices].sample(noise)}

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        z_t = self._noisy(batch)
        self.denoiser.to(z_t.device)  # FLOPs are counted on a CPU in the end
        return {"loss": self._errors(model, batch, z_t, self._wanted(batch, z_t)).mean()}

    def _noisy(self, batch: dict[str, Tensor]) -> Tensor:
        return add_noise(batch["z0"], batch["eps"], self.alpha_bars.to(batch["z0"].device)[batch["step"]])

    def _errors(self, model: nn.Module, batch: dict[str, Tensor], z_t: Tensor, wanted: Tensor) -> Tensor:
        """Mean squared error per image `(B,)`."""
        timesteps = self.timesteps.to(z_t.device)[batch["step"]]
        labels = batch["labels"] if "labels" in batch else no_labels(self.model, z_t)
        prediction = model(z_t, timesteps, labels, return_dict=False)[0]
        return (prediction.float() - wanted).square().mean(dim=(1, 2, 3))

    @torch.no_grad()
    def _wanted(self, batch: dict[str, Tensor], z_t: Tensor) -> Tensor:
        """The prediction `(B, c, h, w)` by which one step of DDIM lands where the teacher's steps do.

        DDIM goes from a_t z0 + b_t eps to a_s z0 + b_s eps: two equations, for the z0 and the eps of the prediction.
        """
        landed, alpha_bars = self._walked(batch, z_t), self.alpha_bars.to(z_t.device)
        kind, shape = self.denoiser.prediction_type, (-1, 1, 1, 1)
        here, there = (coefficients(kind, alpha_bars[batch["step"] + index].view(shape)) for index in (0, 1))
        a_t, b_t, a_s, b_s = here.a, here.b, there.a, there.b
        det = a_s * b_t - a_t * b_s
        z0, eps = (b_t * landed - b_s * z_t) / det, (a_s * z_t - a_t * landed) / det
        return target(kind, z0, eps, alpha_bars[batch["step"]])

    def _walked(self, batch: dict[str, Tensor], z_t: Tensor) -> Tensor:
        """Where the teacher is when the student's step is over, `(B, c, h, w)`."""
        each = self.walk.num_inference_steps // self.config.evaluations
        landed = torch.empty_like(z_t)
        for step in batch["step"].unique().tolist():
            rows = batch["step"] == step
            steps = denoise(
                self.denoiser,
                make_sampler(self.walk.sampler, self.scheduler),
                z_t[rows],
                batch["labels"][rows] if "labels" in batch else None,
                num_steps=self.walk.num_inference_steps,
                first_step=each * step,
            )
            landed[rows] = final_latents(islice(steps, each))
        return landed

    @cached_property
    def _validation(self) -> tuple[list[tuple[dict[str, Tensor], Tensor, Tensor]], float]:
        """Held-out batches with what is seen and wanted, and the error of the teacher in the student's place."""
        generator, shape = torch.Generator().manual_seed(VALIDATION_SEED), self.validation_posterior.mean.shape
        everything = {
            "z0": self.validation_posterior.sample(torch.randn(shape, generator=generator)),
            "eps": torch.randn(shape, generator=generator),
            "step": torch.arange(shape[0]) % self.config.evaluations,
        }
        if self.denoiser.null_class is not None:
            everything["labels"] = self.validation_labels
        network, known = self.teacher.pipeline.network, []
        for part in torch.arange(shape[0]).split(BATCH_IMAGES):
            batch = {name: value[part].to(network.device) for name, value in everything.items()}
            z_t = self._noisy(batch)
            known.append((batch, z_t, self._wanted(batch, z_t)))
        return known, float(torch.cat([self._errors(network, *batch) for batch in known]).mean())

    def validate(self, model: nn.Module) -> dict[str, Any]:
        """The loss on held-out latents with fixed noise, beside that of the teacher taking as few steps."""
        known, of_the_teacher = self._validation
        errors = torch.cat([self._errors(model, *batch) for batch in known])
        return {"loss": float(errors.mean()), "teacher_loss": of_the_teacher}

    def sample(self, model: UNet2DModel | DiTTransformer2DModel) -> Tensor:
        pipeline = LatentDiffusionPipeline.of(self.teacher.vae, model, self.scheduler)
        sampler, num_steps = self.config.sampling
        return generate(pipeline, self.config.spec, FILM_IMAGES, FILM_SEED, num_steps=num_steps, sampler=sampler).images

    def export(self, model: UNet2DModel | DiTTransformer2DModel, folder: Path) -> dict[str, Any]:
        save_pipeline(folder, self.teacher.vae, model, self.scheduler, self.config.sampling)
        weights = weights_sha256(self.teacher.folder / part_of(model))
        return {
            "autoencoder": autoencoder_training(self.teacher.folder),
            "teacher": {"folder": str(self.config.teacher), "sha256": weights} | self.walk._asdict(),
        }


class StudentTraining:
    """The training of a student with some options: `train(StudentTraining(DistillConfig()))`."""

    def __init__(self, config: DistillConfig):
        """Look at the teacher. Raises as `load_teacher` does, and `TypeError` for options of another training."""
        check_kind(config, DistillConfig, "DistillConfig(...)")
        self.config, self.teacher = config, load_teacher(config)
        self.name = f"{self.teacher.name.split('-student-')[0]}-student-{config.evaluations}"
        written = pipeline_files(part_of(self.teacher.pipeline.network))
        self.files = (*written, STATISTICS_FILE, SAMPLES_FILE, *film_files(config.max_steps))

    def make_task(self, accelerator: Accelerator, folder: Path) -> StudentTask:
        """Encode the images; the statistics of the latents are the teacher's. Raises what `load_split` does."""
        config, teacher = self.config, self.teacher
        training, validation = config.load("train"), config.load("validation")
        teacher.pipeline.to(accelerator.device)
        statistics = teacher.folder / STATISTICS_FILE
        if accelerator.is_main_process and statistics.is_file():
            RunFolder(folder).write_bytes(STATISTICS_FILE, statistics.read_bytes())
        mirrored = teacher.config.get("flip") is True
        return StudentTask(
            config,
            teacher,
            config.walk_of(teacher),
            encode_all(
                teacher.codec,
                training.images,
                mirrored=mirrored,
                memory_map=config.memory_map,
                accelerator=accelerator,
            ),
            training.labels,
            encode_posterior(teacher.codec, validation.images[:VALIDATION_LATENTS]),
            validation.labels[:VALIDATION_LATENTS],
        )
