"""Whether samples are copies of training images: their pixel distance to the nearest one."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ldm_explorer.data import check_uint8
from ldm_explorer.evaluation.checks import check_values
from ldm_explorer.latents import BatchMap, in_batches
from ldm_explorer.memory_map import is_large

NEAR_QUANTILE = 0.01
TRAINING_SLICE = 20_000
"""Training images that are in memory as floats at a time."""


@dataclass(frozen=True)
class Copying:
    """Samples beside images that cannot be copies, such as reconstructions of test images."""

    ratio_of_medians: float  # median distance of samples over that of the others; 1 if nothing is copied
    near_share: float  # share of samples nearer than the 1st percentile of the others; .01 if nothing is copied


def nearest_distance(images: Tensor, training: Tensor, batched: BatchMap = in_batches) -> Tensor:
    """`(N, C, H, W) uint8` to the pixel L2 distance `(N,)` to the nearest of `training (M, C, H, W) uint8`.

    Raises `ValueError` for others.
    """
    check_uint8(training, *training.shape[1:3])
    check_uint8(images, *training.shape[1:3])
    known = training.flatten(1)
    if not is_large(4 * known.numel()):
        known = known.float()
    parts = known.split(TRAINING_SLICE)
    squares = [part.float().square().sum(1) for part in parts]

    def nearest(some: Tensor) -> Tensor:
        flat = some.flatten(1).float()
        lowest, index = torch.full((len(flat),), torch.inf), torch.zeros(len(flat), dtype=torch.long)
        for number, (part, square) in enumerate(zip(parts, squares, strict=True)):
            here = (square - 2 * flat @ part.float().T).min(1)
            index = torch.where(here.values < lowest, here.indices + number * TRAINING_SLICE, index)
            lowest = torch.minimum(lowest, here.values)
        return (flat - known[index].float()).norm(dim=1)  # anew: differences of large squares lose the small distances

    return batched(nearest, images, "nearest training images")


def measure_copying(distances: Tensor, reference: Tensor) -> Copying:
    """Compare `nearest_distance` of samples with that of images that cannot be copies.

    Raises `ValueError` for others.
    """
    check_values("distances", 1, distances, reference)
    near = torch.quantile(reference, NEAR_QUANTILE)
    return Copying(float(distances.median() / reference.median()), float((distances < near).double().mean()))
