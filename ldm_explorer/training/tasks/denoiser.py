"""The denoiser's training, on the latents of an autoencoder: `accelerate launch train/ldm.py`."""

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL, DiTTransformer2DModel, SchedulerMixin, UNet2DModel
from torch import Tensor, nn

from ldm_explorer.checkpoints import pipeline_files, save_pipeline
from ldm_explorer.denoiser import no_labels
from ldm_explorer.diagnosis.floors import covariance_eigenvalues, loss_floors
from ldm_explorer.diagnosis.statistics import LatentStatistics, measure_latents, measure_memorising, write_statistics
from ldm_explorer.evaluation.generation import generate
from ldm_explorer.files import read_json
from ldm_explorer.film import film_files
from ldm_explorer.latents import BATCH_IMAGES, LatentCodec, Posterior
from ldm_explorer.models import UNetConfig, check_size
from ldm_explorer.network_files import weights_sha256
from ldm_explorer.options import check_kind
from ldm_explorer.pipeline import LatentDiffusionPipeline
from ldm_explorer.prediction import add_noise, min_snr_weight, target
from ldm_explorer.run_layout import METRICS_FILE, SAMPLES_FILE, STATISTICS_FILE, TRANSFORMER, VAE
from ldm_explorer.sampler_steps import default_steps
from ldm_explorer.samplers import DEFAULT_SAMPLER, make_scheduler
from ldm_explorer.schedules import MAX_TERMINAL_SNR, FlowSchedule
from ldm_explorer.training.encoding import encode_all
from ldm_explorer.training.mirroring import draw_mirrored
from ldm_explorer.training.tasks.denoiser_config import LDMTrainConfig, load_frozen_vae

VALIDATION_LATENTS = 2048
VALIDATION_BINS = 10
VALIDATION_SEED = 20_201
FILM_IMAGES = 10
FILM_SEED = 0
FILM_STEPS = 25
ENDS_EARLY = (
    "the %s schedule over %d timesteps ends at an SNR of %.2g (should be below %g): sampling will start from noise "
    "that this training never sees; take --schedule cosine, --zero-terminal-snr or more --num-timesteps"
)
_log = logging.getLogger(__name__)


@dataclass
class DenoiserTask:
    """Mean squared error of the prediction, over stratified timesteps (Kingma et al. 2021, app. I.1).

    With `config.flip` the posteriors of the mirrored images stand behind those of the images.
    """

    config: LDMTrainConfig
    vae: AutoencoderKL
    posterior: Posterior
    labels: Tensor
    validation_posterior: Posterior
    validation_labels: Tensor
    autoencoder_cost: dict[str, Any] = field(default_factory=dict)
    statistics: LatentStatistics | None = None  # on the main process; the memorising floors come at the end
    model: UNet2DModel | DiTTransformer2DModel = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(self.config.seed)
        self.model = self.config.network_for(self.vae).build()
        self.num_examples = len(self.labels)
        self.schedule = self.config.noise_schedule
        self.timestep_probabilities = self._timestep_probabilities() if self.config.timesteps == "importance" else None

    def _timestep_probabilities(self) -> Tensor:
        """`(T,)`: half even, half in proportion to the error expected there (Nichol & Dhariwal 2021, section 3.3, take
        their network's own past errors; these need no past, so a resumed run draws the same)."""
        eigenvalues = covariance_eigenvalues(self.posterior)
        amplitudes = self.schedule.amplitudes
        expected = loss_floors(self.config.predicted, amplitudes, eigenvalues).gaussian.double()
        if self.config.min_snr_gamma is not None:
            in_double = amplitudes.map(Tensor.double)
            expected = expected * min_snr_weight(self.config.predicted, in_double, self.config.min_snr_gamma)
        return (1 / len(expected) + expected / expected.sum()) / 2

    def _draw_timesteps(self, size: int, generator: torch.Generator) -> Tensor:
        """What the network is told, `(size,)`, stratified: one in every `size`-th part of the probability."""
        quantiles = (torch.arange(size) + torch.rand(size, generator=generator)) / size
        if self.config.timesteps == "logit_normal":
            quantiles = torch.special.ndtri(quantiles.double()).sigmoid().float()
        if isinstance(self.schedule, FlowSchedule):  # any time in (0, 1], not the steps of the schedule alone
            return (1 - quantiles) * self.config.num_timesteps
        if self.timestep_probabilities is None:
            timesteps = (quantiles * self.config.num_timesteps).long()
        else:
            timesteps = torch.searchsorted(self.timestep_probabilities.cumsum(0), quantiles.double(), right=True)
        return timesteps.clamp_max(self.config.num_timesteps - 1)

    def batch(self, indices: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        size, shape = len(indices), (len(indices), *self.posterior.mean.shape[1:])
        noise = torch.randn(shape, generator=generator)
        timesteps = self._draw_timesteps(size, generator)
        batch = {"eps": torch.randn(shape, generator=generator), "timesteps": timesteps}
        if self.timestep_probabilities is not None:
            batch["probabilities"] = self.timestep_probabilities.float()[timesteps]
        if self.config.conditional:
            dropped = torch.rand(size, generator=generator) < self.config.label_dropout
            batch["labels"] = self.labels[indices].masked_fill(dropped, self.config.spec.null_class)
        if self.config.flip:
            indices = indices + self.num_examples * draw_mirrored(size, generator)
        return batch | {"z0": self.posterior[indices].sample(noise)}

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        errors = self.errors(model, batch)
        if self.timestep_probabilities is not None:
            errors = errors / (self.config.num_timesteps * batch["probabilities"])
        if self.config.min_snr_gamma is None:
            return {"loss": errors.mean()}
        mixed = self.schedule.at(batch["timesteps"])
        weights = min_snr_weight(self.config.predicted, mixed, self.config.min_snr_gamma)
        return {"loss": (weights * errors).mean(), "mse": errors.mean()}  # floors are of the error without weights

    def errors(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Mean squared error per image `(B,)`."""
        mixed = self.schedule.at(batch["timesteps"])
        z_t = add_noise(batch["z0"], batch["eps"], mixed)
        labels = batch["labels"] if self.config.conditional else no_labels(self.model, z_t)
        prediction = model(z_t, batch["timesteps"], labels, return_dict=False)[0]
        wanted = target(self.config.predicted, batch["z0"], batch["eps"], mixed)
        return (prediction.float() - wanted).square().mean(dim=(1, 2, 3))

    def validate(self, model: nn.Module) -> dict[str, Any]:
        """The loss on held-out latents with fixed noise, timesteps evenly over all: mean, and per tenth of T."""
        generator = torch.Generator().manual_seed(VALIDATION_SEED)
        shape = self.validation_posterior.mean.shape
        steps = torch.arange(shape[0]) * self.config.num_timesteps // shape[0]
        everything = {
            "z0": self.validation_posterior.sample(torch.randn(shape, generator=generator)),
            "eps": torch.randn(shape, generator=generator),
            "timesteps": self.schedule.timesteps[steps],
        }
        if self.config.conditional:
            everything["labels"] = self.validation_labels
        device = next(model.parameters()).device
        errors = torch.cat(
            [
                self.errors(model, {name: value[part].to(device) for name, value in everything.items()}).cpu()
                for part in torch.arange(shape[0]).split(BATCH_IMAGES)
            ]
        )
        bins = steps * VALIDATION_BINS // self.config.num_timesteps
        per_bin = [float(errors[bins == index].mean()) for index in bins.unique().tolist()]
        return {"loss": float(errors.mean()), "loss_per_bin": per_bin}

    @property
    def scheduler(self) -> SchedulerMixin:
        return make_scheduler(self.config.noise_schedule, self.config.predicted)

    def sample(self, model: UNet2DModel | DiTTransformer2DModel) -> Tensor:
        pipeline = LatentDiffusionPipeline.of(self.vae, model, self.scheduler)
        arguments = (pipeline, self.config.spec, FILM_IMAGES, FILM_SEED)
        num_steps = min(FILM_STEPS, self.config.num_timesteps)
        return generate(*arguments, num_steps=num_steps, sampler=DEFAULT_SAMPLER).images

    @property
    def posterior_labels(self) -> Tensor:
        """The labels of all posteriors, those of mirrored images, too."""
        return self.labels.repeat(2) if self.config.flip else self.labels

    def export(self, model: UNet2DModel | DiTTransformer2DModel, folder: Path) -> dict[str, Any]:
        if self.statistics is not None:
            known = self.statistics, self.posterior, self.posterior_labels, self.schedule.amplitudes
            write_statistics(folder, measure_memorising(*known))
        save_pipeline(folder, self.vae, model, self.scheduler, default_steps(self.config.num_timesteps))
        came_from = {"folder": str(self.config.vae), "sha256": weights_sha256(folder / VAE)}
        return {"autoencoder": self.autoencoder_cost | came_from}


class DenoiserTraining:
    """The training of a denoiser with some options: `train(DenoiserTraining(LDMTrainConfig()))`."""

    def __init__(self, config: LDMTrainConfig):
        """Load the autoencoder.

        Raises `CheckpointError` where there is none, `ValueError` where its latents are of no known scale or do not
        fit the dataset or the network, or that is too large, and `TypeError` for options of another training.
        """
        check_kind(config, LDMTrainConfig, "LDMTrainConfig(...)")
        self.vae = load_frozen_vae(config)
        self.codec, network = LatentCodec(self.vae), config.network_for(self.vae)
        check_size(network)
        self.config = replace(config, widths=network.widths) if isinstance(network, UNetConfig) else config
        self.autoencoder_cost = autoencoder_training(config.vae_folder)
        side, channels = network.latent_size, network.latent_channels
        of_transformer = f"-{TRANSFORMER}" if config.network == TRANSFORMER else ""
        self.name = f"ldm-{side}x{side}x{channels}-{config.schedule}{of_transformer}"
        self.files = (*pipeline_files(config.network), STATISTICS_FILE, SAMPLES_FILE, *film_files(config.max_steps))

    def make_task(self, accelerator: Accelerator, folder: Path) -> DenoiserTask:
        """Encode the images, and write the statistics of the latents. Raises what `load_split` does."""
        schedule = self.config.noise_schedule
        if accelerator.is_main_process and not schedule.ends_in_noise:
            _log.warning(ENDS_EARLY, schedule.name, schedule.num_timesteps, float(schedule.snr[-1]), MAX_TERMINAL_SNR)
        config = self.config
        training, validation = config.load("train"), config.load("validation")
        self.vae.to(accelerator.device)
        how = {"mirrored": config.flip, "memory_map": config.memory_map, "accelerator": accelerator}
        task = DenoiserTask(
            config,
            self.vae,
            encode_all(self.codec, training.images, **how),
            training.labels,
            encode_all(self.codec, validation.images[:VALIDATION_LATENTS], accelerator=accelerator),
            validation.labels[:VALIDATION_LATENTS],
            self.autoencoder_cost,
        )
        if accelerator.is_main_process:
            classes = config.spec.num_classes if config.conditional else 0
            known = task.posterior, task.posterior_labels, task.schedule.amplitudes, classes
            task.statistics = measure_latents(*known, memorising=False)
            if not (config.resume and (folder / STATISTICS_FILE).is_file()):  # now, for those who watch
                write_statistics(folder, task.statistics)
        return task


def autoencoder_training(folder: Path) -> dict[str, Any]:
    """What training the autoencoder of a checkpoint of either kind cost."""
    training = read_json(folder / METRICS_FILE).get("training", {})
    return training.get("autoencoder", training)
