"""A folder under examination: its settings, its networks, and latents that its denoiser can be asked about."""

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DiTTransformer2DModel, SchedulerMixin, UNet2DModel
from torch import Tensor

from ldm_explorer.amplitudes import Amplitudes
from ldm_explorer.data import to_model
from ldm_explorer.denoiser import NetworkDenoiser
from ldm_explorer.diagnosis.floors import LossFloors, loss_floors
from ldm_explorer.diagnosis.known import OWN_SAMPLES, KnownLatents, non_finite, required, sampled, sampler_like, spread
from ldm_explorer.diagnosis.statistics import LatentStatistics
from ldm_explorer.diagnosis.verdicts import NotRun
from ldm_explorer.latents import LatentCodec, Posterior
from ldm_explorer.lazy import cached_property
from ldm_explorer.models import count_flops
from ldm_explorer.prediction import PredictionType, add_noise, target
from ldm_explorer.run_files import LogRecord, RunConfig, SchedulerConfig
from ldm_explorer.sampler_steps import DEFAULT_STEPS, SamplerSteps
from ldm_explorer.samplers import (
    denoise,
    draw_noise,
    final_latents,
    own_schedule,
    prediction_type_of,
    prediction_types_of,
)
from ldm_explorer.schedules import FlowSchedule, Schedule

MAX_BATCH, MIN_BATCH = 32, 4
FLOPS_PER_BATCH = 3e10
MAX_IMAGES, MAX_LABELS = 128, 20
NUM_SAMPLES, SAMPLING_STEPS = 16, 10
LOOKED_AT = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)  # timesteps at which the error is measured, as shares of T


@dataclass(frozen=True, eq=False)
class Case:
    """One folder. `images (N, C, S, S) uint8` have the model's side; `image_labels (N,)` are 0..K-1."""

    folder: Path
    config: RunConfig  # train_config.json of our runs, else {}
    log: list[LogRecord]
    vae: AutoencoderKL | None
    network: UNet2DModel | DiTTransformer2DModel | None
    scheduler: SchedulerMixin | None
    scheduler_config: SchedulerConfig
    statistics: LatentStatistics | None
    has_latent_statistics: bool  # whether vae/config.json holds latents_mean and latents_std
    images: Tensor | None = None
    image_labels: Tensor | None = None
    num_classes: int = 0  # the labels that are classes; 0 without a denoiser that takes labels
    image_folders: tuple[str, ...] = ()  # the subfolders that images came in, whatever label each is
    sampling: SamplerSteps | None = None  # what its index says it is sampled by; None for a model of others
    student: SamplerSteps | None = None  # what a distilled denoiser was made for, which answers on no others

    @property
    def required_vae(self) -> AutoencoderKL:
        return required(self.vae, "an autoencoder")

    @property
    def required_network(self) -> UNet2DModel | DiTTransformer2DModel:
        return required(self.network, "a denoiser")

    @property
    def required_scheduler(self) -> SchedulerMixin:
        return required(self.scheduler, "a scheduler")

    @property
    def num_timesteps(self) -> int:
        """As many as there are both betas and timesteps for."""
        return min(self.required_scheduler.config.num_train_timesteps, self.schedule.num_timesteps)

    @property
    def prediction_type(self) -> PredictionType:
        return prediction_type_of(self.required_scheduler)

    @cached_property
    def schedule(self) -> Schedule:
        return own_schedule(self.required_scheduler)

    @property
    def is_flow(self) -> bool:
        return isinstance(self.schedule, FlowSchedule)

    @cached_property
    def amplitudes(self) -> Amplitudes:
        """(a, b) of every step, `(T,)` each."""
        return self.schedule.amplitudes

    @property
    def shape(self) -> tuple[int, int, int]:
        """(c, h, w) of what the denoiser takes."""
        return self.denoiser.latent_shape

    @property
    def image_side(self) -> int:
        """The side of the images that the model is made for."""
        if self.network is None:
            return self.required_vae.config.sample_size
        factor = 1 if self.vae is None else 2 ** (len(self.vae.config.block_out_channels) - 1)
        return self.shape[-1] * factor

    @property
    def image_channels(self) -> int:
        return (self.required_network if self.vae is None else self.vae).config.in_channels

    @cached_property
    def denoiser(self) -> NetworkDenoiser:
        return self.denoiser_of(self.required_network)

    def denoiser_of(self, network: UNet2DModel | DiTTransformer2DModel) -> NetworkDenoiser:
        """A network in the place of the folder's own."""
        return NetworkDenoiser(network, self.prediction_type, self.schedule, self.num_classes)

    @cached_property
    def codec(self) -> LatentCodec:
        return LatentCodec(self.required_vae)

    @property
    def has_probes(self) -> bool:
        return self.images is not None or (self.network is not None and self.is_finite("denoiser") and self.can_sample)

    @property
    def probe_source(self) -> str:
        if self.images is not None:
            return f"{len(self.pixels)} images"
        return f"{len(self.pixels)} images decoded from {self.known_latents().source}"

    @cached_property
    def pixels(self) -> Tensor:
        """What the autoencoder is asked about: at most 128 images, or where there are none, decoded latents."""
        if self.images is not None:
            return to_model(self.images[spread(len(self.images), MAX_IMAGES)])
        latents = self.known_latents().z0
        chosen = latents[spread(len(latents), MAX_BATCH)]
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
    def num_labels(self) -> int:
        """How many labels the network takes, "no label" among them where it has one; 0 for none."""
        return 0 if self.network is None else self.denoiser.num_classes + (self.null_class is not None)

    @property
    def null_class(self) -> int | None:
        """The label that means "no label"; None for a network that has none."""
        return None if self.network is None else self.denoiser.null_class

    @cached_property
    @torch.no_grad()
    def batch_size(self) -> int:
        """How many latents a check puts through the network: fewer where it is large."""
        flops = count_flops(lambda: self.predict(torch.zeros(1, *self.shape), 0, None))
        return int(min(MAX_BATCH, max(MIN_BATCH, FLOPS_PER_BATCH / max(1, flops))))

    def predict(
        self, z_t: Tensor, timestep: int | Tensor, labels: Tensor | None, denoiser: NetworkDenoiser | None = None
    ) -> Tensor:
        """At a step, from 0 on; without labels that of "no label", or of the last label: a network needs some."""
        if labels is None and self.num_labels:
            labels = torch.full((len(z_t),), self.num_labels - 1)
        told = timestep + self.schedule.first_timestep
        return (denoiser or self.denoiser).predict(z_t, told, labels)

    def known_latents(self) -> KnownLatents:
        """Stored training latents, else encoded images (or the images), else what the network itself samples."""
        return self.stored_latents or self.sampled_latents(self.prediction_type)

    @cached_property
    def stored_latents(self) -> KnownLatents | None:
        if self.statistics is not None and self.statistics.subset.mean.shape[1:] == self.shape:
            subset, labels = self.statistics.subset, self.statistics.subset_labels
            return self._known(sampled(subset), labels, "stored training latents")
        if self.images is None or not self.is_finite("autoencoder"):
            return None
        return self.encoded_images()

    def encoded_images(self) -> KnownLatents:
        """Latents of the images that were given, as the config normalises them, or those images."""
        z0, source = (self.pixels, "images") if self.vae is None else (sampled(self.posterior), "encoded images")
        labels = None if self.image_labels is None else self.image_labels[spread(len(self.image_labels), MAX_IMAGES)]
        return self._known(z0, labels, source)

    def _known(self, z0: Tensor, labels: Tensor | None, source: str) -> KnownLatents:
        if labels is not None and int(labels.max()) < self.num_classes:
            return KnownLatents(z0, labels, True, source)
        if self.num_labels and self.null_class is None:
            z0 = z0[spread(len(z0), self.batch_size)]
            return KnownLatents(z0, self._likeliest_labels(z0), False, source)
        return KnownLatents(z0, None, False, source)

    def _likeliest_labels(self, z0: Tensor) -> Tensor:
        """Those with which `z0` are denoised best, `(N,)` (Li et al. 2023), as nobody says which they are."""
        timestep = self.timesteps[len(self.timesteps) // 2]
        eps = torch.randn(z0.shape, generator=torch.Generator().manual_seed(5))
        z_t = add_noise(z0, eps, self.amplitudes[timestep])
        wanted = target(self.prediction_type, z0, eps, self.amplitudes[timestep])
        labels = spread(self.num_labels, MAX_LABELS)
        outputs = (self.predict(z_t, timestep, label.expand(len(z0))) for label in labels)
        return labels[torch.stack([(output - wanted).square().mean((1, 2, 3)) for output in outputs]).argmin(0)]

    def sampled_latents(self, prediction_type: PredictionType, num_steps: int = SAMPLING_STEPS) -> KnownLatents:
        """At most 16, the output read as `prediction_type`; labels take turns, a student its steps. Raises `NotRun`."""
        sampler_name, num_steps = self.student or (DEFAULT_STEPS.sampler, num_steps)
        if not self.can_sample:
            raise NotRun("there are fewer betas than timesteps")
        if (prediction_type, num_steps) not in self._samples:
            count, labels = min(NUM_SAMPLES, self.batch_size), None
            if self.num_classes:
                labels = torch.arange(count) % self.num_classes
            sampler = sampler_like(self.required_scheduler, prediction_type, sampler_name, of_pixels=self.vae is None)
            noise, _ = draw_noise(self.shape, range(count))
            steps = denoise(self.denoiser, sampler, noise, labels, num_steps=min(num_steps, self.num_timesteps))
            self._samples[prediction_type, num_steps] = KnownLatents(final_latents(steps), labels, False, OWN_SAMPLES)
        return self._samples[prediction_type, num_steps]

    @cached_property
    def _samples(self) -> dict[tuple[PredictionType, int], KnownLatents]:
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
        return {kind: self._losses_on(self.sampled_latents(kind))[kind] for kind in prediction_types_of(self.schedule)}

    def _losses_on(self, known: KnownLatents) -> dict[PredictionType, Tensor]:
        chosen = spread(len(known.z0), self.batch_size)
        z0, labels = known.z0[chosen], None if known.labels is None else known.labels[chosen]
        eps = torch.randn(z0.shape, generator=torch.Generator().manual_seed(1))
        errors: dict[PredictionType, list[float]] = {kind: [] for kind in prediction_types_of(self.schedule)}
        for timestep in self.timesteps:
            mixed = self.amplitudes[timestep]
            output = self.predict(add_noise(z0, eps, mixed), timestep, labels)
            for kind in errors:
                errors[kind].append(float((output - target(kind, z0, eps, mixed)).square().mean()))
        return {kind: torch.tensor(values) for kind, values in errors.items()}

    def floors(self, prediction_type: PredictionType, timesteps: list[int] | None = None) -> LossFloors:
        """At `timesteps` or at others; the Gaussian one only says something where `eigenvalues` are known.

        Raises `NotRun` for latents that are not finite.
        """
        known = self.stored_latents or self.sampled_latents(prediction_type)
        if self.eigenvalues is None and len(known.z0) < 2:
            raise NotRun("it needs at least 2 latents")
        spectrum = self.eigenvalues if self.eigenvalues is not None else known.z0.var(0).mean()[None]
        if not bool(spectrum.isfinite().all()):
            raise NotRun(f"{known.source} are not finite")
        channels = None if self.statistics is None else self.statistics.channel_variances
        return loss_floors(prediction_type, self.amplitudes[timesteps or self.timesteps], spectrum, channels)

    @property
    def eigenvalues(self) -> Tensor | None:
        """`(D,)` of the latents' covariance, as the run stored them."""
        return None if self.statistics is None else self.statistics.eigenvalues

    @cached_property
    def _finite_parts(self) -> dict[str, bool]:
        networks = {"autoencoder": self.vae, "denoiser": self.network}
        return {part: network is None or not non_finite(network) for part, network in networks.items()}

    def is_finite(self, part: str) -> bool:
        """Whether the weights of the "autoencoder" or "denoiser" are; so is what the folder lacks."""
        return self._finite_parts.get(part, True)

    @property
    def can_sample(self) -> bool:
        """Whether there is a beta for every timestep."""
        return self.required_scheduler.config.num_train_timesteps <= self.schedule.num_timesteps
