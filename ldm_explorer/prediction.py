"""What the network predicts, and every conversion between the three targets (Salimans & Ho 2022, section 4, app. D).

With a = sqrt(abar) and b = sqrt(1 - abar): z_t = a z0 + b eps and v = a eps - b z0, a rotation of (z0, eps),
hence z0 = a z_t - b v and eps = b z_t + a v. Throughout, `z0`, `eps`, `z_t` and predictions are `(B, C, H, W)`
and `alpha_bar` broadcasts against them: a scalar, or `(B,)` for one timestep per image.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

PredictionType = Literal["epsilon", "v_prediction", "sample"]
PREDICTION_TYPES: tuple[PredictionType, ...] = get_args(PredictionType)


def _coefficients(alpha_bar: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    alpha_bar = torch.as_tensor(alpha_bar, dtype=like.dtype, device=like.device)
    if alpha_bar.ndim:
        alpha_bar = alpha_bar.view(-1, *[1] * (like.ndim - 1))
    return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()


def add_noise(z0: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    """z_t = a z0 + b eps (Ho et al. 2020, eq. 4)."""
    a, b = _coefficients(alpha_bar, z0)
    return a * z0 + b * eps


def target(prediction_type: PredictionType, z0: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    """What a perfect network would output. Raises `ValueError` for an unknown prediction type."""
    if prediction_type == "epsilon":
        return eps
    if prediction_type == "sample":
        return z0
    if prediction_type == "v_prediction":
        a, b = _coefficients(alpha_bar, z0)
        return a * eps - b * z0
    raise _unknown(prediction_type)


def to_z0(prediction_type: PredictionType, prediction: Tensor, z_t: Tensor, alpha_bar: Tensor) -> Tensor:
    """The clean latent that a prediction implies; undefined (infinite) for epsilon where abar = 0."""
    a, b = _coefficients(alpha_bar, z_t)
    if prediction_type == "epsilon":
        return (z_t - b * prediction) / a
    if prediction_type == "sample":
        return prediction
    if prediction_type == "v_prediction":
        return a * z_t - b * prediction
    raise _unknown(prediction_type)


def to_eps(prediction_type: PredictionType, prediction: Tensor, z_t: Tensor, alpha_bar: Tensor) -> Tensor:
    """The noise that a prediction implies; undefined (infinite) for sample where abar = 1."""
    a, b = _coefficients(alpha_bar, z_t)
    if prediction_type == "epsilon":
        return prediction
    if prediction_type == "sample":
        return (z_t - a * prediction) / b
    if prediction_type == "v_prediction":
        return b * z_t + a * prediction
    raise _unknown(prediction_type)


def error_over_z0_error(prediction_type: PredictionType, alpha_bar: Tensor) -> Tensor:
    """The squared error of a prediction over that of the z0 it implies: the SNR for epsilon, SNR + 1 for v."""
    if prediction_type == "epsilon":
        return alpha_bar / (1 - alpha_bar)
    if prediction_type == "sample":
        return torch.ones_like(alpha_bar)
    if prediction_type == "v_prediction":
        return 1 / (1 - alpha_bar)
    raise _unknown(prediction_type)


def min_snr_weight(prediction_type: PredictionType, alpha_bar: Tensor, gamma: float) -> Tensor:
    """Loss weights that count every timestep as min(SNR, gamma) times its z0 error (Hang et al. 2023, section 3.4).

    An error of z0 is one of eps over the SNR, and one of v over SNR + 1. Finite also where abar = 0.
    """
    snr = alpha_bar / (1 - alpha_bar)
    if prediction_type == "epsilon":
        return (gamma / snr).clamp_max(1)
    if prediction_type == "sample":
        return snr.clamp_max(gamma)
    if prediction_type == "v_prediction":
        return snr.clamp_max(gamma) / (snr + 1)
    raise _unknown(prediction_type)


def _unknown(prediction_type: str) -> ValueError:
    return ValueError(f"unknown prediction type {prediction_type!r}: choose one of {', '.join(PREDICTION_TYPES)}")
