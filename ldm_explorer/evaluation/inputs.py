"""What measures are computed from; whatever several of them need is computed once, when it is first asked for."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from ldm_explorer.data import to_model, to_uint8
from ldm_explorer.evaluation import continuity
from ldm_explorer.evaluation.copying import Copying, measure_copying
from ldm_explorer.evaluation.features import feature_fd_percent, predict_classes
from ldm_explorer.evaluation.latent_space import LatentUse, measure_latent_use, raw_posteriors
from ldm_explorer.evaluation.paths import Paths, measure_paths
from ldm_explorer.evaluation.reconstruction import psnr_db, reconstruct, ssim
from ldm_explorer.evaluation.variety import Variety, measure_variety
from ldm_explorer.latents import LatentCodec, decode_images, latent_shape
from ldm_explorer.lazy import cached_property

if TYPE_CHECKING:
    from ldm_explorer.evaluation.ruler import Ruler

IMAGES_PER_PATH = 10


@dataclass(frozen=True, eq=False)
class AutoencoderInputs:
    """The test images of `ruler` through one autoencoder; None is what would measure rounding, or is not there."""

    ruler: "Ruler"
    codec: LatentCodec

    @cached_property
    def originals(self) -> Tensor:
        """`(N, C, side, side) float32 in [-1, 1]`."""
        return to_model(self.ruler.images)

    @cached_property
    def reconstructions(self) -> Tensor:
        """The originals through encoder and decoder, `(N, C, side, side)` in [-1, 1]."""
        return reconstruct(self.codec, self.ruler.padded, self.ruler.spec, self.ruler.batched)

    @property
    def values(self) -> int:
        """Numbers in one latent."""
        return math.prod(latent_shape(self.codec.vae))

    @property
    def pixels(self) -> int:
        """Numbers in one image."""
        return self.originals[0].numel()

    @cached_property
    def by_pca(self) -> Tensor | None:
        """The originals by as many principal components as the latent has values; None where that loses nothing."""
        return self.ruler.pca.reconstruct(self.originals, self.values) if self.values < self.pixels else None

    def psnr_db(self, images: Tensor) -> float:
        """Mean over the images."""
        return float(psnr_db(images, self.originals).mean())

    @property
    def ssim(self) -> float:
        return float(ssim(self.reconstructions, self.originals).mean())

    @property
    def rfd_percent(self) -> float:
        return self.ruler.fd_percent(to_uint8(self.reconstructions))

    @cached_property
    def latent_use(self) -> LatentUse:
        return measure_latent_use(raw_posteriors(self.codec, self.ruler.padded, self.ruler.batched))

    @cached_property
    def latents(self) -> Tensor:
        """Normalised posterior means `(N, c, h, w)`."""

        def encoded(part: Tensor) -> Tensor:
            return self.codec.encode(to_model(part)).cpu()

        return self.ruler.batched(encoded, self.ruler.padded, "encoding")

    @cached_property
    def partners(self) -> Tensor:
        """`(N,)`: for each latent a random other one."""
        return continuity.random_partners(len(self.latents))

    @cached_property
    def neighbours(self) -> Tensor:
        """`(N,)`: for each latent the nearest other one."""
        return continuity.nearest_neighbours(self.latents, self.ruler.batched)

    def halfway_fd_percent(self, partners: Tensor) -> float:
        """FD of the points half-way to the partners `(N,)`, decoded."""
        latents = continuity.halfway(self.latents, partners)
        images = decode_images(self.codec, latents, self.ruler.spec, self.ruler.batched)
        return self.ruler.fd_percent(images)

    @cached_property
    def spectrum(self) -> continuity.Spectrum | None:
        return continuity.measure_spectrum(self.latents) if continuity.is_informative(self.latents) else None

    @cached_property
    def image_spectrum(self) -> continuity.Spectrum | None:
        """The spectrum of the images averaged down to the latent's side."""
        images = continuity.images_at_side(self.ruler.padded, self.latents.shape[-1])
        return continuity.measure_spectrum(images)

    @property
    def turn_error(self) -> float | None:
        return continuity.turn_error(self.codec, self.ruler.padded, self.latents, self.ruler.batched)

    @cached_property
    def half_scale(self) -> continuity.HalfScale | None:
        arguments = self.codec, self.ruler.padded, self.latents, self.ruler.spec, self.ruler.batched
        return continuity.measure_half_scale(*arguments)

    @property
    def num_paths(self) -> int:
        return max(1, len(self.latents) // IMAGES_PER_PATH)

    @cached_property
    def paths(self) -> Paths | None:
        """Between the first latents and their random partners."""
        if not continuity.is_informative(self.latents):
            return None
        ends = self.latents[: self.num_paths], self.latents[self.partners[: self.num_paths]]
        return measure_paths(self.codec, *ends, self.ruler.spec, self.ruler.batched)


@dataclass(frozen=True, eq=False)
class ImageInputs:
    """Generated or real images `(N, C, side, side) uint8` beside the test images of `ruler`."""

    ruler: "Ruler"
    images: Tensor
    labels: Tensor | None = None  # (N,) that they were made for
    distances_if_not_copied: Tensor | None = None  # as `Ruler.distances_to_known` gives them for others

    @cached_property
    def features(self) -> Tensor:
        """`(N, 64)`."""
        return self.ruler.features(self.images)

    @property
    def fd_percent(self) -> float:
        return feature_fd_percent(self.features, self.ruler.test_features)

    @cached_property
    def variety(self) -> Variety:
        return measure_variety(self.features, self.ruler.test_features, batched=self.ruler.batched)

    @property
    def class_consistency(self) -> float | None:
        """None without labels, and for a classifier that does not know the classes."""
        if self.labels is None or not self.ruler.knows_the_classes:
            return None
        predicted = predict_classes(self.ruler.network, self.features)
        return float((predicted == self.labels).double().mean())

    @cached_property
    def copying(self) -> Copying:
        return measure_copying(self.ruler.distances_to_known(self.images), self.distances_if_not_copied)
