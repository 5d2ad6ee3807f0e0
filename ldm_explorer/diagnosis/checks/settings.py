"""Checks that read settings alone: clipping, the spacing of timesteps, the schedule and its end."""

import inspect
import math
from typing import Any

import diffusers
import torch
from torch import Tensor

from ldm_explorer.diagnosis.case import Case
from ldm_explorer.diagnosis.verdicts import Finding
from ldm_explorer.files import as_sentence
from ldm_explorer.run_files import trained_schedule
from ldm_explorer.run_layout import SCHEDULER_FILE
from ldm_explorer.schedules import (
    MIN_EPSILON_TERMINAL_SNR,
    SCHEDULES,
    STABLE_DIFFUSION_BETAS,
    Schedule,
    make_schedule,
)

CONFIG = SCHEDULER_FILE
MAX_CLIPPED_SHARE = 1e-3
MAX_AMPLITUDE_DIFFERENCE = 2e-3
"""How far sqrt(abar) may be off: rounding betas to fp16 stays below it."""
FEW_STEPS = 20


def setting(case: Case, name: str, without: Any) -> Any:
    """A field of the scheduler's config, else the default of its class, else `without` for a class that lacks it."""
    scheduler = getattr(diffusers, str(case.scheduler_config.get("_class_name")), None)
    known = inspect.signature(scheduler.__init__).parameters if scheduler else {}
    default = known[name].default if name in known else without
    return case.scheduler_config.get(name, default)


def clipping(case: Case) -> Finding:
    """`clip_sample` cuts predicted latents at +-1, which is right for pixels alone."""
    if not setting(case, "clip_sample", False):
        return Finding("clip_sample is off.")
    if case.vae is None:
        return Finding("clip_sample is on, as it may be for pixels in [-1, 1].")
    bound = float(setting(case, "clip_sample_range", 1.0))
    known = case.stored_latents
    share = math.erfc(bound / math.sqrt(2)) if known is None else float((known.z0.abs() > bound).float().mean())
    source = "a unit Gaussian's values" if known is None else f"the values of {known.source}"
    evidence = f"clip_sample cuts at ±{bound:g}, beyond which lie {share:.1%} of {source} (should be 0)."
    if share <= MAX_CLIPPED_SHARE:
        return Finding(evidence)
    return Finding(evidence, "The sampler clips the latents", f'{CONFIG}: "clip_sample": false', severity=2)


def spacing(case: Case) -> Finding:
    """With "leading" a run of few steps starts below T - 1, where its pure noise is not what the network knows."""
    kind = setting(case, "timestep_spacing", "trailing")
    if kind != "leading":
        return Finding(f'timestep_spacing is "{kind}": few steps also start at t = {case.num_timesteps - 1}.')
    if case.vae is None:
        return Finding('timestep_spacing is "leading": no matter while all steps are walked, as pixel pipelines do.')
    first = case.num_timesteps // FEW_STEPS * (FEW_STEPS - 1)
    evidence = (
        f'timestep_spacing is "leading": {FEW_STEPS} steps start at t = {first} in place of {case.num_timesteps - 1}, '
        f"where {float(case.alpha_bars[first].sqrt()):.2g} of the signal's amplitude is left (should be 0)."
    )
    fix = f'{CONFIG}: "timestep_spacing": "trailing"'
    return Finding(evidence, "Sampling starts too late in the schedule", fix, severity=1)


def terminal_snr(case: Case) -> Finding:
    """At the end of the schedule epsilon says nothing of the image (Lin et al. 2023, section 3.2)."""
    abar = float(case.alpha_bars[case.num_timesteps - 1].double())
    snr = abar / (1 - abar)
    evidence = f"The terminal SNR is {snr:.2g} and the prediction type {case.prediction_type}"
    if case.prediction_type == "epsilon" and snr < MIN_EPSILON_TERMINAL_SNR:
        fix = (
            f'{CONFIG}: "rescale_betas_zero_snr": false, or train with "v_prediction"'
            if case.scheduler_config.get("rescale_betas_zero_snr")
            else "train with --prediction v_prediction, or along another schedule"
        )
        return Finding(
            f"{evidence}: the first step divides by an amplitude of {math.sqrt(max(abar, 0)):.1g} (should be 1e-3 or "
            "more).",
            "Epsilon is asked for where no image is left",
            fix,
            severity=3,
        )
    if snr > 1e-2:
        return Finding(f"{evidence}; some of the image is left at the end, so brightness cannot change freely.")
    return Finding(f"{evidence}: they go together.")


def sampled_schedule(case: Case) -> Finding:
    """The betas in scheduler/ against those that train_config.json says the network was trained along."""
    scheduler = case.required_scheduler
    steps, betas = scheduler.config.num_train_timesteps, len(scheduler.betas)
    if steps != betas:
        return Finding(
            f"num_train_timesteps is {steps}, and there are {betas} trained_betas (should be as many).",
            "The schedule has another length than it says",
            f'{CONFIG}: "num_train_timesteps": {betas}',
            severity=3,
        )
    config = case.config
    trained = trained_schedule(config)
    said = f"trained along {config['schedule']} over {config['num_timesteps']} steps"
    if trained.num_timesteps == steps:
        difference, t = (trained.alpha_bars.sqrt() - case.alpha_bars.sqrt()).abs().max(0)
        if float(difference) <= MAX_AMPLITUDE_DIFFERENCE:
            return Finding(f"{as_sentence(said)}, and sampled along the same.")
        apart = f"abar at t = {int(t)} is {trained.alpha_bars[t]:.3g} in training and {case.alpha_bars[t]:.3g} here"
    else:
        apart = f"here there are {steps} steps"
    return Finding(
        f"{as_sentence(said)}, sampled along {name_of(case.alpha_bars)}: {apart} (should be the same).",
        "It is sampled along another schedule than it was trained on",
        _schedule_fix(case, trained),
        severity=3,
    )


def _schedule_fix(case: Case, trained: Schedule) -> str:
    rescaled = trained.with_zero_terminal_snr().alpha_bars.sqrt()
    if case.scheduler_config.get("rescale_betas_zero_snr") and len(rescaled) == case.num_timesteps:
        difference = (rescaled - case.alpha_bars.sqrt()).abs().max()
        if float(difference) <= MAX_AMPLITUDE_DIFFERENCE:
            return f'{CONFIG}: "rescale_betas_zero_snr": false, for it was trained without'
    made = f"make_schedule({trained.name!r}, {trained.num_timesteps})"
    return f"{CONFIG}: trained_betas and num_train_timesteps of {made}"


def name_of(alpha_bars: Tensor) -> str:
    """What a schedule is called, if it is a registered one over its own number of steps."""
    for name in SCHEDULES:
        for beta_range in ((), STABLE_DIFFUSION_BETAS):
            known = make_schedule(name, len(alpha_bars), *beta_range).alpha_bars
            if torch.allclose(known.sqrt(), alpha_bars.sqrt(), atol=MAX_AMPLITUDE_DIFFERENCE):
                return f"{name} over {len(alpha_bars)}"
    return f"a schedule of {len(alpha_bars)} steps without a name here"
