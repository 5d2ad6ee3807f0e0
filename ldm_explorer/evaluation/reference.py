"""The reference of a dataset: everything that autoencoders and samples are measured against, and the measures of them.

Measures are dicts of plain numbers, as metrics.json keeps them; what a name means stands in the registry of measures.
"""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ldm_explorer.data import DatasetSpec, ImageSet, crop, to_model
from ldm_explorer.evaluation.copying import nearest_distance
from ldm_explorer.evaluation.features import (
    NUM_FEATURES,
    FeatureNet,
    ImageClassifier,
    extract_features,
    predict_classes,
)
from ldm_explorer.evaluation.inputs import AutoencoderInputs, ImageInputs, SampleInputs
from ldm_explorer.evaluation.measures import compute
from ldm_explorer.evaluation.reconstruction import PCA
from ldm_explorer.latents import BatchMap, LatentCodec, in_batches
from ldm_explorer.lazy import cached_property
from ldm_explorer.run_files import is_number

SECTIONS = ("reconstruction", "latent_space", "continuity", "generation", "cost")
"""Where measures stand in an evaluation, by whose names they can also be put side by side: see `flat_measures`."""


class Reference:
    """Holds what all models of a dataset are measured against, computed once.

    Autoencoders are measured on the first `num_images` test images; feature distances are to all of them. `known` are
    the images that a sample could be a copy of, `held_out` some that the classifier never saw. Classes are judged only
    by a network that was trained on them and so `knows_the_classes`. In the features of the `further` networks,
    distances are measured again. Raises `ValueError` for a test split whose features have no full covariance.
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
        further: Mapping[str, ImageClassifier] = MappingProxyType({}),
    ):
        if len(test) <= NUM_FEATURES:
            raise ValueError(
                f"{len(test)} test images: distances in {NUM_FEATURES} features need more, so give a larger dataset"
            )
        self.spec, self.network, self.batched = spec, network, batched
        self.padded = test.images[:num_images]
        self.images = crop(self.padded, spec)
        self.known = crop(training.images, spec), crop(held_out.images, spec)
        self.training, self.held_out = training, held_out
        self.test_features = self.features(crop(test.images, spec))
        self.context = cache(self._context)
        self.further = further
        self.further_test_features = {
            name: extract_features(other, crop(test.images, spec), batched) for name, other in further.items()
        }
        self.knows_the_classes = knows_the_classes
        right = predict_classes(network, self.test_features) == test.labels
        self.classifier_accuracy = float(right.double().mean()) if self.knows_the_classes else None

    def features(self, images: Tensor) -> Tensor:
        """`(N, 64)` of `(N, C, side, side) uint8`."""
        return extract_features(self.network, images, self.batched)

    @cached_property
    def pca(self) -> PCA:
        """The principal components of the training images."""
        return PCA.fit(to_model(crop(self.training.images, self.spec)))

    def fd_percent(self, images: Tensor) -> float:
        """Feature FD of `(N, C, side, side) uint8` to the test images."""
        return ImageInputs(self, images).fd_percent

    def reconstruction(self, codec: LatentCodec) -> dict[str, Any]:
        """How much of the test images is kept, beside what makes it readable."""
        inputs = AutoencoderInputs(self, codec)
        return {
            "num_images": len(self.images),
            "pixels": inputs.pixels,
            **compute("reconstruction", inputs),
            "fd_floor_percent": self.context(len(self.images))["fd_floor_percent"],
        }

    def latent_space(self, codec: LatentCodec) -> dict[str, Any]:
        """How the latent is used."""
        return {"num_images": len(self.padded)} | compute("latent_space", AutoencoderInputs(self, codec))

    def continuity(self, codec: LatentCodec) -> dict[str, Any]:
        """Whether the latent space is continuous, in several ways; None where that would measure rounding."""
        inputs = AutoencoderInputs(self, codec)
        return {
            "num_images": len(inputs.latents),
            "num_paths": inputs.num_paths,
            **compute("continuity", inputs),
        }

    def samples(self, images: Tensor, labels: Tensor | None, distances_if_not_copied: Tensor) -> dict[str, Any]:
        """The measures of generated images `(N, C, side, side) uint8`.

        `labels (N,)` are those that the samples were made for; `distances_if_not_copied` as `distances_to_known` gives
        them for images that cannot be copies.
        """
        return compute("generation", SampleInputs(self, images, labels, distances_if_not_copied))

    def distances_to_known(self, images: Tensor) -> Tensor:
        """Pixel L2 distance `(N,)` of `(N, C, side, side) uint8` to the nearest training image."""
        return torch.stack([nearest_distance(images, known, self.batched) for known in self.known]).amin(0)

    def _context(self, num_images: int) -> dict[str, Any]:
        """What makes the measures of so many samples readable: those of as many held-out real images, if there are."""
        real = crop(self.held_out.images[:num_images], self.spec)
        return {"num_real_images": len(real)} | compute("real", ImageInputs(self, real))


def flat_measures(evaluation: dict[str, Any]) -> dict[str, float]:
    """The finite numbers of an evaluation's sections by their own names; whatever else is in it is left out."""
    found: dict[str, float] = {}
    for section in SECTIONS:
        stored = evaluation.get(section)
        for name, value in stored.items() if isinstance(stored, dict) else ():
            if is_number(value):
                found.setdefault(name, value)
    return found


def mean_and_spread(seeds: list[dict[str, float | None]]) -> dict[str, float | None]:
    """Summarise measures of several seeds as their mean and, as NAME_spread, the largest minus the smallest."""
    summary: dict[str, float | None] = {}
    for name in seeds[0]:
        values = [value for measures in seeds if (value := measures[name]) is not None]
        all_known = len(values) == len(seeds)
        summary[name] = sum(values) / len(values) if all_known else None
        summary[f"{name}_spread"] = max(values) - min(values) if all_known and len(values) > 1 else None
    return summary
