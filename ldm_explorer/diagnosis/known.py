"""What a case knows: latents that its denoiser is asked about, and what its folder may lack."""

from dataclasses import dataclass
from typing import TypeVar

import torch
from diffusers import DDPMScheduler, SchedulerMixin
from torch import Tensor

from ldm_explorer.diagnosis.verdicts import NotRun
from ldm_explorer.latents import Posterior
from ldm_explorer.prediction import PredictionType
from ldm_explorer.samplers import (
    DEFAULT_SAMPLER,
    SamplerName,
    clipping,
    is_flow,
    make_sampler,
    make_scheduler,
    own_schedule,
    shift_of,
)

OWN_SAMPLES = "its own samples"

Part = TypeVar("Part")


@dataclass(frozen=True)
class KnownLatents:
    """What the denoiser is asked about: normalised latents, or pixels where there is no autoencoder."""

    z0: Tensor  # (N, c, h, w)
    labels: Tensor | None  # (N,), None where the network takes none, or is told "no label"
    labelled: bool  # whether the labels are the true ones
    source: str


def non_finite(network: torch.nn.Module) -> dict[str, int]:
    """Tensors of a network that hold NaN or infinity, and how many such values."""
    counts = {name: int((~tensor.isfinite()).sum()) for name, tensor in network.state_dict().items()}
    return {name: count for name, count in counts.items() if count}


def required(part: Part | None, name: str) -> Part:
    """What a folder may lack, for those who cannot do without it. Raises `NotRun` where it does."""
    if part is None:
        raise NotRun(f"it needs {name}, which this folder lacks")
    return part


def spread(count: int, most: int) -> Tensor:
    """Indices of at most `most` of `count` things, evenly taken."""
    return torch.linspace(0, count - 1, min(count, most)).round().long()


def sampled(posterior: Posterior) -> Tensor:
    """The same latents each time."""
    return posterior.sample(torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(0)))


def sampler_like(
    scheduler: SchedulerMixin, prediction_type: PredictionType, name: SamplerName = DEFAULT_SAMPLER, *, of_pixels: bool
) -> SchedulerMixin:
    """A sampler of few steps; of pixels it clips where their scheduler does.

    Along betas it is given those in place of their name, which not every sampler knows.
    """
    if is_flow(scheduler):
        read_as = make_scheduler(own_schedule(scheduler), prediction_type, shift_of(scheduler))
        return make_sampler(name, read_as)
    betas = scheduler.betas.tolist()
    told = DDPMScheduler.from_config(scheduler.config, prediction_type=prediction_type, trained_betas=betas)
    return make_sampler(name, clipping(told) if of_pixels else told)
