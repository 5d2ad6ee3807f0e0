"""The options of a denoiser's training, and the autoencoder and the UNet that follow from them."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from diffusers import AutoencoderKL

from ldm_explorer.checkpoints import load_vae
from ldm_explorer.latents import identity_statistics, latent_shape
from ldm_explorer.models import UNetConfig
from ldm_explorer.network_files import weights_sha256
from ldm_explorer.prediction import PredictionType
from ldm_explorer.run_layout import VAE
from ldm_explorer.schedules import (
    DEFAULT_NUM_TIMESTEPS,
    MIN_EPSILON_TERMINAL_SNR,
    Schedule,
    ScheduleName,
    make_schedule,
)
from ldm_explorer.shipped import find_checkpoint
from ldm_explorer.training.dataset import TrainConfig


@dataclass(frozen=True, kw_only=True)
class LDMTrainConfig(TrainConfig):
    """The options of a denoiser's training, from Python or on the command line of train/ldm.py.

    Raises `ValueError` for values that cannot be.
    """

    DEFAULT_MINUTES: ClassVar[float] = 60
    LEARNING_RATES: ClassVar[dict[str, float]] = {"muon": 6e-3, "adamw": 2e-3}

    vae: Path = Path("checkpoints/fashion_mnist/vae-8x8x4")
    """Checkpoint folder of the autoencoder whose latents are learned, from here or from the repository's root."""
    schedule: ScheduleName = "cosine"
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
    flip: bool = False
    """Learn mirrored images as well, half of the time: for images that could as well be the other way round."""
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
        return make_schedule(self.schedule, self.num_timesteps, zero_terminal_snr=self.zero_terminal_snr)

    @property
    def conditional(self) -> bool:
        """Whether the network learns classes: it is asked to, and there are some."""
        return self.class_labels and self.spec.num_classes > 0

    @property
    def places(self) -> dict[str, str]:
        return super().places | {"vae": f"an autoencoder of SHA-256 {weights_sha256(self.vae_folder / VAE)[:16]}"}

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
    """The widths of a UNet over a grid of this side: a channel costs four times as much at twice the side."""
    if latent_size < 8:
        return 128, 128
    finer = int(math.log2(latent_size // 8))
    return (*(16,) * (finer - 1), *(32,) * (finer > 0), 96, 96)


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
