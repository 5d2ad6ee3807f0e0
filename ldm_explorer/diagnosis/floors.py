"""Floors of the denoising loss: what a denoiser reaches that knows only so much about the latents.

Closed forms for latents of covariance eigenvalues lambda_i (the Wiener filter; optimal loss: arXiv 2506.13763).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ldm_explorer.latents import Posterior
from ldm_explorer.prediction import PredictionType


@dataclass(frozen=True)
class LossFloors:
    """Mean squared error per timestep, each `(T,)`, for one prediction type."""

    zero: Tensor  # predicts nothing: zero noise, zero velocity or the mean latent
    white: Tensor  # knows the mean and the scale
    gaussian: Tensor  # knows the mean and the covariance


def covariance_eigenvalues(posterior: Posterior) -> Tensor:
    """Eigenvalues `(D,)`, ascending, of the covariance of the *sampled* latents: Cov(mu) + diag E[sigma^2]."""
    mu = posterior.mean.flatten(1).double()
    covariance = torch.cov(mu.T, correction=0) + posterior.std.flatten(1).double().square().mean(0).diag()
    return torch.linalg.eigvalsh(covariance).float()


def loss_floors(prediction_type: PredictionType, alpha_bars: Tensor, eigenvalues: Tensor) -> LossFloors:
    """The three floors for every entry of `alpha_bars (T,)`.

    With d = abar lambda + 1 - abar, knowing the covariance leaves (1 - abar) lambda / d of z0, lambda / d of v and
    abar lambda / d of eps, averaged over the eigenvalues.
    """
    abar = alpha_bars.double()[:, None]
    eigenvalues = eigenvalues.double()
    variance = eigenvalues.mean()
    zero = {
        "epsilon": torch.ones_like(abar),
        "v_prediction": abar + (1 - abar) * variance,
        "sample": variance.expand_as(abar),
    }[prediction_type]

    def wiener(spectrum: Tensor) -> Tensor:
        weight = {"epsilon": abar, "v_prediction": torch.ones_like(abar), "sample": 1 - abar}[prediction_type]
        return (weight * spectrum / (abar * spectrum + 1 - abar)).mean(1).float()

    return LossFloors(zero[:, 0].float(), wiener(variance[None]), wiener(eigenvalues))
