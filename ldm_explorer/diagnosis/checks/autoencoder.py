"""Checks of the autoencoder: does it say something, is its scale the one in the config, does an image survive it?"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from ldm_explorer.diagnosis.case import Case
from ldm_explorer.diagnosis.probes import FITS, error_over_white, make_probes, own_answer
from ldm_explorer.diagnosis.verdicts import ASK_FOR_IMAGES, Finding, NotRun
from ldm_explorer.latents import Posterior
from ldm_explorer.run_layout import VAE, config_of

CONFIG = config_of(VAE)
MIN_KL_PER_VALUE = 0.05
ACTIVE = 0.01
MIN_ACTIVE_SHARE = 0.05
MIN_IMAGES = 16
MIN_VARIED = 4
MIN_PIXEL_VARIANCE = 1e-4
OFF_SCALE = 1.3
OFF_CENTRE = 0.4
FAR_OFF_SCALE, FAR_OFF_SCALE_OF_A_CHANNEL, FAR_OFF_CENTRE = 1.6, 2.0, 1.0
"""Farther than images of one class alone are off: over the shipped autoencoders 1.49, 1.64 and .67 at most."""
MIN_EXPLAINED = 0.5


def _raw(case: Case) -> Posterior:
    std = case.codec.std
    return Posterior(case.posterior.mean * std + case.codec.mean, case.posterior.std * std)


def _pixel_variance(case: Case) -> float:
    """Around the mean image. Raises `NotRun` for images of which an autoencoder has next to nothing to tell apart."""
    pixels = case.pixels
    variance = float((pixels - pixels.mean(0)).square().mean())
    if len(pixels) < MIN_VARIED or variance < MIN_PIXEL_VARIANCE:
        raise NotRun(f"it needs at least {MIN_VARIED} images that differ")
    return variance


def collapse(case: Case) -> Finding:
    """KL per value on raw latents, and active units (Burda et al. 2015): near zero, the latent says nothing.

    A unit is active by its variance over images beside that of its own noise: in whatever units an encoder answers.
    """
    _pixel_variance(case)
    raw = _raw(case)
    kl = float(raw.kl().mean())
    varied = raw.mean.var(0)
    active = float((varied > ACTIVE * (varied + raw.std.square().mean(0))).float().mean())
    evidence = (
        f"Over {case.probe_source} the latent holds {kl:.2g} nats per value and {active:.0%} of its units are active"
    )
    if kl < MIN_KL_PER_VALUE or active < MIN_ACTIVE_SHARE:
        return Finding(
            f"{evidence} (should be tenths of a nat or more, and most of them).",
            "The autoencoder's posterior has collapsed: the latent says nothing of the image",
            "train the autoencoder again with a lower --kl-weight; mind that a mean over pixels and a sum over latent "
            "values are far apart",
            severity=3,
        )
    return Finding(f"{evidence}.")


def latent_scale(case: Case) -> Finding:
    """Mean and standard deviation of the normalised latents of images: 0 and 1, per channel where they are stored so.

    The denoiser has the last word where it knows anything: the scale on which it errs least is that of its training.
    """
    if len(case.pixels) < MIN_IMAGES:
        raise NotRun(f"it needs at least {MIN_IMAGES} images")
    _pixel_variance(case)
    mean, std = _moments(case)
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
    trained_so = _trained_so(case, mean, std)
    if trained_so is None and not _is_far_off(mean, std):
        raise NotRun(f"{evidence}; images of one class alone may be as far off: give images of every class")
    far = float(std.log().mean().abs()) > math.log(FAR_OFF_SCALE) or case.config.get("normalise_latents") is False
    if trained_so and not far:
        return Finding(f"{evidence}; the denoiser errs least on this scale, so it is that of its training.")
    return Finding(
        f"{evidence}.",
        _what_is_off(case, std * stored, stored),
        _fix(case, mean, std, bool(trained_so)),
        severity=1 if trained_so else 2,
    )


def _moments(case: Case) -> tuple[Tensor, Tensor]:
    """Mean and std `(c,)` of the normalised latents, over what they should be.

    `scaling_factor` is one number, by which recipes make the std of all values 1: one is given for all channels.
    """
    posterior = case.posterior
    mean = posterior.mean.mean((0, 2, 3))
    std = (posterior.mean.var((0, 2, 3)) + posterior.std.square().mean((0, 2, 3))).sqrt()
    if case.images is not None and _has_one_factor(case):
        pooled = (std.square().mean() + mean.var(correction=0)).sqrt()
        return torch.zeros_like(mean), pooled.expand_as(std)
    wanted_mean, wanted_std = case.probe_moments
    return mean - wanted_mean, std / wanted_std


def _has_one_factor(case: Case) -> bool:
    """Whether it is scaled as others do it, by a `scaling_factor`; our own runs always have statistics."""
    return not case.has_latent_statistics and not case.config


def _is_off(mean: Tensor, std: Tensor) -> bool:
    return bool((std.log().abs() > math.log(OFF_SCALE)).any() or (mean.abs() > OFF_CENTRE).any())


def _is_far_off(mean: Tensor, std: Tensor) -> bool:
    scale = std.log()
    return bool(
        scale.mean().abs() > math.log(FAR_OFF_SCALE)
        or (scale.abs() > math.log(FAR_OFF_SCALE_OF_A_CHANNEL)).any()
        or (mean.abs() > FAR_OFF_CENTRE).any()
    )


def _trained_so(case: Case, mean: Tensor, std: Tensor) -> bool | None:
    """Whether the denoiser errs less on latents as the config scales them than on normalised ones.

    None where it knows too little of either to tell, or there is none.
    """
    if case.unet is None or not case.is_finite("denoiser"):
        return None
    known = case.encoded_images()
    normalised = replace(known, z0=(known.z0 - mean.view(-1, 1, 1)) / std.view(-1, 1, 1))
    own, other = (error_over_white(make_probes(case, latents), own_answer(case)) for latents in (known, normalised))
    return None if min(own, other) > FITS else own < other


def _fix(case: Case, mean: Tensor, std: Tensor, trained_so: bool) -> str:
    if case.config.get("normalise_latents") is False:  # the UNet knows raw latents alone: other settings would break it
        return "train/ldm.py: train again without --no-normalise-latents"
    measure = "as measure_statistics() finds over the training images"
    if _has_one_factor(case):
        setting = f'"scaling_factor": {1 / float((std * case.codec.std.flatten()).mean()):.3g}'
        return f"{CONFIG}: {setting}, and train the denoiser again" if trained_so else f"{CONFIG}: {setting}"
    raw_mean = mean * case.codec.std.flatten() + case.codec.mean.flatten()
    measured = std * case.codec.std.flatten()
    return f'{CONFIG}: "latents_mean": [{_row(raw_mean)}], "latents_std": [{_row(measured)}], {measure}'


def _what_is_off(case: Case, measured: Tensor, stored: Tensor) -> str:
    if _has_one_factor(case):
        factors = f"{1 / float(stored[0]):.3g}, measured {1 / float(measured[0]):.3g}"
        return f"Latents are not normalised: scaling_factor is {factors}"
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


def round_trip(case: Case) -> Finding:
    """Encode, normalise, denormalise, decode: how much of the images' variance comes back."""
    pixels, variance = case.pixels, _pixel_variance(case)
    reconstructions = torch.cat([case.codec.decode(part) for part in case.posterior.mean.split(32)]).clamp(-1, 1)
    error = (reconstructions - pixels).square().mean()
    explained = 1 - float(error) / variance
    alike = float(reconstructions.var(0).mean() / pixels.var(0).mean())
    psnr = float(10 * torch.log10(4 / error.clamp_min(1e-12)))
    evidence = (
        f"{case.probe_source} come back with {psnr:.1f} dB, {max(explained, -1):.1%} of their variance explained, and "
        f"{alike:.0%} as varied as they were"
    )
    if explained >= MIN_EXPLAINED:
        return Finding(f"{evidence}.")
    if case.images is None:
        raise NotRun(f"{evidence}; whose fault that is, only images tell: {ASK_FOR_IMAGES}")
    return Finding(
        f"{evidence} (should be near 100 %).",
        "The autoencoder does not give images back",
        "vae/: other weights, or images prepared in another way than for its training (range, size, inverted)",
        severity=3,
    )


def _row(values: Tensor) -> str:
    """At most four numbers."""
    shown = ", ".join(f"{round(value, 3):.3g}" for value in values.flatten()[:4].tolist())
    return f"{shown}, ..." if values.numel() > 4 else shown
