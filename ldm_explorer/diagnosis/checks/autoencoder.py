"""Checks of the autoencoder: does it say something, is its scale the one in the config, does an image survive it?"""

import torch
from torch import Tensor

from ldm_explorer.diagnosis.case import Case
from ldm_explorer.diagnosis.verdicts import Finding, NotRun
from ldm_explorer.latents import Posterior
from ldm_explorer.run_layout import VAE, config_of

CONFIG = config_of(VAE)
MIN_KL_PER_VALUE = 0.05
ACTIVE = 0.01
MIN_ACTIVE_SHARE = 0.05
MIN_IMAGES = 16
OFF_SCALE = 1.3
OFF_CENTRE = 0.4
MIN_EXPLAINED = 0.5


def _raw(case: Case) -> Posterior:
    std = case.codec.std
    return Posterior(case.posterior.mean * std + case.codec.mean, case.posterior.std * std)


def collapse(case: Case) -> Finding:
    """KL per value and active units on raw latents (Burda et al. 2015): near zero, the latent says nothing."""
    raw = _raw(case)
    kl = float(raw.kl().mean())
    active = float((raw.mean.var(0) > ACTIVE).float().mean())
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
    """Mean and standard deviation of the normalised latents of images, per channel: 0 and 1."""
    if len(case.posterior.mean) < MIN_IMAGES:
        raise NotRun(f"it needs at least {MIN_IMAGES} images")
    posterior, stored = case.posterior, case.codec.std.flatten()
    mean = posterior.mean.mean((0, 2, 3))
    std = (posterior.mean.var((0, 2, 3)) + posterior.std.square().mean((0, 2, 3))).sqrt()
    wanted_mean, wanted_std = case.probe_moments
    mean, std = mean - wanted_mean, std / wanted_std
    measured = std * stored
    times, away = ("", "") if case.images is not None else ("times their own ", "away from their own ")
    evidence = (
        f"Latents of {case.probe_source}, normalised, have {times}std {_row(std)} (should be 1) and mean {_row(mean)} "
        f"{away}(should be 0)"
    )
    where = f"{CONFIG}: latents_std {_row(stored)}" if case.has_latent_statistics else f"{CONFIG} has none"
    off = bool((std.log().abs() > torch.tensor(OFF_SCALE).log()).any() or (mean.abs() > OFF_CENTRE).any())
    if not off:
        return Finding(f"{evidence}.")
    raw_mean = mean * stored + case.codec.mean.flatten()
    return Finding(
        f"{evidence}; {where}, measured {_row(measured)}.",
        _what_is_off(case, measured, stored),
        _fix(case, raw_mean, measured),
        severity=2,
    )


def _fix(case: Case, raw_mean: Tensor, measured: Tensor) -> str:
    if case.config.get("normalise_latents") is False:  # the UNet knows raw latents alone: other settings would break it
        return "train/ldm.py: train again without --no-normalise-latents"
    measure = "as measure_statistics() finds over the training images"
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


def round_trip(case: Case) -> Finding:
    """Encode, normalise, denormalise, decode: how much of the images' variance comes back."""
    reconstructions = torch.cat([case.codec.decode(part) for part in case.posterior.mean.split(32)]).clamp(-1, 1)
    pixels = case.pixels
    error = (reconstructions - pixels).square().mean()
    explained = 1 - float(error / (pixels - pixels.mean(0)).square().mean().clamp_min(1e-12))
    alike = float(reconstructions.var(0).mean() / pixels.var(0).mean().clamp_min(1e-12))
    psnr = float(10 * torch.log10(4 / error.clamp_min(1e-12)))
    evidence = (
        f"{case.probe_source} come back with {psnr:.1f} dB, {max(explained, -1):.1%} of their variance explained, and "
        f"{alike:.0%} as varied as they were"
    )
    if not explained >= MIN_EXPLAINED:
        return Finding(
            f"{evidence} (should be near 100 %).",
            "The autoencoder does not give images back",
            "vae/: other weights, or images prepared in another way than for its training (range, size, inverted)",
            severity=3,
        )
    return Finding(f"{evidence}.")


def _row(values: Tensor) -> str:
    """At most four numbers."""
    shown = ", ".join(f"{round(value, 3):.3g}" for value in values.flatten()[:4].tolist())
    return f"{shown}, ..." if values.numel() > 4 else shown
