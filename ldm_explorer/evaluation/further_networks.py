"""Two more classifiers, of other architecture than `FeatureNet`, in whose features each headline FD is measured again.

One feature space flatters: a model may be near to the test images in it and far in another. They are used for nothing
else: they are in no loss and pick no model.
"""

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional as F

from ldm_explorer.evaluation.features import NUM_FEATURES, ImageClassifier


class PlainNet(ImageClassifier):
    """A plain stack: 3x3 convolutions, one normalisation for all channels, pooling by the maximum, a dense layer."""

    @register_to_config
    def __init__(self, channels: int, num_classes: int, widths: tuple[int, ...] = (32, 64, 96), side: int = 28):
        super().__init__()
        layers: list[nn.Module] = []
        for level, width in enumerate(widths):
            width_in = widths[level - 1] if level else channels
            layers += [nn.MaxPool2d(2)] if level else []
            layers += [*_convolution(width_in, width), *(_convolution(width, width) if level < len(widths) - 1 else [])]
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.to_features = nn.Linear(widths[-1] * (side >> (len(widths) - 1)) ** 2, NUM_FEATURES)
        self.classify = nn.Linear(NUM_FEATURES, num_classes)

    def features(self, pixels: Tensor) -> Tensor:
        return self.to_features(self.body(pixels))


def _convolution(width_in: int, width: int) -> list[nn.Module]:
    return [nn.Conv2d(width_in, width, 3, 1, 1), nn.GroupNorm(1, width), nn.GELU()]


class TokenNet(ImageClassifier):
    """A small vision transformer (Dosovitskiy et al. 2021): patches, learned positions, the mean over tokens."""

    @register_to_config
    def __init__(
        self,
        channels: int,
        num_classes: int,
        widths: tuple[int, ...] = (128, 128, 128, 128),
        side: int = 28,
        patch: int = 4,
        num_heads: int = 4,
    ):
        super().__init__()
        width = widths[0]
        self.embed = nn.Conv2d(channels, width, patch, patch)
        self.positions = nn.Parameter(torch.randn(1, (side // patch) ** 2, width) * 0.02)
        self.blocks = nn.Sequential(
            *[
                nn.TransformerEncoderLayer(
                    width, num_heads, 3 * width, dropout=0.0, activation=F.gelu, batch_first=True, norm_first=True
                )
                for _ in widths
            ]
        )
        self.norm = nn.LayerNorm(width)
        self.to_features = nn.Linear(width, NUM_FEATURES)
        self.classify = nn.Linear(NUM_FEATURES, num_classes)

    def features(self, pixels: Tensor) -> Tensor:
        tokens = self.embed(pixels).flatten(2).transpose(1, 2) + self.positions
        return self.to_features(self.norm(self.blocks(tokens)).mean(1))


FURTHER_NETWORKS: dict[str, type[ImageClassifier]] = {"plain": PlainNet, "tokens": TokenNet}
"""By the name that their measures and their runs have."""
