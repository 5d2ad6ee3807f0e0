"""The ruler of a dataset: everything that autoencoders and samples are measured against, and their figures with it.

Figures are dicts of plain numbers, as metrics.json keeps them; what a name means stands where it is measured.
"""

import math
from dataclasses import asdict
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ldm_explorer.data import DatasetSpec, ImageSet, crop, to_model, to_uint8
from ldm_explorer.evaluation.continuity import (
    halfway,
    images_at_side,
    is_informative,
    measure_half_scale,
    measure_spectrum,
    nearest_neighbours,
    random_partners,
    turn_error,
)
from ldm_explorer.evaluation.copying import measure_copying, nearest_distance
from ldm_explorer.evaluation.features import (
    NUM_FEATURES,
    FeatureNet,
    extract_features,
    feature_fd_percent,
    predict_classes,
)
from ldm_explorer.evaluation.latent_space import measure_latent_use, raw_posteriors
from ldm_explorer.evaluation.paths import Paths, measure_paths
from ldm_explorer.evaluation.reconstruction import PCA, psnr_db, reconstruct, ssim
from ldm_explorer.evaluation.variety import Variety, measure_variety
from ldm_explorer.latents import BatchMap, LatentCodec, decode_images, in_batches, latent_shape
from ldm_explorer.lazy import cached_property
from ldm_explorer.run_files import is_figure

IMAGES_PER_PATH = 10
SECTIONS = ("reconstruction", "latent_space", "continuity", "generation", "cost")
"""Where the figures stand in an evaluation, by whose names they can also be put side by side: see `flat_figures`."""


class Ruler:
    """Holds what all models of a dataset are measured against, computed once.

    Autoencoders are measured on the first `num_images` test images; feature distances are to all of them. `known` are
    the images that a sample could be a copy of, `held_out` some that the classifier never saw. Classes are judged only
    by a network that was trained on them and so `knows_the_classes`. Raises `ValueError` for a test split whose
    features have no full covariance.
    """

    def __init__(
        self,
        spec: DatasetSpec,
        network: FeatureNet,
        training: ImageSet,
        held_out: ImageSet,
        test: ImageSet,
        num_images: int,
        batched: BatchMap = in_batches,
        knows_the_classes: bool = True,
    ):
        if len(test) <= NUM_FEATURES:
            raise ValueError(
                f"{len(test)} test images: distances in {NUM_FEATURES} features need more, so give a larger dataset"
            )
        self.spec, self.network, self.batched = spec, network, batched
        self.padded = test.images[:num_images]
        self.images = crop(self.padded, spec)
        self.known = crop(torch.cat([training.images, held_out.images]), spec)
        self.training, self.held_out = training, held_out
        self.reference = self.features(crop(test.images, spec))
        self.context = cache(self._context)
        self.knows_the_classes = knows_the_classes
        right = predict_classes(network, self.reference) == test.labels
        self.classifier_accuracy = float(right.double().mean()) if self.knows_the_classes else None

    def features(self, images: Tensor) -> Tensor:
        """Of `(N, C, side, side) uint8`."""
        return extract_features(self.network, images, self.batched)

    @cached_property
    def pca(self) -> PCA:
        """Of the training images."""
        return PCA.fit(to_model(crop(self.training.images, self.spec)))

    def fd_percent(self, images: Tensor) -> float:
        """Feature FD of `(N, C, side, side) uint8` to the test images."""
        return feature_fd_percent(self.features(images), self.reference)

    def _variety(self, features: Tensor) -> Variety:
        return measure_variety(features, self.reference, batched=self.batched)

    def reconstruction(self, codec: LatentCodec) -> dict[str, Any]:
        """PSNR, SSIM and rFD of test images, beside PCA of as many dimensions."""
        reference = to_model(self.images)
        images = reconstruct(codec, self.padded, self.spec, self.batched)
        values, pixels = math.prod(latent_shape(codec.vae)), reference[0].numel()
        pca = self.pca.reconstruct(reference, values) if values < pixels else None
        return {
            "num_images": len(images),
            "values": values,
            "pixels": pixels,
            "psnr_db": float(psnr_db(images, reference).mean()),
            "ssim": float(ssim(images, reference).mean()),
            "pca_psnr_db": None if pca is None else float(psnr_db(pca, reference).mean()),
            "rfd_percent": self.fd_percent(to_uint8(images)),
            "fd_floor_percent": self.context(len(images))["fd_floor_percent"],
        }

    def latent_space(self, codec: LatentCodec) -> dict[str, Any]:
        """KL per value and active units."""
        use = measure_latent_use(raw_posteriors(codec, self.padded, self.batched))
        return {"num_images": len(self.padded)} | asdict(use)

    def continuity(self, codec: LatentCodec) -> dict[str, Any]:
        """The four kinds of continuity, beside what makes each readable; None where it would measure rounding."""
        latents = self.batched(lambda part: codec.encode(to_model(part)).cpu(), self.padded, "encoding")
        partners, num_paths = random_partners(len(latents)), max(1, len(latents) // IMAGES_PER_PATH)
        neighbours = nearest_neighbours(latents, self.batched)
        says_something = is_informative(latents)
        of_latents = measure_spectrum(latents) if says_something else None
        of_images = measure_spectrum(images_at_side(self.padded, latents.shape[-1]))
        half = measure_half_scale(codec, self.padded, latents, self.spec, self.batched)
        ends = latents[:num_paths], latents[partners[:num_paths]]
        paths = measure_paths(codec, *ends, self.spec, self.batched) if says_something else None
        return {
            "num_images": len(latents),
            "num_paths": num_paths,
            "ifd_percent": self.fd_percent(self._decoded(codec, halfway(latents, neighbours))),
            "ifd_random_percent": self.fd_percent(self._decoded(codec, halfway(latents, partners))),
            "high_share": of_latents and of_latents.high_share,
            "high_share_of_images": of_images and of_images.high_share,
            "flatness": of_latents and of_latents.flatness,
            "flatness_of_images": of_images and of_images.flatness,
            "turn_error": turn_error(codec, self.padded, latents, self.batched),
            "half_scale_mse": half and half.mse,
            "half_scale_floor_mse": half and half.floor_mse,
            **(asdict(paths) if paths else dict.fromkeys(Paths.__dataclass_fields__)),
        }

    def _decoded(self, codec: LatentCodec, latents: Tensor) -> Tensor:
        return decode_images(codec, latents, self.spec, self.batched)

    def samples(self, images: Tensor, labels: Tensor | None, distances_if_not_copied: Tensor) -> dict[str, Any]:
        """Feature FD, the four shares of variety, class consistency and copying of `(N, C, side, side) uint8`.

        `labels (N,)` are those that the samples were made for; `distances_if_not_copied` as `distances_to_known` gives
        them for images that cannot be copies.
        """
        features = self.features(images)
        variety = self._variety(features)
        copying = measure_copying(self.distances_to_known(images), distances_if_not_copied)
        consistency = None
        if labels is not None and self.knows_the_classes:
            consistency = float((predict_classes(self.network, features) == labels).double().mean())
        return {
            "fd_percent": feature_fd_percent(features, self.reference),
            **asdict(variety),
            "class_consistency": consistency,
            "copying_ratio": copying.ratio_of_medians,
            "copying_near_share": copying.near_share,
        }

    def distances_to_known(self, images: Tensor) -> Tensor:
        """Pixel L2 distance `(N,)` of `(N, C, side, side) uint8` to the nearest training image."""
        return nearest_distance(images, self.known, self.batched)

    def _context(self, num_images: int) -> dict[str, Any]:
        """What makes the figures of so many samples readable: those of as many held-out real images, if there are."""
        real = self.features(crop(self.held_out.images[:num_images], self.spec))
        return {
            "num_real_images": len(real),
            "fd_floor_percent": feature_fd_percent(real, self.reference),
            **{f"{name}_of_real": value for name, value in asdict(self._variety(real)).items()},
            "classifier_accuracy": self.classifier_accuracy,
        }


def flat_figures(evaluation: dict[str, Any]) -> dict[str, float]:
    """The finite numbers of an evaluation's sections by their own names; whatever else is in it is left out."""
    found: dict[str, float] = {}
    for section in SECTIONS:
        stored = evaluation.get(section)
        for name, value in stored.items() if isinstance(stored, dict) else ():
            if is_figure(value):
                found.setdefault(name, value)
    return found


def mean_and_spread(figures: list[dict[str, float | None]]) -> dict[str, float | None]:
    """Figures of several seeds as their mean and, as NAME_spread, the largest minus the smallest."""
    summary: dict[str, float | None] = {}
    for name in figures[0]:
        values = [figure[name] for figure in figures]
        known = None not in values
        summary[name] = sum(values) / len(values) if known else None
        summary[f"{name}_spread"] = max(values) - min(values) if known and len(values) > 1 else None
    return summary
