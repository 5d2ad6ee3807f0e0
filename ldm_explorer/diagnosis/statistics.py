"""What a run keeps of its training latents, so that loss floors and exact denoisers need no dataset afterwards."""

from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ldm_explorer.amplitudes import Amplitudes, amplitudes_of
from ldm_explorer.diagnosis.floors import latent_covariance, latent_mean, memorising_z0_mses
from ldm_explorer.files import CheckpointError, first_line, printable, read_bytes, shown
from ldm_explorer.latents import Posterior
from ldm_explorer.prediction import PredictionType, error_over_z0_error
from ldm_explorer.run_folder import RunFolder
from ldm_explorer.run_layout import STATISTICS_FILE

MAX_FILE_BYTES = 96_000_000
SUBSET = 1000
SUBSET_SEED = 0
MAX_COVARIANCE_VALUES = 1024
"""A larger covariance would make a file of more than 10 MB; its eigenvalues, and so the floors, are kept even then."""

OPTIONAL = ("covariance", "class_eigenvalues", "memorising", "class_memorising")
"""What some runs do not keep."""

MEMORISING_POINTS = 17

NORMALISED_WITHIN = 0.05
NEXT_TO_NOTHING = 1e-3


@dataclass(frozen=True, eq=False)
class LatentStatistics:
    """What is kept of the normalised latents a denoiser was trained on; D is the number of values of one latent."""

    mean: Tensor  # (D,)
    covariance: Tensor | None  # (D, D) of the sampled latents, None where D is large
    eigenvalues: Tensor  # (D,) ascending, of that covariance
    channel_variances: Tensor  # (c,) that the white floor knows: one for all channels where they are normalised
    class_eigenvalues: Tensor | None  # (classes, D), of each class on its own; None without classes
    memorising_timesteps: Tensor  # (P,) int64, indices of the schedule's steps
    memorising: Tensor | None  # (P,) v-MSE of a denoiser that knows the whole training set; None as long as it trains
    class_memorising: Tensor | None  # (P,) the same for one that also knows the label
    subset: Posterior  # of a random part of the training set, at most 1,000: (N, c, h, w)
    subset_labels: Tensor  # (N,) int64

    def mahalanobis(self, z0: Tensor) -> float:
        """Mean squared Mahalanobis distance of latents `(N, c, h, w)` from the mean, over D: 1 for those of training.

        Directions that hold next to nothing count as if they held a thousandth. Raises `ValueError` without a
        covariance.
        """
        if self.covariance is None:
            raise ValueError(f"the covariance of {len(self.mean)} values was not kept")
        eigenvalues, eigenvectors = torch.linalg.eigh(self.covariance.double())
        along = (z0.flatten(1).double() - self.mean) @ eigenvectors
        return float((along.square() / eigenvalues.clamp_min(NEXT_TO_NOTHING * eigenvalues.mean())).mean())

    def memorising_floor(
        self, prediction_type: PredictionType, mixed: Tensor | Amplitudes, of_classes: bool = False
    ) -> Tensor:
        """`(T,)` for a schedule's alpha_bars or amplitudes: the stored points, joined by straight
        lines, as an error of the prediction.

        Raises `ValueError` for the floor of classes where none were told, and for one that is not measured yet.
        """
        values = self.class_memorising if of_classes else self.memorising
        if self.memorising is None:
            raise ValueError("the memorising floor is not there yet: it is measured when the training ends")
        if values is None:
            raise ValueError("there is no class_memorising: the denoiser of these latents is told no class")
        amplitudes = amplitudes_of(mixed)
        num_timesteps, points = len(amplitudes), self.memorising_timesteps.double()
        right = torch.searchsorted(points, torch.arange(num_timesteps).double()).clamp(1, len(points) - 1)
        share = (torch.arange(num_timesteps) - points[right - 1]) / (points[right] - points[right - 1])
        v_mse = torch.lerp(values.double()[right - 1], values.double()[right], share)
        in_double = amplitudes.map(Tensor.double)
        over_v = [error_over_z0_error(kind, in_double) for kind in (prediction_type, "v_prediction")]
        return (v_mse * over_v[0] / over_v[1]).float()


def measure_latents(
    posterior: Posterior,
    labels: Tensor,
    mixed: Tensor | Amplitudes,
    num_classes: int,
    memorising: bool = True,
) -> LatentStatistics:
    """Measure a whole training set's posteriors, with `labels (N,)`, for a schedule's alpha_bars or amplitudes `(T,)`.

    `num_classes` 0 is for a network that is told no label. The memorising floors take the most work, and can be left
    out and measured later, by `measure_memorising`.
    """
    mean, covariance = latent_mean(posterior, torch.arange(len(labels))), latent_covariance(posterior)
    present = labels.unique().tolist() if num_classes else []
    num_timesteps = len(amplitudes_of(mixed))
    timesteps = ((num_timesteps - 1) * torch.linspace(0, 1, MEMORISING_POINTS).square()).round().long().unique()
    subset = torch.randperm(len(labels), generator=torch.Generator().manual_seed(SUBSET_SEED))[:SUBSET]
    statistics = LatentStatistics(
        mean=mean.float(),
        covariance=covariance.float() if len(covariance) <= MAX_COVARIANCE_VALUES else None,
        eigenvalues=torch.linalg.eigvalsh(covariance).float(),
        channel_variances=_channel_variances(posterior.mean.shape[1], mean, covariance),
        class_eigenvalues=torch.stack(
            [torch.linalg.eigvalsh(latent_covariance(posterior, _of(label, labels))).float() for label in present]
        )
        if present
        else None,
        memorising_timesteps=timesteps,
        memorising=None,
        class_memorising=None,
        subset=posterior[subset],
        subset_labels=labels[subset],
    )
    return measure_memorising(statistics, posterior, labels, mixed) if memorising else statistics


def measure_memorising(
    statistics: LatentStatistics, posterior: Posterior, labels: Tensor, mixed: Tensor | Amplitudes
) -> LatentStatistics:
    """The statistics with their memorising floors, measured over the same posteriors."""
    looked_at = amplitudes_of(mixed)[statistics.memorising_timesteps]
    told_classes = statistics.class_eigenvalues is not None
    known = labels if told_classes else torch.zeros_like(labels)
    of_all, of_own = error_over_z0_error("v_prediction", looked_at) * memorising_z0_mses(posterior, looked_at, known)
    return replace(statistics, memorising=of_all, class_memorising=of_own if told_classes else None)


def _of(label: int, labels: Tensor) -> Tensor:
    return (labels == label).nonzero().flatten()


def _channel_variances(channels: int, mean: Tensor, covariance: Tensor) -> Tensor:
    variances = covariance.diag().view(channels, -1).mean(1).float()
    totals = variances + mean.view(channels, -1).var(1, correction=0).float()  # within positions and between them
    normalised = torch.allclose(totals, torch.ones_like(totals), atol=NORMALISED_WITHIN)
    return variances.mean().expand(len(variances)) if normalised else variances


def write_statistics(folder: Path, statistics: LatentStatistics) -> None:
    """Write latents.safetensors, the subset in fp16."""
    tensors = {name: value for name, value in vars(statistics).items() if isinstance(value, Tensor)}
    tensors |= {"subset_mean": statistics.subset.mean.half(), "subset_std": statistics.subset.std.half()}
    content = save({name: value.contiguous() for name, value in tensors.items()})
    RunFolder(folder).write_bytes(STATISTICS_FILE, content)


def read_statistics(folder: Path) -> LatentStatistics | None:
    """What a run kept of its latents, None when it kept nothing. Raises `CheckpointError` for a broken file."""
    try:
        tensors = load(read_bytes(folder / STATISTICS_FILE, MAX_FILE_BYTES))
        _check(tensors)
        subset = Posterior(tensors.pop("subset_mean").float(), tensors.pop("subset_std").float())
        optional: dict[str, Any] = {name: tensors.pop(name, None) for name in OPTIONAL}
        return LatentStatistics(subset=subset, **optional, **tensors)
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{printable(folder / STATISTICS_FILE)} does not hold a run's latent statistics ({first_line(error)}): "
            "write it anew with `python train/latents.py`"
        ) from error


def _check(tensors: dict[str, Tensor]) -> None:
    """Raises `ValueError` for tensors that do not fit one another, or hold what is no number."""
    latents, points = tensors["subset_mean"].shape, tensors["memorising_timesteps"]
    if len(latents) != 4 or not latents[0] or len(points) < 2 or not bool((points.diff() > 0).all()):
        raise ValueError(f"subset_mean is of shape {tuple(latents)}, and memorising_timesteps {shown(points.tolist())}")
    classes_told = "class_eigenvalues" in tensors and "memorising" in tensors
    if classes_told != ("class_memorising" in tensors):
        raise ValueError("class_eigenvalues and class_memorising belong together")
    values, classes = prod(latents[1:]), len(tensors.get("class_eigenvalues", ()))
    if "class_eigenvalues" in tensors and not classes:
        raise ValueError("class_eigenvalues holds no class")
    wanted = {
        "mean": (values,),
        "covariance": (values, values),
        "eigenvalues": (values,),
        "channel_variances": latents[1:2],
        "class_eigenvalues": (classes, values),
        "memorising": points.shape,
        "class_memorising": points.shape,
        "subset_std": latents,
        "subset_labels": latents[:1],
    }
    for name, tensor in tensors.items():
        if name in wanted and tensor.shape != wanted[name]:
            raise ValueError(f"{name} is of shape {tuple(tensor.shape)}, not {tuple(wanted[name])}")
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} holds NaN or infinity")
