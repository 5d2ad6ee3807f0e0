"""Train a denoiser on the latents of an autoencoder: `accelerate launch train/ldm.py`."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import _checkout  # noqa: F401
import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL, UNet2DModel
from torch import Tensor, nn

from ldm_explorer.checkpoints import PIPELINE_FILES, load_vae, read_json, save_pipeline
from ldm_explorer.diagnosis.floors import covariance_eigenvalues, loss_floors
from ldm_explorer.diagnosis.statistics import FILE as STATISTICS_FILE
from ldm_explorer.diagnosis.statistics import measure_latents, write_statistics
from ldm_explorer.evaluation.generation import generate
from ldm_explorer.film import film_files
from ldm_explorer.latents import (
    BATCH_IMAGES,
    LatentCodec,
    Posterior,
    encode_posterior,
    identity_statistics,
    latent_shape,
)
from ldm_explorer.models import UNetConfig
from ldm_explorer.pipeline import LatentDiffusionPipeline
from ldm_explorer.prediction import PredictionType, add_noise, min_snr_weight, target
from ldm_explorer.samplers import DEFAULT_SAMPLER, make_scheduler
from ldm_explorer.schedules import (
    DEFAULT_NUM_TIMESTEPS,
    MIN_EPSILON_TERMINAL_SNR,
    SCHEDULES,
    Schedule,
    make_schedule,
)
from ldm_explorer.shipped import find_checkpoint
from ldm_explorer.training import FitConfig
from train.common import DataConfig, main_of, start, train

VALIDATION_LATENTS = 2048
VALIDATION_BINS = 10
VALIDATION_SEED = 20_201
FILM_IMAGES = 10
FILM_SEED = 0
FILM_STEPS = 25


@dataclass(frozen=True, kw_only=True)
class LDMTrainConfig(DataConfig, FitConfig):
    """Options of train/ldm.py."""

    DEFAULT_MINUTES: ClassVar[float] = 60
    LEARNING_RATES: ClassVar[dict[str, float]] = {"muon": 6e-3, "adamw": 2e-3}

    vae: Path = Path("checkpoints/fashion_mnist/vae-8x8x4")
    """Checkpoint folder of the autoencoder whose latents are learned, from here or from the repository's root."""
    schedule: Literal[tuple(SCHEDULES)] = "cosine"
    zero_terminal_snr: bool = False
    """Rescale the schedule so that the last step holds no image (Lin et al. 2023); needs another prediction than
    epsilon."""
    num_timesteps: int = DEFAULT_NUM_TIMESTEPS
    prediction: PredictionType = "v_prediction"
    """What the network predicts."""
    normalise_latents: bool = True
    """Off: the network sees the autoencoder's raw latents, whatever their scale."""
    class_labels: bool = True
    """Condition on the class; the network learns the null class as well."""
    label_dropout: float = 0.1
    """Share of examples trained with the null class in place of their label."""
    min_snr_gamma: float | None = None
    """Weight the training loss per timestep by min(SNR, gamma) (Hang et al. 2023 use 5); none: all timesteps alike."""
    timesteps: Literal["uniform", "importance"] = "uniform"
    """How training draws timesteps: evenly, or half of them where a denoiser that knows only the latents' covariance
    errs most, with every error weighted back so that the expected loss is the same."""
    widths: tuple[int, ...] | None = None
    """Channels per resolution of the UNet, finest first. Default: 96 from a grid of 8x8 on, fewer at finer ones."""
    layers_per_block: int = 1
    attention_max_side: int = 4
    """Attention acts at grids of this side and below."""
    batch_size: int = 64
    weight_decay: float = 0.1
    validate_every_steps: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.label_dropout < 1:
            raise ValueError(f"--label-dropout is {self.label_dropout}: give a share in [0, 1)")
        if self.min_snr_gamma is not None and self.min_snr_gamma <= 0:
            raise ValueError(f"--min-snr-gamma is {self.min_snr_gamma}: it has to be above 0")
        if not self.class_labels and self.label_dropout != type(self).label_dropout:
            raise ValueError("--label-dropout needs class labels: leave out --no-class-labels")
        terminal_snr = float(self.noise_schedule.snr[-1])
        if self.prediction == "epsilon" and terminal_snr < MIN_EPSILON_TERMINAL_SNR:
            raise ValueError(
                f"epsilon says nothing of the image where the SNR is {terminal_snr:.1g}, as at the end of "
                "this schedule: choose --prediction v_prediction or another --schedule"
            )

    @property
    def noise_schedule(self) -> Schedule:
        schedule = make_schedule(self.schedule, self.num_timesteps)
        return schedule.with_zero_terminal_snr() if self.zero_terminal_snr else schedule

    @property
    def conditional(self) -> bool:
        """Whether the network learns classes: it is asked to, and there are some."""
        return self.class_labels and self.spec.num_classes > 0

    @property
    def vae_folder(self) -> Path:
        """Raises `CheckpointError` for one of checkpoints/ where nothing is shipped."""
        return find_checkpoint(self.vae)

    def unet_for(self, vae: AutoencoderKL) -> UNetConfig:
        """The UNet over the latents of an autoencoder. Raises `ValueError` when the two do not fit."""
        return UNetConfig(
            latent_size=latent_shape(vae)[-1],
            latent_channels=latent_shape(vae)[0],
            num_classes=self.spec.num_classes if self.conditional else 0,
            widths=self.widths or default_widths(latent_shape(vae)[-1]),
            layers_per_block=self.layers_per_block,
            attention_max_side=self.attention_max_side,
        )


def default_widths(latent_size: int) -> tuple[int, ...]:
    """Of a UNet over a grid of this side: a channel costs four times as much at twice the side."""
    if latent_size < 8:
        return 128, 128
    finer = int(math.log2(latent_size // 8))
    return (*(16,) * (finer - 1), *(32,) * (finer > 0), 96, 96)


@dataclass
class LDMTask:
    """Mean squared error of the prediction, over stratified timesteps (Kingma et al. 2021, app. I.1)."""

    config: LDMTrainConfig
    unet_config: UNetConfig
    posterior: Posterior
    labels: Tensor
    validation_posterior: Posterior
    validation_labels: Tensor
    model: UNet2DModel = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(self.config.seed)
        self.model = self.unet_config.build()
        self.num_examples = len(self.posterior.mean)
        self.alpha_bars = self.config.noise_schedule.alpha_bars
        self.timestep_probabilities = self._timestep_probabilities() if self.config.timesteps == "importance" else None

    def _timestep_probabilities(self) -> Tensor:
        """`(T,)`: half even, half in proportion to the error expected there (Nichol & Dhariwal 2021, section 3.3, take
        their network's own past errors; these need no past, so a resumed run draws the same)."""
        eigenvalues = covariance_eigenvalues(self.posterior)
        expected = loss_floors(self.config.prediction, self.alpha_bars, eigenvalues).gaussian.double()
        if self.config.min_snr_gamma is not None:
            alpha_bars = self.alpha_bars.double()
            expected = expected * min_snr_weight(self.config.prediction, alpha_bars, self.config.min_snr_gamma)
        return (1 / len(expected) + expected / expected.sum()) / 2

    def _draw_timesteps(self, size: int, generator: torch.Generator) -> Tensor:
        """`(size,)`, stratified: one in every `size`-th part of the probability."""
        quantiles = (torch.arange(size) + torch.rand(size, generator=generator)) / size
        if self.timestep_probabilities is None:
            timesteps = (quantiles * self.config.num_timesteps).long()
        else:
            timesteps = torch.searchsorted(self.timestep_probabilities.cumsum(0), quantiles.double(), right=True)
        return timesteps.clamp_max(self.config.num_timesteps - 1)

    def batch(self, indices: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        size, shape = len(indices), (len(indices), *self.posterior.mean.shape[1:])
        noise = torch.randn(shape, generator=generator)
        z0 = self.posterior[indices].sample(noise)
        timesteps = self._draw_timesteps(size, generator)
        batch = {"z0": z0, "eps": torch.randn(shape, generator=generator), "timesteps": timesteps}
        if self.config.conditional:
            dropped = torch.rand(size, generator=generator) < self.config.label_dropout
            batch["labels"] = self.labels[indices].masked_fill(dropped, self.config.spec.null_class)
        return batch

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        errors = self.errors(model, batch)
        if self.timestep_probabilities is not None:
            drawn = self.timestep_probabilities.to(errors.device, errors.dtype)[batch["timesteps"]]
            errors = errors / (self.config.num_timesteps * drawn)
        if self.config.min_snr_gamma is None:
            return {"loss": errors.mean()}
        alpha_bar = self.alpha_bars.to(errors.device)[batch["timesteps"]]
        weights = min_snr_weight(self.config.prediction, alpha_bar, self.config.min_snr_gamma)
        return {"loss": (weights * errors).mean(), "mse": errors.mean()}  # floors are of the error without weights

    def errors(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Mean squared error per image `(B,)`."""
        alpha_bar = self.alpha_bars.to(batch["z0"].device)[batch["timesteps"]]
        z_t = add_noise(batch["z0"], batch["eps"], alpha_bar)
        prediction = model(z_t, batch["timesteps"], batch.get("labels"), return_dict=False)[0]
        wanted = target(self.config.prediction, batch["z0"], batch["eps"], alpha_bar)
        return (prediction.float() - wanted).square().mean(dim=(1, 2, 3))

    def validate(self, model: nn.Module) -> dict[str, Any]:
        """The loss on held-out latents with fixed noise, timesteps evenly over 0..T-1: mean, and per tenth of T."""
        generator = torch.Generator().manual_seed(VALIDATION_SEED)
        shape = self.validation_posterior.mean.shape
        timesteps = torch.arange(shape[0]) * self.config.num_timesteps // shape[0]
        everything = {
            "z0": self.validation_posterior.sample(torch.randn(shape, generator=generator)),
            "eps": torch.randn(shape, generator=generator),
            "timesteps": timesteps,
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
        bins = timesteps * VALIDATION_BINS // self.config.num_timesteps
        per_bin = [float(errors[bins == index].mean()) for index in bins.unique().tolist()]
        return {"loss": float(errors.mean()), "loss_per_bin": per_bin}


def encode_divided(accelerator: Accelerator, codec: LatentCodec, images: Tensor) -> Posterior:
    """Encode a whole set once, every process its part."""
    share = -(-len(images) // accelerator.num_processes)
    part = encode_posterior(codec, images[accelerator.process_index * share :][:share])
    rows = torch.stack([part.mean, part.std], dim=1).to(accelerator.device)
    rows = accelerator.gather(accelerator.pad_across_processes(rows))[: len(images)].cpu()
    return Posterior(*rows.unbind(1))


def load_frozen_vae(config: LDMTrainConfig) -> AutoencoderKL:
    """The autoencoder of the options. Raises `ValueError` when it is of other images than the dataset's."""
    vae = load_vae(config.vae_folder)
    side, channels = vae.config.sample_size, vae.config.in_channels
    if (side, channels) != (config.spec.model_side, config.spec.channels):
        raise ValueError(
            f"{config.vae} takes {channels} channel(s) of side {side}, {config.dataset} has {config.spec.channels} of "
            f"side {config.spec.model_side}: give another --vae, --dataset or --image-side"
        )
    if not config.normalise_latents:
        vae.register_to_config(**identity_statistics(vae))
    return vae


def autoencoder_training(folder: Path) -> dict[str, Any]:
    """What training the autoencoder of a checkpoint of either kind cost."""
    training = read_json(folder / "metrics.json").get("training", {})
    return training.get("autoencoder", training)


def main(config: LDMTrainConfig) -> None:
    vae = load_frozen_vae(config)
    codec, unet_config = LatentCodec(vae), config.unet_for(vae)
    config = replace(config, widths=unet_config.widths)
    of_autoencoder = autoencoder_training(config.vae_folder)
    side, channels = unet_config.latent_size, unet_config.latent_channels
    name = f"ldm-{side}x{side}x{channels}-{config.schedule}"
    files = (*PIPELINE_FILES, STATISTICS_FILE, *film_files(config.max_steps))
    with start(config, name, files) as (accelerator, run_dir):
        training, validation = config.load("train"), config.load("validation")
        vae.to(accelerator.device)
        task = LDMTask(
            config,
            unet_config,
            encode_divided(accelerator, codec, training.images),
            training.labels,
            encode_posterior(codec, validation.images[:VALIDATION_LATENTS]),
            validation.labels[:VALIDATION_LATENTS],
        )

        kept = config.resume and (run_dir / STATISTICS_FILE).is_file()
        if accelerator.is_main_process and not kept:  # now, for those who watch
            classes = config.spec.num_classes if config.conditional else 0
            write_statistics(run_dir, measure_latents(task.posterior, task.labels, task.alpha_bars, classes))

        def export(unet: UNet2DModel, folder: Path) -> dict[str, Any]:
            save_pipeline(folder, vae, unet, make_scheduler(config.noise_schedule, config.prediction))
            return {"autoencoder": of_autoencoder}

        def sample(unet: UNet2DModel) -> Tensor:
            pipeline = LatentDiffusionPipeline(vae, unet, make_scheduler(config.noise_schedule, config.prediction))
            arguments = (pipeline, config.spec, FILM_IMAGES, FILM_SEED)
            return generate(*arguments, num_steps=FILM_STEPS, sampler=DEFAULT_SAMPLER).images

        train(task, config, accelerator, run_dir, export, sample)


if __name__ == "__main__":
    main_of(LDMTrainConfig, main)
