"""Is it a copy of a training image? The nearest one of all, found without the dataset.

Of Fashion-MNIST's 60,000 training images the package has the first principal components of their pixels, 32 bytes each,
as `tools/training_features.py` writes them. Where the images themselves are on this machine, the nearest in pixels is
picked among the candidates that lie nearest in these.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.data import to_uint8, training_images_here
from ldm_explorer.evaluation.copying import NEAR_QUANTILE
from ldm_explorer.evaluation.reconstruction import reconstruct
from ldm_explorer.examples import SHIPPED_IMAGES
from ldm_explorer.explore.images import example_images

NUM_COMPONENTS = 32
NUM_CANDIDATES = 200
"""Of 200 samples of ldm-8x8x4-cosine, the nearest image in pixels was among so many in components every time."""

BASIS_FILE = "training-components.safetensors"
FEATURE_FILES = ("training-features-1.safetensors", "training-features-2.safetensors")


@dataclass(frozen=True)
class Nearest:
    """The nearest training image of each of N images."""

    numbers: Tensor  # (N,), from 0, in the dataset's own order
    labels: Tensor  # (N,)
    distances: Tensor  # (N,), L2 over pixels in grey levels, or over their components
    images: Tensor | None  # (N, C, side, side) uint8, None where the dataset is not here


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """All training images of a dataset by the components of their pixels, and the pixels where they are here."""

    mean: Tensor  # (D,)
    components: Tensor  # (D, d)
    features: Tensor  # (M, d) float32
    labels: Tensor  # (M,)
    pixels: Tensor | None  # (M, C, side, side) uint8

    def nearest(self, images: Tensor) -> Nearest:
        """Those of `(N, C, side, side) uint8`."""
        projected = (images.flatten(1).float() - self.mean) @ self.components
        distances = torch.cdist(projected, self.features)
        if self.pixels is None:
            best = distances.min(1)
            return Nearest(best.indices, self.labels[best.indices], best.values, None)
        candidates = distances.topk(min(NUM_CANDIDATES, len(self.features)), largest=False).indices
        found = [self._nearest_in_pixels(image, some) for image, some in zip(images, candidates, strict=True)]
        numbers = torch.tensor([number for number, _ in found])
        return Nearest(
            numbers, self.labels[numbers], torch.tensor([distance for _, distance in found]), self.pixels[numbers]
        )

    def _nearest_in_pixels(self, image: Tensor, candidates: Tensor) -> tuple[int, float]:
        assert self.pixels is not None
        best = (self.pixels[candidates].float() - image.float()).flatten(1).norm(dim=1).min(0)
        return int(candidates[best.indices]), float(best.values)


@cache
def training_images(dataset: str) -> TrainingImages | None:
    """None for a dataset whose training images the package does not know."""
    folder = SHIPPED_IMAGES / dataset
    if dataset not in known_datasets():
        return None
    basis = load_file(folder / BASIS_FILE)
    features = torch.cat([load_file(folder / name)["features"] for name in FEATURE_FILES])
    pixels = training_images_here(dataset)
    fits = pixels is not None and len(pixels) == len(features)
    return TrainingImages(
        mean=basis["mean"],
        components=basis["components"],
        features=features.float() * basis["scale"],
        labels=basis["labels"],
        pixels=pixels if fits else None,
    )


def known_datasets() -> list[str]:
    """The datasets whose training images the package knows."""
    return sorted(path.parent.name for path in Path(SHIPPED_IMAGES).glob(f"*/{BASIS_FILE}"))


@dataclass(frozen=True)
class Copies:
    """How near samples lie to training images, beside images that cannot be copies.

    Those are what the checkpoint's autoencoder makes of test images (docs/measures.md, "copying").
    """

    nearest: Nearest
    ratios: Tensor  # (N,), distances over the median of those of the others
    near: Tensor  # (N,) bool: nearer than all but the nearest 1 % of the others
    num_reference: int
    num_training: int

    @property
    def in_pixels(self) -> bool:
        return self.nearest.images is not None


def find_copies(checkpoint: Checkpoint, samples: Tensor) -> Copies | None:
    """Compare `(N, C, side, side) uint8` with all training images; None where the package does not know these."""
    known = training_images(checkpoint.dataset)
    if known is None:
        return None
    nearest, reference = known.nearest(samples), _reference_distances(checkpoint)
    near = nearest.distances < reference.quantile(NEAR_QUANTILE)
    return Copies(nearest, nearest.distances / reference.median(), near, len(reference), len(known.features))


@cache
def _reference_distances(checkpoint: Checkpoint) -> Tensor:
    """Of reconstructions of the test images that are shipped."""
    known, images = training_images(checkpoint.dataset), example_images(checkpoint).images
    assert known is not None
    return known.nearest(to_uint8(reconstruct(checkpoint.codec, images, checkpoint.spec))).distances


def describe_training(images: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    """What is stored of `(M, C, side, side) uint8`: the basis with the labels, and the features in two parts."""
    flat = images.flatten(1).float()
    mean = flat.mean(0)
    covariance = torch.cov(flat.T, correction=0).double()
    components = torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, :NUM_COMPONENTS].float().contiguous()
    projected = (flat - mean) @ components
    scale = projected.abs().max() / 127
    parts = (projected / scale).round().to(torch.int8).chunk(len(FEATURE_FILES))
    basis = {"mean": mean, "components": components, "scale": scale[None], "labels": labels.to(torch.uint8)}
    return basis, [{"features": part.contiguous()} for part in parts]
