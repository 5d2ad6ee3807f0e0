"""How the variance of latents is spread over spatial frequencies, and what a denoiser reaches that knows this alone."""

import math

import torch
from torch import Tensor

from ldm_explorer.amplitudes import Amplitudes
from ldm_explorer.diagnosis.floors import loss_floors
from ldm_explorer.prediction import PredictionType

ENOUGH = 64
"""Latents, from which on the variance of every frequency is known well enough."""


def power_spectrum(z0: Tensor) -> Tensor:
    """The variance about the mean image of every coefficient of the cosine transform of `z0 (N, c, h, w)`, `(c h w,)`.

    A few latents are enough, as it is no covariance; a floor made of it is none below the true Gaussian one.
    """
    down, across = (_cosines(side).to(z0) for side in z0.shape[-2:])
    coefficients = down @ (z0 - z0.mean(0)) @ across.T
    return coefficients.square().mean(0).flatten()


def spectrum_floor(prediction_type: PredictionType, amplitudes: Amplitudes, z0: Tensor) -> Tensor:
    """`(T,)`, the least error at `amplitudes (T,)` of what knows the mean image and the power spectrum."""
    return loss_floors(prediction_type, amplitudes, power_spectrum(z0)).gaussian


def _cosines(side: int) -> Tensor:
    """The orthonormal transform of type II, `(side, side)`."""
    frequencies, places = torch.arange(side)[:, None], torch.arange(side)[None] + 0.5
    rows = torch.cos(math.pi / side * frequencies * places) * math.sqrt(2 / side)
    return torch.cat([rows[:1] / math.sqrt(2), rows[1:]])
