"""LatentCodec: the only owner of `latents_mean` and `latents_std`.

Everything outside this file sees normalised latents `z = (raw - latents_mean) / latents_std`, per channel.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from tqdm import tqdm

from ldm_explorer.data import DatasetSpec, crop, to_model, to_uint8

BATCH_IMAGES = 64
"""Forward passes without gradients go in slices of this: malloc maps and zeroes blocks above 32 MB anew every time."""


def latent_shape(vae: AutoencoderKL) -> tuple[int, int, int]:
    """(c, h, w) of the latents of an autoencoder's own image side."""
    return shape_of(vae.config)


def shape_of(config: Mapping[str, Any]) -> tuple[int, int, int]:
    """The same of an autoencoder's config."""
    side = config["sample_size"] >> (len(config["block_out_channels"]) - 1)
    return config["latent_channels"], side, side


@dataclass(frozen=True)
class Posterior:
    """The encoder's Gaussian over normalised latents: `mean` and `std`, both `(N, c, h, w) float32`."""

    mean: Tensor
    std: Tensor

    def __getitem__(self, index: Tensor) -> "Posterior":
        """The posteriors of some of the N examples."""
        return Posterior(self.mean[index], self.std[index])

    def sample(self, noise: Tensor) -> Tensor:
        """mean + std * noise, for standard normal noise of the same shape."""
        return self.mean + self.std * noise

    def kl(self) -> Tensor:
        """KL divergence from N(0, 1) in nats, `(N, c, h, w)`: for a posterior over raw latents."""
        variance = self.std.square()
        return kl_per_value(self.mean, variance, variance.log())


def kl_per_value(mean: Tensor, variance: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence from N(0, 1) of every value of raw latents, in nats (Kingma & Welling 2014, app. B)."""
    return 0.5 * (mean**2 + variance - 1 - log_variance)


@torch.no_grad()
def raw_posterior(vae: AutoencoderKL, pixels: Tensor) -> Posterior:
    """The Gaussian over raw latents that an encoder gives for images `(N, C, S, S) float32 in [-1, 1]`."""
    raw = vae.encode(pixels.to(vae.device)).latent_dist
    return Posterior(raw.mean, raw.std)


class LatentCodec:
    """Images `(N, C, S, S) float32 in [-1, 1]` to normalised latents `(N, c, h, w)` and back."""

    def __init__(self, vae: AutoencoderKL):
        """Raises `ValueError` when the autoencoder carries no latent statistics."""
        if vae.config.latents_mean is None or vae.config.latents_std is None:
            raise ValueError(
                "this autoencoder's config has no latents_mean and latents_std: train it with train/vae.py, "
                "or measure them with measure_statistics(), or by giving its images with --images"
            )
        self.vae = vae
        self.latent_shape = latent_shape(vae)
        self.mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1)
        self.std = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1)

    @torch.no_grad()
    def posterior(self, pixels: Tensor) -> Posterior:
        return self.normalise(self.raw_posterior(pixels))

    def normalise(self, raw: Posterior) -> Posterior:
        """What the encoder says as everything outside sees it."""
        mean, std = self.mean.to(raw.mean), self.std.to(raw.mean)
        return Posterior((raw.mean - mean) / std, raw.std / std)

    def raw_posterior(self, pixels: Tensor) -> Posterior:
        """What the encoder says before it is normalised: the Gaussian that the KL term compares with N(0, 1)."""
        return raw_posterior(self.vae, pixels)

    def encode(self, pixels: Tensor) -> Tensor:
        """The posterior's mode, normalised."""
        return self.posterior(pixels).mean

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Normalised latents to images, not clamped."""
        return self.decode_with_gradient(latents)

    def decode_with_gradient(self, latents: Tensor) -> Tensor:
        """As `decode`, for those who differentiate it."""
        latents = latents.to(self.vae.device)
        return self.vae.decode(latents * self.std.to(latents) + self.mean.to(latents), return_dict=False)[0]


class IdentityCodec(LatentCodec):
    """The codec of a diffusion model of pixels, whose latents are the images: nothing is encoded, scaled or decoded."""

    def __init__(self, image_shape: tuple[int, int, int]):
        self.latent_shape = image_shape
        self.mean, self.std = torch.zeros(1, image_shape[0], 1, 1), torch.ones(1, image_shape[0], 1, 1)

    def raw_posterior(self, pixels: Tensor) -> Posterior:
        """The images themselves, without spread."""
        return Posterior(pixels, torch.zeros_like(pixels))

    def decode_with_gradient(self, latents: Tensor) -> Tensor:
        return latents


class BatchMap(Protocol):
    """Applies a function to `(N, ...)` in slices of `BATCH_IMAGES` and concatenates what it returns.

    Long work takes one as an argument, so that whoever asks for it can show progress and divide it over processes.
    """

    def __call__(self, function: Callable[[Tensor], Tensor], inputs: Tensor, description: str = "") -> Tensor: ...


def in_batches(
    function: Callable[[Tensor], Tensor],
    inputs: Tensor,
    description: str = "",  # noqa: ARG001 (nothing is shown)
    batch_size: int = BATCH_IMAGES,
) -> Tensor:
    """The plain `BatchMap`: memory stays bounded, nothing is shown."""
    return torch.cat([function(part) for part in inputs.split(batch_size)])


def decode_images(codec: LatentCodec, latents: Tensor, spec: DatasetSpec, batched: BatchMap = in_batches) -> Tensor:
    """Normalised latents to images `(N, C, side, side) uint8` at the dataset's original side, on the CPU."""
    return batched(lambda part: crop(to_uint8(codec.decode(part)), spec).cpu(), latents, "decoding")


def encode_posterior(codec: LatentCodec, images: Tensor) -> Posterior:
    """Encode a whole set of `uint8` images once; mean and std are kept so that each batch can be sampled afresh."""
    batches = tqdm(images.split(BATCH_IMAGES), "encoding", leave=False, disable=None)  # None: not without a terminal
    parts = [codec.posterior(to_model(part)) for part in batches]
    return Posterior(torch.cat([p.mean for p in parts]).cpu(), torch.cat([p.std for p in parts]).cpu())


def identity_statistics(vae: AutoencoderKL) -> dict[str, list[float]]:
    """The config fields with which normalising changes nothing."""
    channels = vae.config.latent_channels
    return {"latents_mean": [0.0] * channels, "latents_std": [1.0] * channels}


def settle_statistics(vae: AutoencoderKL) -> bool:
    """Whether the config holds latents_mean and latents_std.

    Where not, what diffusers' pipelines do then is put in their place: z = (raw - shift_factor) * scaling_factor. An
    autoencoder that has neither stays without.
    """
    mean, std, factor = vae.config.latents_mean, vae.config.latents_std, vae.config.scaling_factor
    if mean is not None and std is not None:
        return True
    if factor is not None:
        channels = vae.config.latent_channels
        mean = [vae.config.shift_factor or 0.0] * channels if mean is None else mean
        std = [1 / factor] * channels if std is None else std
        vae.register_to_config(latents_mean=list(mean), latents_std=list(std))
    return False


@dataclass(frozen=True)
class LatentScale:
    """Mean and std per channel of sampled raw latents, measured on some images, and how far off they may be."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_images: int
    mean_error: float  # standard errors, of the worst channel and in units of its std; 0 where all images were taken
    std_error: float

    def store(self, vae: AutoencoderKL) -> None:
        """Put it into the config, as latents_mean and latents_std."""
        vae.register_to_config(latents_mean=list(self.mean), latents_std=list(self.std))


def image_moments(raw: Posterior) -> Tensor:
    """Of every image, per channel, the mean and the mean square of its sampled latents, `(N, 2, c) float64`."""
    mu, sigma = raw.mean.double(), raw.std.double()
    return torch.stack([mu.mean((2, 3)), (mu.square() + sigma.square()).mean((2, 3))], 1).cpu()


def scale_of(moments: Tensor, num_images: int) -> LatentScale:
    """The scale of the latents of `num_images`, by the `image_moments` of all or of some drawn from them.

    The variance of a sampled latent is Var(mu) + E[sigma^2]. Errors are those of means over images drawn without
    replacement; the variance's is that of mean square - 2 mean * (mean of the image), to first order.
    """
    mean, mean_square = moments.mean(0)
    variance = mean_square - mean.square()
    seen = torch.stack([moments[:, 0] / variance.sqrt(), (moments[:, 1] - 2 * mean * moments[:, 0]) / (2 * variance)])
    errors = seen.std(1, correction=0) * ((1 - len(moments) / num_images) / len(moments)) ** 0.5
    worst = [float(error) for error in errors.amax(1)]
    return LatentScale(tuple(mean.tolist()), tuple(variance.sqrt().tolist()), len(moments), *worst)


def measure_statistics(vae: AutoencoderKL, images: Tensor, mirrored: bool = False) -> None:
    """Measure mean and std of the *sampled* latents of `uint8` images per channel, and store them in the config.

    With `mirrored`, over the images and their mirror images.
    """
    moments = []
    for part in images.split(BATCH_IMAGES):
        pixels = to_model(part)
        turns = (pixels, pixels.flip(-1)) if mirrored else (pixels,)
        moments.append(torch.stack([image_moments(raw_posterior(vae, turn)) for turn in turns]).mean(0))
    scale_of(torch.cat(moments), len(images)).store(vae)
