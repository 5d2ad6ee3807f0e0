"""What the network predicts, as one table, and every conversion that follows from it.

A schedule mixes z_t = a z0 + b eps, and a network predicts y = p z0 + q eps. Both are linear in z0 and eps, so with
det = a q - b p they turn around: z0 = (q z_t - b y) / det and eps = (a y - p z_t) / det. Throughout, `z0`, `eps`, `z_t`
and predictions are `(B, C, H, W)`, and `mixed` says how much of either they hold: the amplitudes (a, b), or the
alpha_bar of a schedule that preserves variance; scalars, or `(B,)` for one timestep per image.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ldm_explorer.amplitudes import Amplitudes, amplitudes_of

PREDICTIONS: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "epsilon": lambda a, b: (torch.zeros_like(a), torch.ones_like(a)),
    "v_prediction": lambda a, b: (-b, a),
    "sample": lambda a, b: (torch.ones_like(a), torch.zeros_like(a)),
    "flow": lambda a, b: (-torch.ones_like(a), torch.ones_like(b)),
}
"""Name to (p, q), as functions of the schedule's (a, b): the noise (Ho et al. 2020), the velocity v of a schedule that
preserves variance, a^2 + b^2 = 1 (Salimans & Ho 2022, section 4 and app. D), the clean latent, and the velocity u of a
flow, dz/ds = eps - z0 (Lipman et al. 2023; Liu et al. 2023). Two things are called velocity, v and u."""

PREDICTION_TYPES = tuple(PREDICTIONS)
if TYPE_CHECKING:  # a type checker takes no Literal that is computed
    PredictionType = str
else:
    PredictionType = Literal[PREDICTION_TYPES]


@dataclass(frozen=True)
class Coefficients:
    """z_t = a z0 + b eps, and the target is p z0 + q eps; all of one shape."""

    a: Tensor
    b: Tensor
    p: Tensor
    q: Tensor

    @property
    def det(self) -> Tensor:
        return self.a * self.q - self.b * self.p

    @property
    def over_z0(self) -> Tensor:
        """The error of a prediction over that of the z0 it implies; p where it holds no noise, also at b = 0."""
        return torch.where(self.q == 0, self.p.abs(), self.det.abs() / self.b)

    @property
    def over_eps(self) -> Tensor:
        """The error of a prediction over that of the eps it implies; q where it holds no image, also at a = 0."""
        return torch.where(self.p == 0, self.q.abs(), self.det.abs() / self.a)


def coefficients(prediction_type: PredictionType, mixed: Tensor | Amplitudes) -> Coefficients:
    """Those of a prediction type, of the shape of `mixed`. Raises `ValueError` for an unknown one."""
    if prediction_type not in PREDICTIONS:
        raise ValueError(f"unknown prediction type {prediction_type!r}: choose one of {', '.join(PREDICTIONS)}")
    pair = amplitudes_of(mixed)
    return Coefficients(pair.a, pair.b, *PREDICTIONS[prediction_type](pair.a, pair.b))


def _broadcast(mixed: Tensor | float | Amplitudes, like: Tensor) -> Amplitudes:
    if not isinstance(mixed, Amplitudes):
        mixed = amplitudes_of(torch.as_tensor(mixed, dtype=like.dtype, device=like.device))

    def shaped(values: Tensor) -> Tensor:
        values = values.to(like)
        return values.view(-1, *[1] * (like.ndim - 1)) if values.ndim else values

    return mixed.map(shaped)


def add_noise(z0: Tensor, eps: Tensor, mixed: Tensor | float | Amplitudes) -> Tensor:
    """z_t = a z0 + b eps (Ho et al. 2020, eq. 4)."""
    pair = _broadcast(mixed, z0)
    return pair.a * z0 + pair.b * eps


def target(prediction_type: PredictionType, z0: Tensor, eps: Tensor, mixed: Tensor | float | Amplitudes) -> Tensor:
    """What a perfect network would output. Raises `ValueError` for an unknown prediction type."""
    c = coefficients(prediction_type, _broadcast(mixed, z0))
    return c.p * z0 + c.q * eps


def to_z0(
    prediction_type: PredictionType, prediction: Tensor, z_t: Tensor, mixed: Tensor | float | Amplitudes
) -> Tensor:
    """The clean latent that a prediction implies; undefined (infinite) for epsilon where a = 0."""
    c = coefficients(prediction_type, _broadcast(mixed, z_t))
    return torch.where(c.q == 0, prediction / c.p, (c.q * z_t - c.b * prediction) / c.det)


def to_eps(
    prediction_type: PredictionType, prediction: Tensor, z_t: Tensor, mixed: Tensor | float | Amplitudes
) -> Tensor:
    """The noise that a prediction implies; undefined (infinite) for sample where b = 0."""
    c = coefficients(prediction_type, _broadcast(mixed, z_t))
    return torch.where(c.p == 0, prediction / c.q, (c.a * prediction - c.p * z_t) / c.det)


def error_over_z0_error(prediction_type: PredictionType, mixed: Tensor | Amplitudes) -> Tensor:
    """The squared error of a prediction over that of the z0 it implies: the SNR for epsilon, SNR + 1 for v."""
    return coefficients(prediction_type, mixed).over_z0.square()


def min_snr_weight(prediction_type: PredictionType, mixed: Tensor | Amplitudes, gamma: float) -> Tensor:
    """Loss weights that count every timestep as min(SNR, gamma) times its z0 error (Hang et al. 2023, section 3.4).

    Below gamma that is the error of eps, as SNR times the error of z0 is. Finite also where a = 0.
    """
    c = coefficients(prediction_type, mixed)
    below = c.a.square() < gamma * c.b.square()
    return torch.where(below, c.over_eps.square().reciprocal(), gamma / c.over_z0.square())
