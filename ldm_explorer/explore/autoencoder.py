"""What an autoencoder makes of pure noise, and how its latents are scaled."""

from dataclasses import dataclass

from torch import Tensor

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.latents import decode_images
from ldm_explorer.samplers import draw_noise

STABLE_DIFFUSION_FACTOR = 0.18215
"""`scaling_factor` of its autoencoder: one over the standard deviation of its latents (Rombach et al. 2022, app. G)."""


def decode_noise(checkpoint: Checkpoint, seeds: range) -> Tensor:
    """Standard normal latents, decoded: `(N, C, side, side) uint8`, the noise that sampling starts from."""
    noise, _ = draw_noise(checkpoint.codec.latent_shape, seeds)
    return decode_images(checkpoint.codec, noise, checkpoint.spec)


@dataclass(frozen=True)
class ChannelScale:
    """What is done to one channel of a latent: z = (raw - mean) / std."""

    mean: float
    std: float

    @property
    def factor(self) -> float:
        """What stands where Stable Diffusion has 0.18215."""
        return 1 / self.std


def latent_scales(checkpoint: Checkpoint) -> list[ChannelScale]:
    """Of each channel, as they were measured on the training images and stored."""
    codec = checkpoint.codec
    pairs = zip(codec.mean.flatten().tolist(), codec.std.flatten().tolist(), strict=True)
    return [ChannelScale(mean, std) for mean, std in pairs]
