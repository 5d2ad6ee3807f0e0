"""What measures are computed from; whatever several of them need is computed once, when it is first asked for."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from ldm_explorer.data import to_model, to_uint8
from ldm_explorer.evaluation import continuity
from ldm_explorer.evaluation.copying import Copying, measure_copying
from ldm_explorer.evaluation.features import extract_features, feature_fd_percent, predict_classes
from ldm_explorer.evaluation.latent_space import LatentUse, measure_latent_use, raw_posteriors
from ldm_explorer.evaluation.paths import Paths, measure_paths
from ldm_explorer.evaluation.reconstruction import psnr_db, reconstruct, ssim
from ldm_explorer.evaluation.variety import Variety, measure_variety
from ldm_explorer.latents import LatentCodec, decode_images
from ldm_explorer.lazy import cached_property

if TYPE_CHECKING:
    from ldm_explorer.evaluation.reference import Reference

IMAGES_PER_PATH = 10


@dataclass(frozen=True, eq=False)
class AutoencoderInputs:
    """The test images of `reference` through one autoencoder; None is what would measure rounding, or is not there."""

    reference: "Reference"
    codec: LatentCodec

    @cached_property
    def originals(self) -> Tensor:
        """`(N, C, side, side) float32 in [-1, 1]`."""
        return to_model(self.reference.images)

    @cached_property
    def reconstructions(self) -> Tensor:
        """The originals through encoder and decoder, `(N, C, side, side)` in [-1, 1]."""
        return reconstruct(self.codec, self.reference.padded, self.reference.spec, self.reference.batched)

    @property
    def values(self) -> int:
        """Numbers in one latent."""
        return math.prod(self.codec.latent_shape)

    @property
    def pixels(self) -> int:
        """Numbers in one image."""
        return self.originals[0].numel()

    @cached_property
    def by_pca(self) -> Tensor | None:
        """The originals by as many principal components as the latent has values; None where that loses nothing."""
        return self.reference.pca.reconstruct(self.originals, self.values) if self.values < self.pixels else None

    def psnr_db(self, images: Tensor) -> float:
        """Mean over the images."""
        return float(psnr_db(images, self.originals).mean())

    @property
    def ssim(self) -> float:
        return float(ssim(self.reconstructions, self.originals).mean())

    @property
    def rfd_percent(self) -> float:
        return self.reference.fd_percent(to_uint8(self.reconstructions))

    @cached_property
    def latent_use(self) -> LatentUse:
        return measure_latent_use(raw_posteriors(self.codec, self.reference.padded, self.reference.batched))

    @cached_property
    def latents(self) -> Tensor:
        """Normalised posterior means `(N, c, h, w)`."""

        def encoded(part: Tensor) -> Tensor:
            return self.codec.encode(to_model(part)).cpu()

        return self.reference.batched(encoded, self.reference.padded, "encoding")

    @cached_property
    def partners(self) -> Tensor:
        """`(N,)`: for each latent a random other one."""
        return continuity.random_partners(len(self.latents))

    @cached_property
    def neighbours(self) -> Tensor:
        """`(N,)`: for each latent the nearest other one."""
        return continuity.nearest_neighbours(self.latents, self.reference.batched)

    def halfway_fd_percent(self, partners: Tensor) -> float:
        """FD of the points half-way to the partners `(N,)`, decoded."""
        latents = continuity.halfway(self.latents, partners)
        images = decode_images(self.codec, latents, self.reference.spec, self.reference.batched)
        return self.reference.fd_percent(images)

    @cached_property
    def spectrum(self) -> continuity.Spectrum | None:
        return continuity.measure_spectrum(self.latents) if continuity.is_informative(self.latents) else None

    @cached_property
    def image_spectrum(self) -> continuity.Spectrum | None:
        """The spectrum of the images averaged down to the latent's side."""
        images = continuity.images_at_side(self.reference.padded, self.latents.shape[-1])
        return continuity.measure_spectrum(images)

    @property
    def turn_error(self) -> float | None:
        return continuity.turn_error(self.codec, self.reference.padded, self.latents, self.reference.batched)

    @cached_property
    def half_scale(self) -> continuity.HalfScale | None:
        arguments = self.codec, self.reference.padded, self.latents, self.reference.spec, self.reference.batched
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
        return measure_paths(self.codec, *ends, self.reference.spec, self.reference.batched)


@dataclass(frozen=True, eq=False)
class ImageInputs:
    """Real or generated images `(N, C, side, side) uint8` beside the test images of `reference`."""

    reference: "Reference"
    images: Tensor

    @cached_property
    def features(self) -> Tensor:
        """`(N, 64)`."""
        return self.reference.features(self.images)

    @property
    def fd_percent(self) -> float:
        return feature_fd_percent(self.features, self.reference.test_features)

    def further_fd_percent(self, name: str) -> float | None:
        """FD in the features of a further network; None where the dataset has none of that name."""
        network = self.reference.further.get(name)
        if network is None:
            return None
        features = extract_features(network, self.images, self.reference.batched)
        return feature_fd_percent(features, self.reference.further_test_features[name])

    @cached_property
    def variety(self) -> Variety:
        return measure_variety(self.features, self.reference.test_features, batched=self.reference.batched)


@dataclass(frozen=True, eq=False)
class SampleInputs(ImageInputs):
    """Generated images, with what they were made for and what to compare their distances to known images with."""

    labels: Tensor | None  # (N,)
    distances_if_not_copied: Tensor  # as `Reference.distances_to_known` gives them for others

    @property
    def class_consistency(self) -> float | None:
        """None without labels, and for a classifier that does not know the classes."""
        if self.labels is None or not self.reference.knows_the_classes:
            return None
        predicted = predict_classes(self.reference.network, self.features)
        return float((predicted == self.labels).double().mean())

    @cached_property
    def copying(self) -> Copying:
        return measure_copying(self.reference.distances_to_known(self.images), self.distances_if_not_copied)
