"""The options of a denoiser's training, and the autoencoder and the network that follow from them."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from diffusers import AutoencoderKL

from ldm_explorer.checkpoints import load_vae
from ldm_explorer.latents import identity_statistics, latent_shape
from ldm_explorer.models import TransformerConfig, UNetConfig
from ldm_explorer.network_files import weights_sha256
from ldm_explorer.prediction import PredictionType
from ldm_explorer.run_layout import TRANSFORMER, UNET, VAE
from ldm_explorer.samplers import prediction_types_of
from ldm_explorer.schedules import (
    DEFAULT_NUM_TIMESTEPS,
    FLOW,
    MIN_EPSILON_TERMINAL_SNR,
    FlowSchedule,
    Schedule,
    ScheduleName,
    schedule_named,
)
from ldm_explorer.shipped import find_checkpoint
from ldm_explorer.training.dataset import TrainConfig

MIN_SNR_GAMMA = 1e-3
OPTIONS_OF = {UNET: ("widths", "layers_per_block", "attention_max_side"), TRANSFORMER: ("width", "depth", "patch_size")}
"""The options that one network alone has."""


@dataclass(frozen=True, kw_only=True)
class LDMTrainConfig(TrainConfig):
    """The options of a denoiser's training, from Python or on the command line of train/ldm.py.

    Raises `ValueError` for values that cannot be.
    """

    DEFAULT_MINUTES: ClassVar[float] = 60
    ENCODES: ClassVar[bool] = True
    LEARNING_RATES: ClassVar[dict[str, float]] = {"muon": 6e-3, "adamw": 2e-3}
    OF_TRANSFORMERS: ClassVar[dict[str, float]] = {"muon": 6e-3, "adamw": 4e-3}

    vae: Path = Path("checkpoints/fashion_mnist/vae-8x8x4")
    """Checkpoint folder of the autoencoder whose latents are learned, from here or from the repository's root."""
    schedule: ScheduleName = "cosine"
    """A schedule of betas, or flow: the straight line z = (1 - s) z0 + s eps, with data at s = 0 as in diffusers (in
    many papers they are at 1)."""
    zero_terminal_snr: bool = False
    """Rescale the schedule so that the last step holds no image (Lin et al. 2023); needs another prediction than
    epsilon."""
    num_timesteps: int = DEFAULT_NUM_TIMESTEPS
    prediction: PredictionType | None = None
    """What the network predicts. Two velocities: v_prediction is v = a eps - b z0, of schedules of betas, and flow is
    u = dz/ds = eps - z0, of a flow. Default: the one that goes with the schedule."""
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
    timesteps: Literal["uniform", "importance", "logit_normal"] = "uniform"
    """How training draws timesteps: evenly; along betas also half of them where a denoiser that knows only the latents'
    covariance errs most, with every error weighted back so that the expected loss is the same; along a flow, where a
    time is any number up to T, also more of them in its middle (Esser et al. 2024, section 3.1). Validation draws
    evenly."""
    network: Literal["unet", "transformer"] = "unet"
    """The denoiser: a UNet of convolutions with --widths, --layers-per-block and --attention-max-side, or a diffusion
    transformer (DiT, Peebles & Xie 2023) with --width, --depth and --patch-size."""
    width: int = 96
    """Channels of a transformer, a multiple of 32, which are those of one head of its attention."""
    depth: int = 4
    """Blocks of a transformer."""
    patch_size: int = 1
    """Side of the squares of the latent that are a transformer's tokens: at 2 there are a quarter as many."""
    widths: tuple[int, ...] | None = None
    """Channels per resolution of the UNet, finest first. Default: 96 from a grid of 8x8 on, fewer at finer ones."""
    layers_per_block: int = 1
    attention_max_side: int = 4
    """Attention acts at grids of this side and below; 0 for none but in the middle."""
    batch_size: int = 64
    weight_decay: float = 0.1
    validate_every_steps: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.label_dropout < 1:
            raise ValueError(f"--label-dropout is {self.label_dropout}: give a share in [0, 1)")
        if self.min_snr_gamma is not None and not MIN_SNR_GAMMA <= self.min_snr_gamma < math.inf:
            raise ValueError(
                f"--min-snr-gamma is {self.min_snr_gamma}: it has to be a finite number of at least {MIN_SNR_GAMMA}, "
                "or nothing is learned; Hang et al. 2023 use 5"
            )
        if not self.class_labels and self.label_dropout != type(self).label_dropout:
            raise ValueError("--label-dropout needs class labels: leave out --no-class-labels")
        for name in OPTIONS_OF[UNET if self.network == TRANSFORMER else TRANSFORMER]:
            if getattr(self, name) != getattr(type(self), name):
                raise ValueError(f"--{name.replace('_', '-')} does not go with --network {self.network}: leave it out")
        object.__setattr__(self, "prediction", self.predicted)
        self._check_prediction()

    def _check_prediction(self) -> None:
        """Raise `ValueError` for a prediction or times that do not go with the schedule."""
        schedule = self.noise_schedule
        terminal_snr, is_flow = float(schedule.snr[-1]), isinstance(schedule, FlowSchedule)
        if self.predicted not in (known := prediction_types_of(schedule)):
            why = (
                "v needs a schedule that preserves variance" if is_flow else "no sampler of diffusers reads u along it"
            )
            raise ValueError(
                f"--prediction {self.prediction} does not go with --schedule {self.schedule}, as {why}: choose "
                f"{', '.join(known)}"
            )
        if self.timesteps == ("importance" if is_flow else "logit_normal"):
            raise ValueError(
                f"--timesteps {self.timesteps} does not go with --schedule {self.schedule}: choose uniform"
            )
        if self.zero_terminal_snr and is_flow:
            raise ValueError("--zero-terminal-snr is of betas, and a flow ends in pure noise anyway: leave it out")
        if self.prediction == "epsilon" and terminal_snr < MIN_EPSILON_TERMINAL_SNR:
            raise ValueError(
                f"epsilon says nothing of the image where the SNR is {terminal_snr:.1g}, as at the end of this "
                f"schedule, where sampling starts: choose --prediction {'flow' if is_flow else 'v_prediction'} or "
                "another --schedule"
            )

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate that is given, else the one that suits the optimizer and the network."""
        if self.learning_rate is None and self.network == TRANSFORMER:
            return self.OF_TRANSFORMERS[self.optimizer]
        return super().peak_learning_rate

    @property
    def muon_momentum(self) -> float:
        """Less lag than Muon's usual 0.95 for a UNet, whose loss is 1 % lower for it after 4 to 20 CPU-minutes; a
        transformer's is 1 % higher (checkpoints/README.md)."""
        return super().muon_momentum if self.network == TRANSFORMER else 0.8

    @property
    def predicted(self) -> PredictionType:
        """What the network predicts: as it is given, else the velocity that goes with the schedule."""
        return self.prediction or ("flow" if self.schedule == FLOW else "v_prediction")

    @property
    def noise_schedule(self) -> Schedule:
        return schedule_named(self.schedule, self.num_timesteps, self.zero_terminal_snr)

    @property
    def conditional(self) -> bool:
        """Whether the network learns classes: it is asked to, and there are some, for a transformer two."""
        return self.class_labels and self.spec.num_classes > (self.network == TRANSFORMER)

    @property
    def places(self) -> dict[str, str]:
        return super().places | {"vae": f"an autoencoder of SHA-256 {weights_sha256(self.vae_folder / VAE)[:16]}"}

    @property
    def vae_folder(self) -> Path:
        """Raises `CheckpointError` for one of checkpoints/ where nothing is shipped."""
        return find_checkpoint(self.vae)

    def network_for(self, vae: AutoencoderKL) -> UNetConfig | TransformerConfig:
        """The network over the latents of an autoencoder. Raises `ValueError` when the two do not fit."""
        channels, size, _ = latent_shape(vae)
        asked = size, channels, self.spec.num_classes if self.conditional else 0
        if self.network == TRANSFORMER:
            return TransformerConfig(*asked, self.width, self.depth, self.patch_size)
        widths = default_widths(size) if self.widths is None else self.widths
        return UNetConfig(*asked, widths, self.layers_per_block, self.attention_max_side)


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
