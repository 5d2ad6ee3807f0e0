"""Whether samples look like real images, and whether all real images are among them: four shares in feature space."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ldm_explorer.evaluation.checks import check_values
from ldm_explorer.latents import BatchMap, in_batches

NUM_NEIGHBOURS = 5


@dataclass(frozen=True)
class Variety:
    """A ball around every image reaches to its k-th nearest neighbour of the same set."""

    precision: float  # share of samples inside the ball of some real image (Kynkaanniemi et al. 2019, eq. 1-3)
    recall: float  # share of real images inside the ball of some sample
    density: (
        float  # real balls that a sample lies in, over k, mean over samples; can exceed 1 (Naeem et al. 2020, eq. 4)
    )
    coverage: float  # share of real images with a sample in their ball (Naeem et al. 2020, eq. 5)


def measure_variety(
    features: Tensor, reference: Tensor, num_neighbours: int = NUM_NEIGHBOURS, batched: BatchMap = in_batches
) -> Variety:
    """Compare the features of samples `(N, d)` with those of real images `(M, d)`.

    Raises `ValueError` for others, and when one of the sets has no k-th neighbour.
    """
    check_values("features", 2, features, reference)
    if min(len(features), len(reference)) <= num_neighbours:
        raise ValueError(
            f"{len(features)} samples and {len(reference)} real images: give more than {num_neighbours} of each"
        )
    real_radii = _radii(reference, num_neighbours, batched)
    sample_radii = _radii(features, num_neighbours, batched)

    def of_samples(part: Tensor) -> Tensor:
        inside = _distances(part, reference) < real_radii
        return torch.stack([inside.any(1).double(), inside.sum(1).double() / num_neighbours], 1)

    def of_real_images(indices: Tensor) -> Tensor:
        distances = _distances(reference[indices], features)
        recalled, covered = (distances < sample_radii).any(1), distances.amin(1) < real_radii[indices]
        return torch.stack([recalled, covered], 1).double()

    precision, density = batched(of_samples, features, "precision").mean(0).tolist()
    recall, coverage = batched(of_real_images, torch.arange(len(reference)), "recall").mean(0).tolist()
    return Variety(precision, recall, density, coverage)


def _radii(features: Tensor, num_neighbours: int, batched: BatchMap) -> Tensor:
    """`(N,)`: distance of every point to its k-th nearest other one."""

    def radius(part: Tensor) -> Tensor:  # the nearest of all is the point itself
        return _distances(part, features).topk(num_neighbours + 1, largest=False).values[:, -1]

    return batched(radius, features, "neighbours")


def _distances(a: Tensor, b: Tensor) -> Tensor:
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
