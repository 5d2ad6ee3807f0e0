"""Checks of what the denoiser does with latents: what it predicts, along which schedule, for which labels, how well."""

import torch
from torch import Tensor

from ldm_explorer.diagnosis.case import OWN_SAMPLES, Case
from ldm_explorer.diagnosis.checks.settings import CONFIG, name_of
from ldm_explorer.diagnosis.floors import loss_floors
from ldm_explorer.diagnosis.verdicts import Finding, NotRun
from ldm_explorer.prediction import PREDICTION_TYPES, add_noise, target, to_z0
from ldm_explorer.schedules import SCHEDULES, make_schedule

FITS = 0.9
"""An error below this share of the white floor: this reading of the output knows something."""
WORSE_THAN_WHITE = 0.98
"""An error above this share of the white floor: the network knows the scale of the latents at most."""
NEITHER_LOG = 1.25
NOISE_LEVELS = (0.2, 0.4, 0.6, 0.8)
CANDIDATE_TIMES = 20
TOLD_BETTER = 1.15
SHIFTS = 10
MIN_LABELLED = 20
SPREAD = (0.75, 1.3)


def _ratios(case: Case) -> dict[str, float]:
    """Error over white floor, each averaged over the timesteps, for every reading of the output."""
    losses = case.losses
    return {kind: float(losses[kind].mean() / case.floors(kind).white.mean()) for kind in PREDICTION_TYPES}


def prediction_type(case: Case) -> Finding:
    """Of the three readings of the output the one in the config has to fit best."""
    ratios, said = _ratios(case), case.prediction_type
    best = min(ratios, key=lambda kind: ratios[kind])
    figures = ", ".join(f"{kind} {ratio:.2f}" for kind, ratio in ratios.items())
    source = (case.stored_latents or case.sampled_latents(said)).source
    evidence = f"Error over the white floor on {source}, the output read as {figures} (below 1 for the right one)"
    if best != said and ratios[best] < FITS and not ratios[said] < 1:
        trained = case.config.get("prediction")
        recorded = f"; train_config.json says {trained}" if trained else ""
        return Finding(
            f"{evidence}{recorded}; the config says {said}.",
            f"The output is read as {said}, and it is {best}",
            f'{CONFIG}: "prediction_type": "{best}"',
            severity=3,
        )
    if not ratios[said] < WORSE_THAN_WHITE:
        raise NotRun(f"no reading of the output fits: {figures} times the white floor, so it has not learned enough")
    return Finding(f"{evidence}; the config says {said}.")


def schedule_by_behaviour(case: Case) -> Finding:
    """For a folder without a record: at given noise, the timestep of the config has to be the one that serves best."""
    if case.config.get("schedule") in SCHEDULES:
        raise NotRun("train_config.json says what it was trained along, and that is checked")
    if not _ratios(case)[case.prediction_type] < FITS:
        raise NotRun("the network has not learned enough to tell")
    known = case.known_latents()
    chosen = torch.linspace(0, len(known.z0) - 1, min(8, len(known.z0))).long()
    z0, labels = known.z0[chosen], None if known.labels is None else known.labels[chosen]
    eps = torch.randn(z0.shape, generator=torch.Generator().manual_seed(3))
    levels = [int(share * (case.num_timesteps - 1)) for share in NOISE_LEVELS]
    candidates = torch.linspace(0, max(1000, case.num_timesteps) - 1, CANDIDATE_TIMES).round().long().tolist()
    excess, best_times = [], []
    for level in levels:
        alpha_bar = case.alpha_bars[level]
        z_t = add_noise(z0, eps, alpha_bar)
        errors = {
            t: float((to_z0(case.prediction_type, case.predict(z_t, t, labels), z_t, alpha_bar) - z0).square().mean())
            for t in [*candidates, level]
        }
        best_times.append(min(errors, key=lambda t: errors[t]))
        excess.append(errors[level] / min(errors.values()))
    told = ", ".join(f"{level}: {best}" for level, best in zip(levels, best_times, strict=True))
    evidence = f"At the noise of each timestep of the config, it denoises best when told {told} (should be near)"
    if sorted(excess)[-2] < TOLD_BETTER:
        return Finding(f"{evidence}; being told the config's costs at most {max(excess) - 1:.0%}.")
    nearest = _nearest_schedule(case.alpha_bars[levels], best_times)
    return Finding(
        f"{evidence}; being told the config's costs up to {max(excess) - 1:.0%} more error. The config is "
        f"{name_of(case.alpha_bars)}, the network answers like {nearest}.",
        "It is sampled along another schedule than it was trained on",
        f"{CONFIG}: the betas and num_train_timesteps of training",
        severity=3,
    )


def _nearest_schedule(alpha_bars: Tensor, times: list[int]) -> str:
    """The registered schedule that has these abar at these times, nearest in log SNR."""

    def distance(schedule) -> float:
        found = schedule.alpha_bars[torch.tensor(times).clamp_max(schedule.num_timesteps - 1)]
        return float((torch.logit(found.double(), 1e-6) - torch.logit(alpha_bars.double(), 1e-6)).abs().median())

    known = [make_schedule(name, steps) for name in SCHEDULES for steps in (1000, 500, 250, 2000, 4000)]
    nearest = min(known, key=distance)
    return f"{nearest.name} over {nearest.num_timesteps}"


def labels_match(case: Case) -> Finding:
    """Latents of a known class are denoised best when their own label is given."""
    known = case.known_latents()
    if not case.null_class or case.null_class < 2:
        raise NotRun("the network takes no class labels")
    if not known.labelled or len(known.z0) < MIN_LABELLED:
        raise NotRun("it needs latents or images whose class is known: give --images with a subfolder per class")
    chosen = torch.linspace(0, len(known.z0) - 1, min(2 * case.batch_size, len(known.z0))).round().long()
    z0, labels, classes = known.z0[chosen], known.labels[chosen], case.null_class
    eps = torch.randn(z0.shape, generator=torch.Generator().manual_seed(4))
    timestep = int(0.7 * (case.num_timesteps - 1))
    alpha_bar = case.alpha_bars[timestep]
    z_t, wanted = add_noise(z0, eps, alpha_bar), target(case.prediction_type, z0, eps, alpha_bar)
    shifts = range(classes) if classes <= SHIFTS else [*range(SHIFTS // 2), *range(classes - SHIFTS // 2, classes)]
    losses = {
        shift: float((case.predict(z_t, timestep, (labels + shift) % classes) - wanted).square().mean())
        for shift in shifts
    }
    best = min(losses, key=lambda shift: losses[shift])
    other = sum(loss for shift, loss in losses.items() if shift) / (len(losses) - 1)
    figures = f"Error at t = {timestep} with the right label {losses[0]:.3f}, with the others {other:.3f} on average"
    if best:
        return Finding(
            f"{figures}, with label + {best} modulo {classes} {losses[best]:.3f} (the right one should be lowest).",
            f"Labels are shifted: class k answers to label k + {best}",
            f"unet/: the rows of class_embedding, or the labels in training, are shifted by {best}; give label + {best}",
            severity=2,
        )
    return Finding(f"{figures}, lowest for the right one.")


def learned(case: Case) -> Finding:
    """The denoiser's error against what knowing only the scale, or the covariance, would reach."""
    ratios, said = _ratios(case), case.prediction_type
    known = case.known_latents()
    loss, floors = float(case.losses[said].mean()), case.floors(said)
    white, gaussian = float(floors.white.mean()), _gaussian(case, floors)
    logged = [line["validation_loss"] for line in case.log if "validation_loss" in line]
    evidence = f"Its error on {known.source}, averaged over {len(case.timesteps)} timesteps, is {loss:.3f}; "
    evidence += f"knowing the scale alone gives {white:.3f}" + (f", the covariance {gaussian:.3f}" if gaussian else "")
    evidence += f"; the log ended at {logged[-1]:.3f}" if logged else ""
    if not ratios[said] < WORSE_THAN_WHITE:
        return Finding(
            f"{evidence} (should be well below the first).",
            "The network has learned nothing" if ratios[said] > 1 else "The network has learned the scale at most",
            "train it, or longer: unet/ holds the weights of far too few steps",
            severity=3,
        )
    if logged and known.source != OWN_SAMPLES and loss > NEITHER_LOG * logged[-1]:
        return Finding(
            f"{evidence} (should be near the log's end).",
            "These are not the weights that the log speaks of",
            "unet/: take the final, averaged weights of the run",
            severity=2,
        )
    if gaussian and (white - loss) < (white - gaussian) / 2:
        return Finding(
            f"{evidence} (should be near the second or below).",
            "It needs more training",
            "train longer: --max-minutes, --max-steps",
            severity=1,
        )
    return Finding(f"{evidence}.")


def _gaussian(case: Case, floors) -> float | None:
    """The Gaussian floor over the timesteps, of its class where the network knows it; None without eigenvalues."""
    stored = case.metrics.get("training", {}).get("covariance_eigenvalues")
    if not stored:
        return None
    of_classes = [name for name in stored if name != "all"] if case.null_class else []
    alpha_bars = case.alpha_bars[case.timesteps]
    curves = [
        loss_floors(case.prediction_type, alpha_bars, torch.tensor(stored[name])).gaussian
        for name in of_classes or ["all"]
    ]
    return float(torch.stack(curves).mean())


def spread_of_samples(case: Case) -> Finding:
    """Generated latents against unit variance, or against the latents that are known."""
    if not case.can_sample:
        raise NotRun("there are fewer betas than timesteps")
    samples, known = case.sampled_latents(case.prediction_type).z0, case.known_latents()
    std, wanted = float(samples.std()), 1.0 if known.source == OWN_SAMPLES else float(known.z0.std())
    evidence = f"{len(samples)} samples in 10 steps have a standard deviation of {std:.2f} (should be {wanted:.2f})"
    if case.vae is None and known.source == OWN_SAMPLES:
        raise NotRun(f"it needs images to compare with: {len(samples)} samples have a standard deviation of {std:.2f}")
    if not SPREAD[0] * wanted < std < SPREAD[1] * wanted:
        return Finding(f"{evidence}.", "Samples have another spread than the data", "", severity=2)
    return Finding(f"{evidence}.")
