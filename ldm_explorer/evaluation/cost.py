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
    encode = decode = 0.0
    if checkpoint.kind != "pixel":
        vae = checkpoint.vae
        channels, side = checkpoint.model.image_shape
        pixels = torch.zeros(1, channels, side, side, device=vae.device)
        encode, decode = _gflops(vae.encode, pixels), _gflops(vae.decode, vae.encode(pixels).latent_dist.mean)
    if not checkpoint.has_denoiser:
        return Cost(encode, decode, None)
    denoiser, device = checkpoint.denoiser, checkpoint.pipeline.device
    latents, labels = torch.zeros(1, *denoiser.latent_shape, device=device), denoiser.labels_without_choice(1)
    asked = [latents, torch.zeros(1, device=device), *([] if labels is None else [labels.to(device)])]
    return Cost(encode, decode, _gflops(denoiser.predict, *asked))


@torch.no_grad()
def _gflops(function: Callable[..., Any], *arguments: Tensor) -> float:
    return count_flops(lambda: function(*arguments)) / 1e9
