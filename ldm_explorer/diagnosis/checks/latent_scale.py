"""The check of the latents' scale: is the config's that of the encoder, and that of the denoiser's training?"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from ldm_explorer.diagnosis.case import Case
from ldm_explorer.diagnosis.checks.autoencoder import pixel_variance
from ldm_explorer.diagnosis.probes import FITS, error_over_white, is_better, make_probes, own_answer
from ldm_explorer.diagnosis.verdicts import ASK_FOR_IMAGES, Finding, NotRun
from ldm_explorer.run_layout import VAE, config_of

CONFIG = config_of(VAE)
MIN_IMAGES = 16
OFF_SCALE = 1.3
OFF_CENTRE = 0.4
FAR_OFF_SCALE, FAR_OFF_SCALE_OF_A_CHANNEL, FAR_OFF_CENTRE = 1.6, 2.0, 1.0
"""Farther than images of one class alone are off: over the shipped autoencoders 1.49, 1.64 and .67 at most."""


def latent_scale(case: Case) -> Finding:
    """Mean and standard deviation of the normalised latents of images: 0 and 1, per channel where they are stored so.

    The denoiser has the last word where it knows anything: the scale on which it errs least is that of its training.
    """
    if len(case.pixels) < MIN_IMAGES:
        raise NotRun(f"it needs at least {MIN_IMAGES} images")
    pixel_variance(case)
    if case.images is not None and _has_one_factor(case):
        return _by_one_factor(case)
    return _by_channel(case)


def _has_one_factor(case: Case) -> bool:
    """Whether it is scaled as others do it, by a `scaling_factor`; our own runs always have statistics."""
    alike = all(bool((values == values.flatten()[0]).all()) for values in (case.codec.mean, case.codec.std))
    return alike and not case.has_latent_statistics and not case.config


def _by_channel(case: Case) -> Finding:
    mean, std = _beside_wanted(case)
    stored = case.codec.std.flatten()
    times, away = ("", "") if case.images is not None else ("times their own ", "away from their own ")
    evidence = (
        f"Latents of {case.probe_source}, normalised, have {times}std {_row(std)} (should be 1) and mean {_row(mean)} "
        f"{away}(should be 0)"
    )
    if not _is_off(mean, std):
        return Finding(f"{evidence}.")
    if case.images is None:
        raise NotRun(f"{evidence}; whose fault that is, only images tell: {ASK_FOR_IMAGES}")
    where = f"latents_std {_row(stored)}" if case.has_latent_statistics else "no latents_std"
    evidence += f"; {CONFIG} has {where}, measured {_row(std * stored)}"
    of_training = _is_of_training(case, mean, std, evidence)
    if of_training and not _is_far(case, std):
        return Finding(f"{evidence}; the denoiser errs least on this scale, so it is that of its training.")
    fix = _fix(case, mean, std)
    return Finding(f"{evidence}.", _what_is_off(case, std * stored, stored), fix, severity=1 if of_training else 2)


def _by_one_factor(case: Case) -> Finding:
    """`scaling_factor` is one number, by which recipes make the std of all values 1; a `shift_factor` may be any.

    So the std is judged over all values, and the shift by the denoiser alone.
    """
    mean, std = _moments(case)
    pooled_mean, pooled_std = mean.mean()[None], (std.square().mean() + mean.var(correction=0)).sqrt()[None]
    shift, factor = float(case.codec.mean.flatten()[0]), 1 / float(case.codec.std.flatten()[0])
    evidence = (
        f"Latents of {case.probe_source}, times one scaling_factor, have a std of {_row(pooled_std)} over all values "
        f"(should be 1) and a mean of {_row(pooled_mean)}; channel by channel the std is {_row(std)} and the mean "
        f"{_row(mean)}: one factor leaves channels unlike, as is usual with it"
    )
    measured = factor / float(pooled_std)
    if _is_off(torch.zeros(1), pooled_std):
        evidence += f"; {CONFIG} has scaling_factor {factor:.3g}, measured {measured:.3g}"
        of_training = _is_of_training(case, torch.zeros(1), pooled_std, evidence)
        if not of_training or _is_far(case, pooled_std):
            fix = f'{CONFIG}: "scaling_factor": {measured:.3g}' + (f', "shift_factor": {shift:.3g}' if shift else "")
            return Finding(
                f"{evidence}.",
                f"Latents are not normalised: scaling_factor is {factor:.3g}, measured {measured:.3g}",
                f"{fix}, and train the denoiser again" if of_training else fix,
                severity=1 if of_training else 2,
            )
        evidence += "; the denoiser errs least on this scale, so it is that of its training"
    return _by_shift(case, pooled_mean, evidence)


def _by_shift(case: Case, mean: Tensor, evidence: str) -> Finding:
    """The denoiser told latents without the shift, and where they are far from 0 centred ones, beside its own.

    A mean that is not 0 alone says nothing: without a shift it is what the encoder has.
    """
    std, shift, is_off = case.codec.std.flatten()[:1], case.codec.mean.flatten()[:1], float(mean.abs()) > OFF_CENTRE
    others = [torch.zeros(1)] * bool(shift) + [shift + mean * std] * is_off
    if not others:
        return Finding(f"{evidence}.")
    own, best, error = math.inf, "", math.inf
    if _has_denoiser(case):
        own = _error_moved(case, torch.zeros(1))
        errors = {_row(other): _error_moved(case, (other - shift) / std) for other in others}
        best, error = min(errors.items(), key=lambda found: found[1])
    if min(own, error) > FITS:
        if shift and is_off:
            raise NotRun(f"{evidence}; whether shift_factor {_row(shift)} is that of training, no denoiser here tells")
        return Finding(f"{evidence}.")
    evidence += f"; the denoiser's error is {own:.2f} of the white floor, with "
    evidence += f"shift_factor {best} {error:.2f} (its own should be the best)"
    if not is_better(error, own):
        return Finding(f"{evidence}.")
    return Finding(
        f"{evidence}.",
        f"Latents are shifted otherwise than in training: shift_factor is {_row(shift)}",
        f'{CONFIG}: "shift_factor": {best}',
        severity=2,
    )


def _moments(case: Case) -> tuple[Tensor, Tensor]:
    """Mean and std `(c,)` of the normalised latents."""
    posterior = case.posterior
    mean = posterior.mean.mean((0, 2, 3))
    return mean, (posterior.mean.var((0, 2, 3)) + posterior.std.square().mean((0, 2, 3))).sqrt()


def _beside_wanted(case: Case) -> tuple[Tensor, Tensor]:
    """The same over what they should be."""
    (mean, std), (wanted_mean, wanted_std) = _moments(case), case.probe_moments
    return mean - wanted_mean, std / wanted_std


def _is_off(mean: Tensor, std: Tensor) -> bool:
    return bool((std.log().abs() > math.log(OFF_SCALE)).any() or (mean.abs() > OFF_CENTRE).any())


def _is_far_off(mean: Tensor, std: Tensor) -> bool:
    scale = std.log()
    return bool(
        scale.mean().abs() > math.log(FAR_OFF_SCALE)
        or (scale.abs() > math.log(FAR_OFF_SCALE_OF_A_CHANNEL)).any()
        or (mean.abs() > FAR_OFF_CENTRE).any()
    )


def _is_far(case: Case, std: Tensor) -> bool:
    """Whether it is to be said although its denoiser was trained so."""
    return float(std.log().mean().abs()) > math.log(FAR_OFF_SCALE) or case.config.get("normalise_latents") is False


def _is_of_training(case: Case, mean: Tensor, std: Tensor, evidence: str) -> bool:
    """Whether the denoiser errs less on latents as the config scales them than on normalised ones.

    Raises `NotRun` where it knows too little of either, and the images may explain what was measured.
    """
    if _has_denoiser(case):
        own, normalised = _error_moved(case, torch.zeros(1)), _error_moved(case, mean, std)
        if min(own, normalised) <= FITS:
            return own < normalised
    if not _is_far_off(mean, std):
        raise NotRun(f"{evidence}; images of one class alone may be as far off: give images of every class")
    return False


def _has_denoiser(case: Case) -> bool:
    return case.network is not None and case.is_finite("denoiser")


def _error_moved(case: Case, mean: Tensor, std: Tensor | None = None) -> float:
    """The denoiser's error over the white floor on latents less `mean`, over `std`."""
    known = case.encoded_images()
    z0 = (known.z0 - mean.view(-1, 1, 1)) / (1 if std is None else std.view(-1, 1, 1))
    return error_over_white(make_probes(case, replace(known, z0=z0)), own_answer(case))


def _fix(case: Case, mean: Tensor, std: Tensor) -> str:
    if case.config.get("normalise_latents") is False:  # the UNet knows raw latents alone: other settings would break it
        return "train/ldm.py: train again without --no-normalise-latents"
    measure = "as measure_statistics() finds over the training images"
    raw_mean = mean * case.codec.std.flatten() + case.codec.mean.flatten()
    measured = std * case.codec.std.flatten()
    return f'{CONFIG}: "latents_mean": [{_row(raw_mean)}], "latents_std": [{_row(measured)}], {measure}'


def _what_is_off(case: Case, measured: Tensor, stored: Tensor) -> str:
    if not case.has_latent_statistics:
        return "Latents are not normalised: latents_mean or latents_std is missing"
    if bool((stored == 1).all()):
        return "Latents are not normalised: latents_std is 1"
    if torch.allclose(stored.log(), 2 * measured.log(), atol=0.1) and bool((measured.log().abs() > 0.15).any()):
        return "Latents are normalised twice: latents_std is the square of what the encoder has"
    ratio = stored / measured
    if float(ratio.log().std()) < 0.1 if len(ratio) > 1 else True:
        return f"latents_std is {float(ratio.log().mean().exp()):.2g} times what the encoder has"
    return "latents_mean or latents_std is not what the encoder has"


def _row(values: Tensor) -> str:
    """At most four numbers, none of them -0."""
    shown = ", ".join(f"{round(value, 3) + 0:.3g}" for value in values.flatten()[:4].tolist())
    return f"{shown}, ..." if values.numel() > 4 else shown
