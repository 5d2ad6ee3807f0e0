"""The small classifier whose features measure distances, and what is measured in them.

It is trained by train/features.py with a fixed seed, is in no training loss and picks no model. Another one, of other
widths and seed, may be in an autoencoder's loss.
"""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional as F

from ldm_explorer.data import check_uint8, to_model
from ldm_explorer.evaluation.checks import check_values
from ldm_explorer.latents import BatchMap, in_batches

NUM_FEATURES = 64


class _Block(nn.Module):
    def __init__(self, width_in: int, width: int, stride: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(8, width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.norm2 = nn.GroupNorm(8, width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.skip = nn.Conv2d(width_in, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.relu(self.norm1(x))
        return self.skip(hidden) + self.conv2(F.relu(self.norm2(self.conv1(hidden))))


class ImageClassifier(ModelMixin, ConfigMixin):
    """`(B, C, H, W) float32 in [-1, 1]` at the original side to K logits, by way of 64 features."""

    classify: nn.Linear

    def features(self, pixels: Tensor) -> Tensor:
        """`(B, 64)`: the linear layer before the last ReLU."""
        raise NotImplementedError

    def forward(self, pixels: Tensor) -> Tensor:
        return self.classify(F.relu(self.features(pixels)))


class FeatureNet(ImageClassifier):
    """A pre-activation ResNet (He et al. 2016): `(B, C, H, W) float32 in [-1, 1]` at the original side to K logits."""

    @register_to_config
    def __init__(self, channels: int, num_classes: int, widths: tuple[int, ...] = (48, 96, 192)):
        super().__init__()
        self.stem = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False)
        pairs = zip((widths[0], *widths), widths, strict=False)
        self.blocks = nn.Sequential(
            *[_Block(width_in, width, 1 if i == 0 else 2) for i, (width_in, width) in enumerate(pairs)]
        )
        self.norm = nn.GroupNorm(8, widths[-1])
        self.to_features = nn.Linear(widths[-1], NUM_FEATURES)
        self.classify = nn.Linear(NUM_FEATURES, num_classes)

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """What the stem and every block give, `(B, width, side, side)` each, from fine to coarse."""
        maps = [self.stem(pixels)]
        for block in self.blocks:
            maps.append(block(maps[-1]))
        return maps

    def features(self, pixels: Tensor) -> Tensor:
        return self.to_features(F.relu(self.norm(self.maps(pixels)[-1])).mean(dim=(2, 3)))


def perceptual_distance(network: FeatureNet, images: Tensor, reference: Tensor) -> Tensor:
    """Mean squared difference of feature maps over the reference's mean square, summed over maps: a scalar.

    Johnson et al. 2016 (arXiv 1603.08155), eq. 2, made free of the maps' scales. Images as the network takes them.
    """
    pairs = zip(network.maps(images), network.maps(reference), strict=True)
    first, *others = ((ours - theirs).square().mean() / theirs.square().mean() for ours, theirs in pairs)
    return sum(others, first)


@torch.no_grad()
def extract_features(network: ImageClassifier, images: Tensor, batched: BatchMap = in_batches) -> Tensor:
    """`(N, C, H, W) uint8` at the original side to `(N, 64) float32` on the CPU. Raises `ValueError` for others."""
    check_uint8(images, network.config.channels, images.shape[-1] if isinstance(images, Tensor) and images.ndim else 0)
    return batched(lambda part: network.features(to_model(part).to(network.device)).cpu(), images, "features")


def predict_classes(network: ImageClassifier, features: Tensor) -> Tensor:
    """`(N, 64)` features to `(N,)` classes. Raises `ValueError` for others."""
    check_values("features", 2, features)
    return network.classify(F.relu(features.to(network.device))).argmax(1).cpu()


class _Precomputed(nn.Module):
    """Lets torchmetrics take features that were extracted already."""

    num_features = NUM_FEATURES

    def forward(self, features: Tensor) -> Tensor:
        return features


def feature_fd_percent(features: Tensor, reference: Tensor) -> float:
    """Frechet distance between Gaussian fits of two `(N, 64)` feature sets, in percent of the reference's variance.

    Dividing by the trace of the reference's covariance gives features, which have no scale of their own, one. Raises
    `ValueError` for others.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance  # not at the app's start: it takes a while

    check_values("features", 2, features, reference)
    if min(len(features), len(reference)) < 2:
        raise ValueError("the features are of one image: give those of two or more")
    metric = FrechetInceptionDistance(feature=_Precomputed(), sync_on_compute=False)  # every process has all of them
    metric.update(reference, real=True)
    metric.update(features, real=False)
    total_variance = reference.double().var(dim=0).sum()
    return float(100 * metric.compute() / total_variance)
