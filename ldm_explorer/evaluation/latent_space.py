"""How much of the latent the autoencoder uses: KL per value and active units, on raw latents."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ldm_explorer.data import to_model
from ldm_explorer.evaluation.checks import check_values
from ldm_explorer.latents import BatchMap, LatentCodec, Posterior, in_batches

ACTIVE_VARIANCE = 0.01


@dataclass(frozen=True)
class LatentUse:
    kl_per_value: float  # nats, mean over images and values
    active_units: float  # share of values with Var_x(mu) > 0.01 (Burda et al. 2015, section 5.1)


def raw_posteriors(codec: LatentCodec, images: Tensor, batched: BatchMap = in_batches) -> Posterior:
    """The encoder's Gaussians over raw latents, of padded images `(N, C, S, S) uint8`."""

    def both(part: Tensor) -> Tensor:
        posterior = codec.raw_posterior(to_model(part))
        return torch.stack([posterior.mean, posterior.std], 1).cpu()

    return Posterior(*batched(both, images, "encoding").unbind(1))


def kl_map(posterior: Posterior) -> Tensor:
    """`(N, c, h, w)` to the KL from N(0, 1) in nats `(c, h, w)`, mean over images."""
    return posterior.kl().mean(0)


def measure_latent_use(posterior: Posterior) -> LatentUse:
    """KL per value and active units of raw posteriors. Raises `ValueError` for what is none."""
    check_values("means and spreads", 4, posterior.mean, posterior.std)
    if not (posterior.std > 0).all():
        raise ValueError("the posteriors have spreads that are not above 0: give those of raw_posteriors()")
    active = posterior.mean.var(dim=0) > ACTIVE_VARIANCE
    return LatentUse(float(kl_map(posterior).mean()), float(active.double().mean()))
