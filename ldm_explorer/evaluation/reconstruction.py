"""How much of an image survives the autoencoder, beside PCA with as many dimensions."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ldm_explorer.data import DatasetSpec, check_uint8, crop, to_model
from ldm_explorer.evaluation.checks import check_pixels, described
from ldm_explorer.latents import BatchMap, LatentCodec, in_batches
from ldm_explorer.options import check_kind

MAX_PIXEL = 3.0
"""A decoder and noise lead beyond 1; another range, as that of uint8, lies farther out."""


def reconstruct(codec: LatentCodec, images: Tensor, spec: DatasetSpec, batched: BatchMap = in_batches) -> Tensor:
    """Padded `(N, C, S, S) uint8` to reconstructions `(N, C, side, side)` in [-1, 1]: posterior mode, clamped.

    Raises `ValueError` for other images, `TypeError` for a codec or a spec that is none.
    """
    check_kind(codec, LatentCodec, "the codec of a checkpoint")
    check_kind(spec, DatasetSpec, "the spec of a checkpoint")
    check_uint8(images, spec.channels, spec.model_side)

    def reconstructed(part: Tensor) -> Tensor:
        return crop(codec.decode(codec.encode(to_model(part))).clamp(-1, 1).cpu(), spec)

    return batched(reconstructed, images, "reconstructing")


def psnr_db(images: Tensor, reference: Tensor) -> Tensor:
    """PSNR in dB per image `(N,)`; both `(N, C, H, W)` in [-1, 1], data range 1 after mapping to [0, 1].

    Raises `ValueError` for others.
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio  # not at the app's start: it takes a while

    check_pixels(images, reference)
    images, reference = (images + 1) / 2, (reference + 1) / 2
    return peak_signal_noise_ratio(images, reference, data_range=1.0, reduction="none", dim=(1, 2, 3))


def ssim(images: Tensor, reference: Tensor) -> Tensor:
    """SSIM per image `(N,)`: Gaussian window of 11 pixels, data range 1 (Wang et al. 2004).

    Raises `ValueError` for what is not `(N, C, H, W)` in [-1, 1].
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    check_pixels(images, reference)
    images, reference = (images + 1) / 2, (reference + 1) / 2
    parts = zip(images.split(1000), reference.split(1000), strict=True)
    return torch.cat(
        [
            structural_similarity_index_measure(a, b, kernel_size=11, data_range=1.0, reduction="none").view(-1)
            for a, b in parts
        ]
    )


@dataclass(frozen=True)
class PCA:
    """Principal components of flattened images: the best linear code of every size."""

    mean: Tensor  # (D,)
    components: Tensor  # (D, D), columns by falling variance

    @classmethod
    def fit(cls, images: Tensor) -> "PCA":
        """Fit on `(N, C, H, W)` images in [-1, 1]. Raises `ValueError` for others."""
        check_pixels(images)
        flat = images.flatten(1)
        covariance = torch.cov(flat.T, correction=0).double()
        return cls(flat.mean(0), torch.linalg.eigh(covariance).eigenvectors.flip(1).float())

    def reconstruct(self, images: Tensor, dimensions: int) -> Tensor:
        """Project on the first `dimensions` components, clamped to [-1, 1]; the images themselves from D on.

        Raises `ValueError` for what is no image of the fitted size.
        """
        check_pixels(images)
        if images[0].numel() != len(self.mean):
            raise ValueError(f"the images are {described(images)}, and were of {len(self.mean)} values: give such")
        if dimensions >= len(self.mean):
            return images
        basis = self.components[:, :dimensions]
        flat = images.flatten(1) - self.mean
        return (flat @ basis @ basis.T + self.mean).clamp(-1, 1).view_as(images)
