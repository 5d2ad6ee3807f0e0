"""A folder under examination: its settings, its networks, and latents that its denoiser can be asked about."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DModel
from torch import Tensor

from ldm_explorer.data import to_model
from ldm_explorer.denoiser import NetworkDenoiser
from ldm_explorer.diagnosis.floors import LossFloors, loss_floors
from ldm_explorer.diagnosis.statistics import LatentStatistics
from ldm_explorer.diagnosis.verdicts import NotRun
from ldm_explorer.latents import LatentCodec, Posterior
from ldm_explorer.lazy import cached_property
from ldm_explorer.models import count_flops
from ldm_explorer.prediction import PREDICTION_TYPES, PredictionType, add_noise, target
from ldm_explorer.run_files import LogRecord, RunConfig, SchedulerConfig
from ldm_explorer.samplers import DEFAULT_SAMPLER, denoise, draw_noise, final_latents, make_sampler, own_schedule

MAX_BATCH, MIN_BATCH = 32, 4
FLOPS_PER_BATCH = 3e10
MAX_IMAGES = 128
NUM_SAMPLES = 16
SAMPLING_STEPS = 10
LOOKED_AT = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)
"""Timesteps at which the denoiser's error is measured, as shares of T."""
OWN_SAMPLES = "its own samples"

Part = TypeVar("Part")


@dataclass(frozen=True)
class KnownLatents:
    """What the denoiser is asked about: normalised latents, or pixels where there is no autoencoder."""

    z0: Tensor  # (N, c, h, w)
    labels: Tensor | None  # (N,), None where the network takes none
    labelled: bool  # whether the labels are the true ones
    source: str


@dataclass(frozen=True, eq=False)
class Case:
    """One folder. `images (N, C, S, S) uint8` have the model's side; `image_labels (N,)` are 0..K-1."""

    folder: Path
    config: RunConfig  # train_config.json of our runs, else {}
    log: list[LogRecord]
    vae: AutoencoderKL | None
    unet: UNet2DModel | None
    scheduler: DDPMScheduler | None
    scheduler_config: SchedulerConfig
    statistics: LatentStatistics | None
    has_latent_statistics: bool  # whether vae/config.json holds latents_mean and latents_std
    images: Tensor | None = None
    image_labels: Tensor | None = None
    num_classes: int = 0
    """The labels that are classes; 0 without a denoiser that takes labels."""

    @property
    def required_vae(self) -> AutoencoderKL:
        return _required(self.vae, "an autoencoder")

    @property
    def required_unet(self) -> UNet2DModel:
        return _required(self.unet, "a denoiser")

    @property
    def required_scheduler(self) -> DDPMScheduler:
        return _required(self.scheduler, "a scheduler")

    @property
    def num_timesteps(self) -> int:
        """As many as there are both betas and timesteps for."""
        return min(self.required_scheduler.config.num_train_timesteps, len(self.required_scheduler.betas))

    @property
    def prediction_type(self) -> PredictionType:
        return self.required_scheduler.config.prediction_type

    @property
    def alpha_bars(self) -> Tensor:
        return self.required_scheduler.alphas_cumprod

    @property
    def shape(self) -> tuple[int, int, int]:
        """(c, h, w) of what the UNet takes."""
        return self.denoiser.latent_shape

    @property
    def image_side(self) -> int:
        """The side of the images that the model is made for."""
        if self.unet is None:
            return self.required_vae.config.sample_size
        factor = 1 if self.vae is None else 2 ** (len(self.vae.config.block_out_channels) - 1)
        return self.shape[-1] * factor

    @property
    def image_channels(self) -> int:
        return (self.required_unet if self.vae is None else self.vae).config.in_channels

    @cached_property
    def denoiser(self) -> NetworkDenoiser:
        schedule = own_schedule(self.required_scheduler)
        return NetworkDenoiser(self.required_unet, self.prediction_type, schedule, self.num_classes)

    @cached_property
    def codec(self) -> LatentCodec:
        return LatentCodec(self.required_vae)

    @property
    def has_probes(self) -> bool:
        return self.images is not None or (self.unet is not None and self.is_finite("denoiser") and self.can_sample)

    @property
    def probe_source(self) -> str:
        if self.images is not None:
            return f"{len(self.pixels)} images"
        return f"{len(self.pixels)} images decoded from {self.known_latents().source}"

    @cached_property
    def pixels(self) -> Tensor:
        """What the autoencoder is asked about: at most 128 images, or where there are none, decoded latents."""
        if self.images is not None:
            return to_model(self.images[_spread(len(self.images), MAX_IMAGES)])
        latents = self.known_latents().z0
        chosen = latents[_spread(len(latents), MAX_BATCH)]
        return self.codec.decode(chosen).clamp(-1, 1)

    @property
    def probe_moments(self) -> tuple[Tensor, Tensor]:
        """Mean and std per channel that the latents of `pixels` should have: 0 and 1, or those that were decoded."""
        if self.images is not None:
            channels = self.required_vae.config.latent_channels
            return torch.zeros(channels), torch.ones(channels)
        z0 = self.known_latents().z0
        return z0.mean((0, 2, 3)), z0.std((0, 2, 3))

    @cached_property
    def posterior(self) -> Posterior:
        """What the encoder gives for `pixels`, normalised."""
        parts = [self.codec.posterior(part) for part in self.pixels.split(MAX_BATCH)]
        return Posterior(torch.cat([part.mean for part in parts]), torch.cat([part.std for part in parts]))

    @property
    def null_class(self) -> int | None:
        """The label that means "no label"; None for a network that has none."""
        return None if self.unet is None else self.denoiser.null_class

    @cached_property
    @torch.no_grad()
    def batch_size(self) -> int:
        """How many latents a check puts through the network: fewer where it is large."""
        labels = self.denoiser.labels_without_choice(1)
        flops = count_flops(lambda: self.predict(torch.zeros(1, *self.shape), 0, labels))
        return int(min(MAX_BATCH, max(MIN_BATCH, FLOPS_PER_BATCH / max(1, flops))))

    def predict(self, z_t: Tensor, timestep: int | Tensor, labels: Tensor | None) -> Tensor:
        return self.denoiser.predict(z_t, timestep, labels)

    def known_latents(self) -> KnownLatents:
        """Stored training latents, else encoded images (or the images), else what the network itself samples."""
        return self.stored_latents or self.sampled_latents(self.prediction_type)

    @cached_property
    def stored_latents(self) -> KnownLatents | None:
        generator = torch.Generator().manual_seed(0)
        labels: Tensor | None
        if self.statistics is not None and self.statistics.subset.mean.shape[1:] == self.shape:
            subset, labels, source = self.statistics.subset, self.statistics.subset_labels, "stored training latents"
            z0 = subset.sample(torch.randn(subset.mean.shape, generator=generator))
        elif self.images is None or not self.is_finite("autoencoder"):
            return None
        elif self.vae is None:
            z0, labels, source = self.pixels, self.image_labels, "images"
        else:
            z0 = self.posterior.sample(torch.randn(self.posterior.mean.shape, generator=generator))
            labels, source = self.image_labels, "encoded images"
        if labels is not None and len(labels) != len(z0):
            labels = labels[_spread(len(labels), MAX_IMAGES)]
        labelled = labels is not None and bool(self.num_classes) and int(labels.max()) < self.num_classes
        return KnownLatents(z0, labels if labelled else None, labelled, source)

    def sampled_latents(self, prediction_type: PredictionType) -> KnownLatents:
        """At most 16 in 10 steps, the output read as `prediction_type`; labels take turns. Raises `NotRun`."""
        if not self.can_sample:
            raise NotRun("there are fewer betas than timesteps")
        if prediction_type not in self._samples:
            scheduler = DDPMScheduler.from_config(self.required_scheduler.config, prediction_type=prediction_type)
            count, labels = min(NUM_SAMPLES, self.batch_size), None
            if self.num_classes:
                labels = torch.arange(count) % self.num_classes
            noise, _ = draw_noise(self.shape, range(count))
            steps = min(SAMPLING_STEPS, self.num_timesteps)
            sampler = make_sampler(DEFAULT_SAMPLER, scheduler)

            z0 = final_latents(denoise(self.denoiser, sampler, noise, labels, num_steps=steps))
            self._samples[prediction_type] = KnownLatents(z0, labels, False, OWN_SAMPLES)
        return self._samples[prediction_type]

    @cached_property
    def _samples(self) -> dict[PredictionType, KnownLatents]:
        return {}

    @cached_property
    def timesteps(self) -> list[int]:
        return [int(share * (self.num_timesteps - 1)) for share in LOOKED_AT]

    @cached_property
    def losses(self) -> dict[PredictionType, Tensor]:
        """Mean squared error at `timesteps` if the output is read as each type, `(7,)` each.

        On samples of its own every reading is judged by the samples that it makes.
        """
        if self.stored_latents is not None:
            return self._losses_on(self.stored_latents)
        return {kind: self._losses_on(self.sampled_latents(kind))[kind] for kind in PREDICTION_TYPES}

    def _losses_on(self, known: KnownLatents) -> dict[PredictionType, Tensor]:
        chosen = _spread(len(known.z0), self.batch_size)
        z0, labels = known.z0[chosen], None if known.labels is None else known.labels[chosen]
        eps = torch.randn(z0.shape, generator=torch.Generator().manual_seed(1))
        errors: dict[PredictionType, list[float]] = {kind: [] for kind in PREDICTION_TYPES}
        for timestep in self.timesteps:
            alpha_bar = self.alpha_bars[timestep]
            output = self.predict(add_noise(z0, eps, alpha_bar), timestep, labels)
            for kind in PREDICTION_TYPES:
                errors[kind].append(float((output - target(kind, z0, eps, alpha_bar)).square().mean()))
        return {kind: torch.tensor(values) for kind, values in errors.items()}

    def floors(self, prediction_type: PredictionType, timesteps: list[int] | None = None) -> LossFloors:
        """At `timesteps` or at others; the Gaussian one only says something where `eigenvalues` are known.

        Raises `NotRun` for latents that are not finite.
        """
        known = self.stored_latents or self.sampled_latents(prediction_type)
        spectrum = self.eigenvalues if self.eigenvalues is not None else known.z0.var(0).mean()[None]
        if not bool(spectrum.isfinite().all()):
            raise NotRun(f"{known.source} are not finite")
        channels = None if self.statistics is None else self.statistics.channel_variances
        return loss_floors(prediction_type, self.alpha_bars[timesteps or self.timesteps], spectrum, channels)

    @property
    def eigenvalues(self) -> Tensor | None:
        """`(D,)` of the latents' covariance, as the run stored them."""
        return None if self.statistics is None else self.statistics.eigenvalues

    @property
    def class_eigenvalues(self) -> Tensor | None:
        """`(classes, D)`, the same of each class on its own."""
        return None if self.statistics is None else self.statistics.class_eigenvalues

    @cached_property
    def _finite_parts(self) -> dict[str, bool]:
        networks = {"autoencoder": self.vae, "denoiser": self.unet}
        return {part: network is None or not non_finite(network) for part, network in networks.items()}

    def is_finite(self, part: str) -> bool:
        """Whether the weights of the "autoencoder" or "denoiser" are; so is what the folder lacks."""
        return self._finite_parts.get(part, True)

    @property
    def can_sample(self) -> bool:
        """Whether there is a beta for every timestep."""
        return self.required_scheduler.config.num_train_timesteps <= len(self.required_scheduler.betas)


def non_finite(network: torch.nn.Module) -> dict[str, int]:
    """Tensors of a network that hold NaN or infinity, and how many such values."""
    counts = {name: int((~tensor.isfinite()).sum()) for name, tensor in network.state_dict().items()}
    return {name: count for name, count in counts.items() if count}


def _required(part: Part | None, name: str) -> Part:
    """What a folder may lack, for those who cannot do without it. Raises `NotRun` where it does."""
    if part is None:
        raise NotRun(f"it needs {name}, which this folder lacks")
    return part


def _spread(count: int, most: int) -> Tensor:
    """Indices of at most `most` of `count` things, evenly taken."""
    return torch.linspace(0, count - 1, min(count, most)).round().long()
