"""What a checkpoint costs to run, in floating-point operations counted by running it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.models import count_flops


@dataclass(frozen=True)
class Cost:
    """Per image, in 1e9 floating-point operations."""

    encode_gflops: float
    decode_gflops: float
    evaluation_gflops: float | None  # one evaluation of the denoiser, without guidance; None for an autoencoder alone

    def per_sample(self, num_steps: int) -> float | None:
        """The cost of one generated image: `num_steps` evaluations and one decode; None for an autoencoder alone."""
        return None if self.evaluation_gflops is None else self.evaluation_gflops * num_steps + self.decode_gflops


@cache
def measure_cost(checkpoint: Checkpoint) -> Cost:
    """Counted once per checkpoint."""
    vae = checkpoint.vae
    pixels = torch.zeros(1, vae.config.in_channels, vae.config.sample_size, vae.config.sample_size)
    latents = vae.encode(pixels.to(vae.device)).latent_dist.mean
    encode, decode = _gflops(vae.encode, pixels.to(vae.device)), _gflops(vae.decode, latents)
    evaluation = None
    if checkpoint.kind == "ldm":
        evaluation = _gflops(checkpoint.pipeline.denoiser.predict, latents, torch.zeros(1, device=latents.device))
    return Cost(encode, decode, evaluation)


@torch.no_grad()
def _gflops(function: Callable[..., Any], *arguments: Tensor) -> float:
    return count_flops(lambda: function(*arguments)) / 1e9
