"""Whether samples are copies of training images: their pixel distance to the nearest one."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ldm_explorer.latents import BatchMap, in_batches

NEAR_QUANTILE = 0.01


@dataclass(frozen=True)
class Copying:
    """Samples beside images that cannot be copies, such as reconstructions of test images."""

    ratio_of_medians: float  # median distance of samples over that of the others; 1 if nothing is copied
    near_share: float  # share of samples nearer than the 1st percentile of the others; .01 if nothing is copied


def nearest_distance(images: Tensor, training: Tensor, batched: BatchMap = in_batches) -> Tensor:
    """`(N, C, H, W) uint8` to the pixel L2 distance `(N,)` to the nearest of `training (M, C, H, W) uint8`."""
    known = training.flatten(1).float()
    squares = known.square().sum(1)

    def nearest(part: Tensor) -> Tensor:
        flat = part.flatten(1).float()
        index = (squares - 2 * flat @ known.T).argmin(1)
        return (flat - known[index]).norm(dim=1)  # anew: differences of large squares lose the small distances

    return batched(nearest, images, "nearest training images")


def measure_copying(distances: Tensor, reference: Tensor) -> Copying:
    """Compare `nearest_distance` of samples with that of images that cannot be copies."""
    near = torch.quantile(reference, NEAR_QUANTILE)
    return Copying(float(distances.median() / reference.median()), float((distances < near).double().mean()))
