"""Measure images of any model against a dataset, from Python."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ldm_explorer.data import DatasetSpec, find_dataset
from ldm_explorer.evaluation.config import EvaluationConfig
from ldm_explorer.evaluation.evaluator import Evaluation
from ldm_explorer.evaluation.subjects import SampleFolder


def evaluate_images(
    images: Tensor | Path | str,
    dataset: str = "fashion_mnist",
    labels: Tensor | None = None,
    *,
    image_side: int | None = None,
    data_dir: Path | None = None,
    features: Path | None = None,
    quick: bool = False,
) -> dict[str, Any]:
    """The measures of images beside those of as many held-out real ones, by the names that docs/measures.md has.

    `images` are `(N, C, side, side) uint8` at the dataset's own side, with `labels (N,)` 0..K-1 where they were made
    for some; or a folder of pictures of that size, whose subfolders may be class names. Hundreds say little, 10,000
    are what shipped measures are of. `dataset` is a registered name or `folder:PATH` with pictures of `image_side`;
    its files are in `data_dir`, on the system or downloaded. `features` is the folder of the classifier in whose
    features distances are measured, by default the dataset's shipped one. `quick` asks of 2,000 test images in place
    of all how near they lie to training images, which is what copying is judged by. Nothing is written.

    Raises `ValueError` for images or labels that do not fit the dataset, and where there is no classifier; `DataError`
    for files that cannot be read or had.
    """
    config = EvaluationConfig(dataset=dataset, image_side=image_side, data_dir=data_dir, features=features, quick=quick)
    if isinstance(images, Tensor):
        spec = find_dataset(dataset, image_side).spec
        _check(images, labels, spec)
        samples = SampleFolder(Path("images"), dataset, spec, images, labels)
    else:
        samples = SampleFolder.read(Path(images), dataset, image_side)
    return Evaluation(config).measure_samples(samples)["generation"]


def _check(images: Tensor, labels: Tensor | None, spec: DatasetSpec) -> None:
    """Raise `ValueError` for what the reference of a dataset cannot measure."""
    wanted = (spec.channels, spec.side, spec.side)
    if images.dtype != torch.uint8 or images.ndim != 4 or tuple(images.shape[1:]) != wanted:
        found = f"{str(images.dtype).removeprefix('torch.')} of shape {tuple(images.shape)}"
        raise ValueError(f"the images are {found}: give (N, {spec.channels}, {spec.side}, {spec.side}) uint8")
    if labels is None:
        return
    if labels.shape != images.shape[:1]:
        raise ValueError(f"labels of shape {tuple(labels.shape)} for {len(images)} images: give one label per image")
    if unknown := sorted(set(labels.tolist()) - set(range(spec.num_classes))):
        raise ValueError(f"labels {unknown}: the dataset has {spec.num_classes} classes, from 0 on")
