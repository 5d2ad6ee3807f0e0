"""Denoisers that need no training: they answer as a trained one does, so any sampler runs on them.

A sampler that fails with them has a fault of its own; what they generate is what perfect knowledge of the covariance,
or of the training set, would.
"""

import torch
from torch import Tensor

from ldm_explorer.amplitudes import Amplitudes
from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.denoiser import Denoiser, StandIn
from ldm_explorer.diagnosis.floors import WienerFilter, memorised_z0
from ldm_explorer.diagnosis.statistics import LatentStatistics, read_statistics
from ldm_explorer.prediction import target, to_eps
from ldm_explorer.run_layout import STATISTICS_FILE


class ExactDenoiser(StandIn):
    """Answers with E[z0 | z_t] in the place of a network."""

    def __init__(self, statistics: LatentStatistics, network: Denoiser):
        super().__init__(network)
        self.statistics = statistics

    def forward(self, z_t: Tensor, timestep: float | Tensor, class_labels: Tensor | None = None) -> Tensor:
        mixed, z0 = self.schedule.at(timestep), self.z0(z_t, timestep, class_labels)
        # At b = 0 no noise is left to tell; at least the root of a float32 step away from it there is.
        some_noise = Amplitudes(mixed.a, mixed.b.clamp_min(torch.finfo(mixed.b.dtype).eps ** 0.5))
        eps = to_eps("sample", z0, z_t, some_noise)
        return target(self.prediction_type, z0, eps, mixed)

    def z0(self, z_t: Tensor, timestep: float | Tensor, class_labels: Tensor | None = None) -> Tensor:
        return self.posterior_mean(z_t.flatten(1), self.schedule.at(timestep), class_labels).view_as(z_t)

    def posterior_mean(self, z_t: Tensor, mixed: Amplitudes, class_labels: Tensor | None) -> Tensor:
        """E[z0 | z_t], `(B, D)` for `(B, D)`, with one timestep for all."""
        raise NotImplementedError


class GaussianDenoiser(ExactDenoiser):
    """Knows the mean and the covariance of all training latents (the Wiener filter), and no labels."""

    def __init__(self, statistics: LatentStatistics, network: Denoiser):
        """Raises `ValueError` for a run that kept no covariance."""
        super().__init__(statistics, network)
        if statistics.covariance is None:
            raise ValueError(
                f"the Gaussian denoiser needs the latents' covariance, which is not kept for {len(statistics.mean):,} "
                "values: choose the memorising one"
            )
        self.filter = WienerFilter(statistics.mean, statistics.covariance)

    def posterior_mean(self, z_t: Tensor, mixed: Amplitudes, class_labels: Tensor | None) -> Tensor:  # noqa: ARG002 (as the others take)
        return self.filter.z0(z_t, mixed)


class MemorisingDenoiser(ExactDenoiser):
    """Knows the stored part of the training set, and of it only the label's images where it is given a label."""

    def posterior_mean(self, z_t: Tensor, mixed: Amplitudes, class_labels: Tensor | None) -> Tensor:
        if class_labels is None:
            return memorised_z0(self.statistics.subset, z_t, mixed)
        z0 = torch.empty_like(z_t)
        for label in class_labels.unique():
            rows, known = class_labels == label, self.statistics.subset
            if label != self.null_class:
                known = known[self.statistics.subset_labels == label]
            if not len(known.mean):
                raise ValueError(
                    f"none of the {len(self.statistics.subset_labels):,} stored training latents is of class {label}: "
                    "choose another class or denoiser"
                )
            z0[rows] = memorised_z0(known, z_t[rows], mixed)
        return z0


EXACT_DENOISERS: dict[str, type[ExactDenoiser]] = {"Gaussian": GaussianDenoiser, "memorising": MemorisingDenoiser}
DEFAULT_DENOISER = "network"
DENOISERS = (DEFAULT_DENOISER, *EXACT_DENOISERS)


def make_denoiser(name: str, statistics: LatentStatistics | None, network: Denoiser) -> Denoiser:
    """What answers in the place of a network, or the network itself.

    Raises `ValueError` for an unknown name, and where statistics are missing or of other latents.
    """
    if name not in DENOISERS:
        raise ValueError(f"unknown denoiser {name!r}: choose one of {', '.join(DENOISERS)}")
    if name == DEFAULT_DENOISER:
        return network
    if statistics is None:
        raise ValueError(
            f"the {name} denoiser needs the statistics of the training latents, which this run did not keep: write "
            "them with `python train/latents.py`"
        )
    if statistics.subset.mean.shape[1:] != network.latent_shape:
        raise ValueError(
            f"the {name} denoiser knows latents {tuple(statistics.subset.mean.shape[1:])}, and the network takes "
            f"{network.latent_shape}: write {STATISTICS_FILE} anew with `python train/latents.py`"
        )
    return EXACT_DENOISERS[name](statistics, network)


def denoiser_of(name: str, checkpoint: Checkpoint) -> Denoiser:
    """A checkpoint's own denoiser ("network"), or one that knows its latents exactly ("Gaussian", "memorising").

    The statistics of the latents are read only where they are needed. Raises `ValueError` as `make_denoiser` does.
    """
    statistics = None if name == DEFAULT_DENOISER else read_statistics(checkpoint.folder)
    return make_denoiser(name, statistics, checkpoint.pipeline.denoiser)
