"""Checks of the autoencoder: does it say something, does an image survive it?"""

import torch

from ldm_explorer.diagnosis.case import Case
from ldm_explorer.diagnosis.verdicts import ASK_FOR_IMAGES, Finding, NotRun
from ldm_explorer.latents import Posterior

MIN_KL_PER_VALUE = 0.05
ACTIVE = 0.01
MIN_ACTIVE_SHARE = 0.05
MIN_VARIED = 4
MIN_PIXEL_VARIANCE = 1e-4
MIN_EXPLAINED = 0.5


def _raw(case: Case) -> Posterior:
    std = case.codec.std
    return Posterior(case.posterior.mean * std + case.codec.mean, case.posterior.std * std)


def pixel_variance(case: Case) -> float:
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
    pixel_variance(case)
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


def round_trip(case: Case) -> Finding:
    """Encode, normalise, denormalise, decode: how much of the images' variance comes back."""
    pixels, variance = case.pixels, pixel_variance(case)
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
