"""Measure images of any model against a dataset, from Python."""

import os
from pathlib import Path
from typing import Any

from torch import Tensor

from ldm_explorer.data import DatasetSpec, check_uint8, find_dataset
from ldm_explorer.evaluation.config import EvaluationConfig
from ldm_explorer.evaluation.evaluator import Evaluation
from ldm_explorer.evaluation.subjects import SampleFolder
from ldm_explorer.files import shown


def evaluate_images(
    images: Tensor | Path | str,
    dataset: str = "fashion_mnist",
    labels: Tensor | None = None,
    *,
    image_side: int | None = None,
    data_dir: Path | str | None = None,
    features: Path | str | None = None,
    quick: bool = False,
) -> dict[str, Any]:
    """The measures of images beside those of as many held-out real ones, by the names that docs/measures.md has.

    `images` are `(N, C, side, side) uint8` at the dataset's own side, with `labels (N,)` 0..K-1 where they were made
    for some; or a folder of pictures of that size, whose subfolders may be class names. Hundreds say little, 10,000
    are what shipped measures are of. `dataset` is a registered name or `folder:PATH` with pictures of `image_side`;
    its files are in `data_dir`, on the system or downloaded. `features` is the folder of the classifier in whose
    features distances are measured, by default the dataset's shipped one. `quick` asks of 2,000 test images in place
    of all how near they lie to training images, which is what copying is judged by. Nothing is written.

    Raises `ValueError` for images or labels that do not fit the dataset, or are too few, and where there is no
    classifier; `DataError` for files that cannot be read or had.
    """
    options: dict[str, Any] = {
        "dataset": dataset,
        "image_side": image_side,
        "data_dir": data_dir,
        "features": features,
        "quick": quick,
    }
    config = EvaluationConfig(**options)
    if isinstance(images, str | os.PathLike):
        if labels is not None:
            raise ValueError(
                "labels go with a tensor of images: give the pictures of a folder subfolders named as classes"
            )
        samples = SampleFolder.read(Path(images), config.dataset, config.image_side)
    else:
        spec = find_dataset(config.dataset, config.image_side).spec
        samples = SampleFolder(Path("images"), config.dataset, spec, images, _checked_labels(images, labels, spec))
    return Evaluation(config).measure_samples(samples)["generation"]


def _checked_labels(images: Tensor, labels: Tensor | None, spec: DatasetSpec) -> Tensor | None:
    """The labels of images that both can be measured. Raises `ValueError` where one cannot."""
    check_uint8(images, spec.channels, spec.side)
    if labels is None:
        return None
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.shape != images.shape[:1]:
        raise ValueError(
            f"labels {shown(labels)} for {len(images)} images: give a tensor of whole numbers, one for each"
        )
    if unknown := sorted(set(labels.tolist()) - set(range(spec.num_classes))):
        raise ValueError(f"labels {unknown}: the dataset has {spec.num_classes} classes, from 0 on")
    return labels
