"""What does the autoencoder keep?"""

from dataclasses import dataclass

from torch import Tensor

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.data import crop
from ldm_explorer.evaluation.reconstruction import psnr_db, ssim
from ldm_explorer.latents import LatentCodec


@dataclass(frozen=True)
class LatentSize:
    """A latent grid: `side` is the latent size, beside channels and the number of values."""

    side: int
    channels: int
    pixels: int  # values per image at the original side

    @property
    def values(self) -> int:
        return self.side**2 * self.channels

    @property
    def compresses(self) -> bool:
        return self.values < self.pixels

    @property
    def shape(self) -> str:
        return f"{self.side}x{self.side}x{self.channels}"

    @property
    def in_words(self) -> str:
        """Side, channels and number of values."""
        channels = f"{self.channels} channel{'' if self.channels == 1 else 's'}"
        return f"side {self.side}, {channels}, {self.values:,} values{'' if self.compresses else ', no compression'}"

    def __str__(self) -> str:
        shape = f"{self.shape} = {self.values:,} values"
        if not self.compresses:
            return f"{shape}, no compression ({self.pixels:,} pixels)"
        return f"{shape}, {self.pixels / self.values:.1f} times fewer than pixels"


def latent_size(checkpoint: Checkpoint) -> LatentSize:
    """The latent grid of a checkpoint's autoencoder."""
    spec, (channels, side, _) = checkpoint.spec, checkpoint.model.latent_shape
    return LatentSize(side, channels, spec.channels * spec.side**2)


@dataclass(frozen=True)
class Reconstruction:
    """One image through one autoencoder, at the original side, in [-1, 1]."""

    name: str
    size: LatentSize
    image: Tensor  # (C, side, side)
    reconstruction: Tensor  # (C, side, side), clamped
    latents: Tensor  # (c, h, w), normalised posterior mode
    psnr_db: float
    ssim: float

    @property
    def error(self) -> Tensor:
        """(C, side, side): reconstruction minus image, in [-2, 2]."""
        return self.reconstruction - self.image


def reconstruct_image(checkpoint: Checkpoint, pixels: Tensor) -> Reconstruction:
    """Encode (posterior mode) and decode one padded image `(1, C, S, S)` in [-1, 1]."""
    codec, spec = LatentCodec(checkpoint.vae), checkpoint.spec
    latents = codec.encode(pixels)
    image, reconstruction = crop(pixels, spec), crop(codec.decode(latents).clamp(-1, 1), spec)
    return Reconstruction(
        name=checkpoint.name,
        size=latent_size(checkpoint),
        image=image[0],
        reconstruction=reconstruction[0],
        latents=latents[0],
        psnr_db=float(psnr_db(reconstruction, image)),
        ssim=float(ssim(reconstruction, image)),
    )
