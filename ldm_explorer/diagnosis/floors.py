"""Floors of the denoising loss: what a denoiser reaches that knows only so much about the latents.

Closed forms for latents of covariance eigenvalues lambda_i (the Wiener filter; optimal loss: arXiv 2506.13763).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ldm_explorer.amplitudes import Amplitudes, amplitudes_of
from ldm_explorer.files import shown
from ldm_explorer.latents import Posterior
from ldm_explorer.prediction import PredictionType, add_noise, coefficients

MEMORISING_SAMPLES = 128
MEMORISING_SEED = 0
MEMORISING_SLICE = 8192
"""Latents in memory at a time."""

TIMESTEPS_SLICE = 1000
"""Timesteps in memory at a time."""

ROUNDING = 1e-3
"""Eigenvalues of a covariance in float32 may lie below 0 by less than this share of the largest."""

SMALLEST_EIGENVALUE = 1e-12
"""Of a covariance: a direction without any spread has a mean without noise, too."""

SMALLEST_LOG_WEIGHT = -60.0
"""Smaller weights become denormal numbers, with which a matrix product takes thirty times as long."""


@dataclass(frozen=True)
class LossFloors:
    """Mean squared error per timestep, each `(T,)`, for one prediction type."""

    zero: Tensor  # predicts nothing: zero noise, zero velocity or the mean latent
    white: Tensor  # knows the mean and the scale
    gaussian: Tensor  # knows the mean and the covariance


def latent_covariance(posterior: Posterior, rows: Tensor | None = None) -> Tensor:
    """`(D, D) float64` of the *sampled* latents, all or those of some `rows (M,)`: Cov(mu) + diag E[sigma^2]."""
    rows = torch.arange(len(posterior.mean)) if rows is None else rows
    mean = latent_mean(posterior, rows)
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for part in _slices(posterior, rows):
        centred = part.mean.flatten(1).double() - mean
        covariance += centred.T @ centred
        covariance += part.std.flatten(1).double().square().sum(0).diag()
    return covariance / len(rows)


def latent_mean(posterior: Posterior, rows: Tensor) -> Tensor:
    """`(D,) float64`, over some of the posteriors."""
    sums = [part.mean.flatten(1).double().sum(0) for part in _slices(posterior, rows)]
    return torch.stack(sums).sum(0) / len(rows)


def _slices(posterior: Posterior, rows: Tensor) -> Iterator[Posterior]:
    """A few of the posteriors at a time, for all may be more than fit in memory."""
    return (posterior[part] for part in rows.split(MEMORISING_SLICE))


def covariance_eigenvalues(posterior: Posterior) -> Tensor:
    """Eigenvalues `(D,)`, ascending, of the covariance of the sampled latents."""
    return torch.linalg.eigvalsh(latent_covariance(posterior)).float()


def loss_floors(
    prediction_type: PredictionType,
    alpha_bars: Tensor | Amplitudes,
    eigenvalues: Tensor,
    channel_variances: Tensor | None = None,
) -> LossFloors:
    """The three floors for every entry of `alpha_bars (T,)`, or of the amplitudes of any other schedule.

    A prediction of p z0 + q eps errs by p^2 lambda + q^2 where it knows nothing, and by
    det^2 lambda / (a^2 lambda + b^2) where it knows the covariance (det as in `prediction`), averaged over the
    eigenvalues `(D,)` of the latents' covariance. `channel_variances (c,)` are the scales that the white floor knows,
    by default one for all: they differ where latents are not normalised. Raises `ValueError` for an unknown prediction
    type, and for values that are no tensor of one dimension, or no `alpha_bars` from 0 to 1.
    """
    if isinstance(alpha_bars, Tensor):
        _check_values("alpha_bars", alpha_bars)
        if float(alpha_bars.max()) > 1:
            raise ValueError(f"alpha_bars are {shown(alpha_bars.tolist())}: give those of a schedule, from 0 to 1")
    elif not isinstance(alpha_bars, Amplitudes):
        raise ValueError(f"alpha_bars is {shown(alpha_bars)}: give a tensor of one dimension, or Amplitudes")
    _check_values("eigenvalues", eigenvalues)
    if channel_variances is not None:
        _check_values("channel_variances", channel_variances)
    in_double = alpha_bars.double() if isinstance(alpha_bars, Tensor) else alpha_bars.map(Tensor.double)
    c = coefficients(prediction_type, in_double[:, None])
    eigenvalues = eigenvalues.double()
    variance = eigenvalues.mean()
    scales = variance[None] if channel_variances is None else channel_variances.double()
    zero = c.p.square() * variance + c.q.square()
    squares = [value.square().split(TIMESTEPS_SLICE) for value in (c.a, c.b, c.det)]

    def wiener(spectrum: Tensor) -> Tensor:
        rows = zip(*squares, strict=True)
        return torch.cat([(det2 * spectrum / (a2 * spectrum + b2)).mean(1).float() for a2, b2, det2 in rows])

    return LossFloors(zero[:, 0].float(), wiener(scales), wiener(eigenvalues))


def _check_values(name: str, values: object) -> None:
    if not isinstance(values, Tensor) or values.ndim != 1 or not len(values):
        found = f"a tensor of shape {tuple(values.shape)}" if isinstance(values, Tensor) else shown(values)
        raise ValueError(f"{name} is {found}: give a tensor of one dimension")
    if not values.isfinite().all() or float(values.min()) < -ROUNDING * float(values.max()):
        raise ValueError(f"{name} are {shown(values.tolist())}: give finite ones, none below 0")


def memorised_z0(posterior: Posterior, z_t: Tensor, mixed: Tensor | Amplitudes, rows: Tensor | None = None) -> Tensor:
    """E[z0 | z_t] `(B, D)` under the mixture of N posteriors, all or those of `rows (N,)`, for `z_t (B, D)` and one
    alpha_bar or pair of amplitudes.

    The weights are w_n ~ prod_d N(z_t; a mu_nd, a^2 sigma_nd^2 + b^2), and given n the mean is
    mu_n + a sigma_n^2 / (a^2 sigma_n^2 + b^2) (z_t - a mu_n). Goes through the N in slices, with a running softmax.
    """
    return _mixture(posterior, z_t, mixed, rows)[0]


def _mixture(
    posterior: Posterior, z_t: Tensor, mixed: Tensor | Amplitudes, rows: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What `memorised_z0` says, and the log of the weights' sum `(B, 1)`, up to what all mixtures of z_t share."""
    pair = amplitudes_of(mixed).map(lambda value: value.to(z_t))
    a, b2 = pair.a, pair.b.square()
    rows = torch.arange(len(posterior.mean)) if rows is None else rows
    centre = latent_mean(posterior, rows).to(z_t)  # differences of large numbers lose digits in float32
    z = z_t - a * centre
    largest, total = z.new_full((len(z), 1), -torch.inf), z.new_zeros(len(z), 1)
    moved, kept = torch.zeros_like(z), torch.zeros_like(z)
    for part in _slices(posterior, rows):
        mu, variance = part.mean.flatten(1) - centre, part.std.flatten(1).square()
        spread = a**2 * variance + b2
        logits = z @ (a * mu / spread).T - 0.5 * z.square() @ (1 / spread).T
        logits -= 0.5 * (a**2 * mu.square() / spread + spread.log()).sum(1)
        new_largest = torch.maximum(largest, logits.max(1, keepdim=True).values)
        weights = (logits - new_largest).clamp_min(SMALLEST_LOG_WEIGHT).exp()
        rescale = (largest - new_largest).exp()
        total = total * rescale + weights.sum(1, keepdim=True)
        moved = moved * rescale + weights @ (mu * b2 / spread)
        kept = kept * rescale + weights @ (a * variance / spread)
        largest = new_largest
    return centre + (moved + kept * z) / total, largest + total.log()


def memorising_z0_mse(posterior: Posterior, mixed: Tensor | Amplitudes) -> Tensor:
    """z0-MSE `(P,)` at alpha_bars or amplitudes `(P,)` of the denoiser that knows the training set, by Monte Carlo."""
    return memorising_z0_mses(posterior, mixed, torch.zeros(len(posterior.mean)).long())[0]


def memorising_z0_mses(posterior: Posterior, mixed: Tensor | Amplitudes, labels: Tensor) -> Tensor:
    """The same, and behind it that of the denoiser that also knows the label, of `labels (N,)`: `(2, P)`.

    Over 128 noisy *training* latents: it is no floor for any others. What all classes say is what each of them says,
    weighted by how probable it is, so the latents are gone through once. How much easier or harder 128 are than all is
    taken off, as seen by the linear denoiser, whose error over all is known (a control variate) and which no optimal
    one exceeds. Optimal loss: arXiv 2506.13763.
    """
    generator = torch.Generator().manual_seed(MEMORISING_SEED)
    chosen = torch.randperm(len(posterior.mean), generator=generator)[:MEMORISING_SAMPLES]
    shape = (len(chosen), *posterior.mean.shape[1:])
    z0 = posterior[chosen].sample(torch.randn(shape, generator=generator)).flatten(1)
    eps = torch.randn(z0.shape, generator=generator)
    classes = [((labels == label).nonzero().flatten(), labels[chosen] == label) for label in labels.unique()]
    linear_of = [_wiener_filter(posterior, rows) for rows, _ in classes]
    linear = linear_of[0] if len(classes) == 1 else _wiener_filter(posterior, torch.arange(len(labels)))
    amplitudes = amplitudes_of(mixed)
    errors = torch.zeros(2, len(amplitudes))
    for index in range(len(amplitudes)):
        z_t = add_noise(z0, eps, amplitudes[index])
        of_all, of_own, evidence = torch.zeros_like(z0), torch.zeros_like(z0), z0.new_full((len(z0), 1), -torch.inf)
        excess = torch.zeros(2, len(z0))  # of the linear denoisers' errors over what they are on average, which is:
        excess[0], linear_mse = _excess(linear, z0, z_t, amplitudes[index])
        linear_mses = torch.stack([linear_mse, torch.zeros_like(linear_mse)])
        for (rows, asked), of_these in zip(classes, linear_of, strict=True):
            of_class, class_evidence = _mixture(posterior, z_t, amplitudes[index], rows)
            before, evidence = evidence, torch.logaddexp(evidence, class_evidence)
            of_all = of_all * (before - evidence).exp() + of_class * (class_evidence - evidence).exp()
            of_own[asked] = of_class[asked]
            excess[1, asked], class_mse = _excess(of_these, z0[asked], z_t[asked], amplitudes[index])
            linear_mses[1] += class_mse * len(rows) / len(labels)
        measured = (torch.stack([of_all, of_own]) - z0).square().mean(2)
        errors[:, index] = torch.minimum(_controlled(measured, excess), linear_mses)
    return errors


class WienerFilter:
    """The linear denoiser: it knows the mean `(D,)` and the covariance `(D, D)` of the latents."""

    def __init__(self, mean: Tensor, covariance: Tensor):
        self.mean = mean.double()
        eigenvalues, self.eigenvectors = torch.linalg.eigh(covariance.double())
        self.eigenvalues = eigenvalues.clamp_min(SMALLEST_EIGENVALUE)

    def z0(self, z_t: Tensor, mixed: Amplitudes) -> Tensor:
        """E[z0 | z_t] `(B, D)` of Gaussian latents, for one pair of amplitudes."""
        a, b = mixed.a.double(), mixed.b.double()
        gain = a * self.eigenvalues / (a.square() * self.eigenvalues + b.square())
        centred = z_t.double() - a * self.mean
        return (self.mean + (centred @ self.eigenvectors * gain) @ self.eigenvectors.T).to(z_t)

    def mse(self, mixed: Amplitudes) -> Tensor:
        """Of its z0, over all latents and all noise."""
        a2, b2 = mixed.a.double().square(), mixed.b.double().square()
        return (b2 * self.eigenvalues / (a2 * self.eigenvalues + b2)).mean().float()


def _wiener_filter(posterior: Posterior, rows: Tensor) -> WienerFilter:
    return WienerFilter(latent_mean(posterior, rows), latent_covariance(posterior, rows))


def _excess(linear: WienerFilter, z0: Tensor, z_t: Tensor, mixed: Amplitudes) -> tuple[Tensor, Tensor]:
    """By how much its squared errors `(B,)` are above their mean over all latents and all noise, and that mean."""
    mse = linear.mse(mixed)
    return (linear.z0(z_t, mixed) - z0).square().mean(1) - mse, mse


def _controlled(errors: Tensor, excess: Tensor) -> Tensor:
    """The means of `errors (R, B)` were `excess (R, B)` on average 0: the least squares lines through them, at 0."""
    from_mean = excess - excess.mean(1, keepdim=True)
    slopes = (from_mean * errors).sum(1) / from_mean.square().sum(1).clamp_min(torch.finfo(errors.dtype).tiny)
    return errors.mean(1) - slopes * excess.mean(1)
