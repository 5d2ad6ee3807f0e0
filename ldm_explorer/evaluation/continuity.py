"""Is the latent space continuous? Several questions, none of which stands for the others: see also paths.py.

All latents are normalised.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ldm_explorer.data import DatasetSpec, to_model
from ldm_explorer.evaluation.checks import check_count, check_values
from ldm_explorer.latents import BatchMap, LatentCodec, in_batches

MIN_VARIANCE = 1e-3
"""Where normalised latents' means vary less, ratios to that are those of rounding: the posterior has collapsed."""


def _variance(latents: Tensor) -> Tensor:
    return (latents - latents.mean(0)).square().mean()


def is_informative(latents: Tensor) -> bool:
    """Whether the means `(N, c, h, w)` say more of the image than rounding does."""
    return bool(_variance(latents) >= MIN_VARIANCE)


def nearest_neighbours(latents: Tensor, batched: BatchMap = in_batches) -> Tensor:
    """`(N, c, h, w)` to the index `(N,)` of each one's nearest other, by L2 distance.

    Raises `ValueError` for others.
    """
    check_values("latents", 4, latents)
    flat = latents.flatten(1)
    flat = flat - flat.mean(0)  # what all have in common would cost cdist the digits that tell them apart

    def nearest(indices: Tensor) -> Tensor:
        distances = torch.cdist(flat[indices], flat)
        distances[torch.arange(len(indices)), indices] = torch.inf
        return distances.argmin(1)

    return batched(nearest, torch.arange(len(flat)), "latent neighbours")


def random_partners(count: int, seed: int = 0) -> Tensor:
    """`(count,)`: for each index another one, every one once."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    partners = torch.empty_like(order)
    partners[order] = order.roll(1)
    return partners


def halfway(latents: Tensor, partners: Tensor) -> Tensor:
    """The points half-way to the partners, whose decodes the interpolated FD measures (arXiv 2603.05630)."""
    return (latents + latents[partners]) / 2


@dataclass(frozen=True)
class Spectrum:
    """Power over the 2-D cosine transform, the constant left out (Skorokhodov et al. 2025, arXiv 2502.14831)."""

    high_share: float  # share of the power where u/h + v/w > 1
    flatness: float  # geometric over arithmetic mean of the power: 1 for white noise


def measure_spectrum(maps: Tensor) -> Spectrum | None:
    """Average the power of `(N, c, h, w)` over N and c; None where nothing varies, as in a map of a single value.

    Raises `ValueError` for others.
    """
    check_values("maps", 4, maps)
    height, width = maps.shape[-2:]
    coefficients = _cosine_basis(height) @ maps.double() @ _cosine_basis(width).T
    power = coefficients.square().mean(dim=(0, 1))
    u, v = torch.arange(height)[:, None], torch.arange(width)[None]
    varying, high = (u + v) > 0, u / height + v / width > 1
    if not power[varying].sum() > 0:
        return None
    mean = power[varying].mean()
    flatness = power[varying].clamp_min(torch.finfo(torch.float64).tiny).log().mean().exp() / mean
    return Spectrum(float(power[high].sum() / power[varying].sum()), float(flatness))


def _cosine_basis(size: int) -> Tensor:
    """`(size, size)`: rows are the orthonormal DCT-II's frequencies."""
    frequency, position = torch.arange(size).double()[:, None], torch.arange(size).double()[None] + 0.5
    basis = torch.cos(math.pi / size * frequency * position) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis


def images_at_side(images: Tensor, side: int) -> Tensor:
    """`(N, C, S, S) uint8` averaged down to `(N, C, side, side) float32 in [-1, 1]`: what a latent could look like."""
    return F.adaptive_avg_pool2d(to_model(images), side)


def turn_error(codec: LatentCodec, images: Tensor, latents: Tensor, batched: BatchMap = in_batches) -> float | None:
    """E|E(Rx) - R E(x)|^2 over E|E(x) - mean|^2 for the quarter turns R; `latents` are E(x) of padded `images`.

    0: the encoder turns with the image; 2: as far apart as two images (Kouzelis et al. 2025, arXiv 2502.09509). None
    where the latents say next to nothing of the image. Raises `ValueError` for others.
    """
    check_values("latents", 4, latents)
    check_count(images, latents)
    if not is_informative(latents):
        return None

    def error(indices: Tensor) -> Tensor:
        pixels, encoded = to_model(images[indices]), latents[indices]
        differences = [
            codec.encode(pixels.rot90(turns, (-2, -1))).cpu() - encoded.rot90(turns, (-2, -1)) for turns in (1, 2, 3)
        ]
        return torch.stack(differences, 1).square().flatten(1).mean(1)

    return float(batched(error, torch.arange(len(images)), "turning").mean() / _variance(latents))


@dataclass(frozen=True)
class HalfScale:
    mse: float  # of D(down z) beside down x, pixels in [-1, 1]
    floor_mse: float  # of down D(z) beside down x: the blur of the autoencoder alone


def measure_half_scale(
    codec: LatentCodec, images: Tensor, latents: Tensor, spec: DatasetSpec, batched: BatchMap = in_batches
) -> HalfScale | None:
    """Does a latent averaged down to half its side decode to the image at half its side (arXiv 2502.09509, eq. 4)?

    None for a latent whose side has no half. Raises `ValueError` for others.
    """
    check_values("latents", 4, latents)
    check_count(images, latents)
    if latents.shape[-1] % 2:
        return None

    def errors(indices: Tensor) -> Tensor:
        wanted, z = _halved(to_model(images[indices])), latents[indices]
        decoded = (codec.decode(_halved(z)).cpu(), _halved(codec.decode(z).cpu()))
        return torch.stack(
            [_crop_half(half.clamp(-1, 1) - wanted, spec).square().mean((1, 2, 3)) for half in decoded], 1
        )

    return HalfScale(*batched(errors, torch.arange(len(images)), "half scale").double().mean(0).tolist())


def _halved(images: Tensor) -> Tensor:
    return F.avg_pool2d(images, 2)


def _crop_half(images: Tensor, spec: DatasetSpec) -> Tensor:
    """Without the padding that `images` of half the model's side have."""
    low = (spec.model_side - spec.side) // 4
    return images[..., low : low + spec.side // 2, low : low + spec.side // 2]
