"""Checks that read settings alone: clipping, and the schedule that was trained along."""

import inspect
import json
import math
from typing import Any

import diffusers
import torch
from diffusers import DDPMScheduler

from ldm_explorer.diagnosis.case import Case
from ldm_explorer.diagnosis.verdicts import Finding, NotRun
from ldm_explorer.files import as_sentence
from ldm_explorer.run_files import SchedulerConfig, trained_schedule
from ldm_explorer.run_layout import CONFIG_FILE, SCHEDULER_FILE
from ldm_explorer.samplers import shift_of
from ldm_explorer.schedules import (
    DEFAULT_BETA_END,
    DEFAULT_BETA_START,
    DIFFUSERS_NAMES,
    FLOW,
    SCHEDULES,
    STABLE_DIFFUSION_BETAS,
    BetaSchedule,
    Schedule,
    make_schedule,
)

CONFIG = SCHEDULER_FILE
MAX_CLIPPED_SHARE = 1e-3
MAX_AMPLITUDE_DIFFERENCE = 2e-3
"""How far sqrt(abar) may be off: rounding betas to fp16 stays below it."""


def setting(case: Case, name: str, without: Any) -> Any:
    """A field of the scheduler's config, else the default of its class; `without` for a class that lacks it."""
    scheduler = getattr(diffusers, str(case.scheduler_config.get("_class_name")), DDPMScheduler)
    known = inspect.signature(scheduler.__init__).parameters
    return case.scheduler_config.get(name, known[name].default) if name in known else without


def walks_every_step(case: Case) -> bool:
    """Whether it is sampled in all T steps, as others' pipelines do with DDPM's scheduler; our runs are in few."""
    return case.scheduler_config.get("_class_name", "DDPMScheduler") == "DDPMScheduler" and not case.config


def clipping(case: Case) -> Finding:
    """`clip_sample` cuts predicted latents at +-1, and `thresholding` scales them to that: right for pixels alone."""
    on = [name for name in ("clip_sample", "thresholding") if setting(case, name, False)]
    if not on:
        return Finding("clip_sample is off.")
    said = f"{' and '.join(on)} {'is' if len(on) == 1 else 'are'} on"
    if case.vae is None:
        return Finding(f"{said}, as it may be for pixels in [-1, 1].")
    bound = float(setting(case, "sample_max_value" if "thresholding" in on else "clip_sample_range", 1.0))
    known = case.stored_latents
    share = math.erfc(bound / math.sqrt(2)) if known is None else float((known.z0.abs() > bound).float().mean())
    source = "a unit Gaussian's values" if known is None else f"the values of {len(known.z0)} {known.source}"
    evidence = f"{said}: it cuts at ±{bound:g}, beyond which lie {share:.1%} of {source} (should be 0)."
    if share <= MAX_CLIPPED_SHARE:
        return Finding(evidence)
    fix = ", ".join(f'"{name}": false' for name in on)
    return Finding(evidence, "The sampler clips the latents", f"{CONFIG}: {fix}", severity=2)


def sampled_schedule(case: Case) -> Finding:
    """As many betas as timesteps, and those that train_config.json says the network was trained along."""
    steps, betas = case.required_scheduler.config.num_train_timesteps, case.schedule.num_timesteps
    if steps != betas:
        return Finding(
            f"num_train_timesteps is {steps}, and there are {betas} trained_betas (should be as many).",
            "The schedule has another length than it says",
            f'{CONFIG}: "num_train_timesteps": {betas}',
            severity=3,
        )
    config = case.config
    if config.get("schedule") not in (*SCHEDULES, FLOW) or "num_timesteps" not in config:
        raise NotRun(f"it needs a {CONFIG_FILE} that says along which schedule it was trained")
    trained = trained_schedule(config)
    said = f"trained along {config['schedule']} over {config['num_timesteps']} steps"
    if trained.num_timesteps == steps:
        difference, t = (trained.amplitudes.a - case.amplitudes.a).abs().max(0)
        if float(difference) <= MAX_AMPLITUDE_DIFFERENCE:
            shift = shift_of(case.required_scheduler)
            spaced = f", its steps spaced by a shift of {shift:g}" if shift != 1 else ""
            return Finding(f"{as_sentence(said)}, and sampled along the same{spaced}.")
        shares = (f"{float(mixed.a[t].square()):.3g}" for mixed in (trained.amplitudes, case.amplitudes))
        apart = f"abar at t = {int(t)} is {' in training and '.join(shares)} here"
    else:
        apart = f"here there are {steps} steps"
    return Finding(
        f"{as_sentence(said)}, sampled along {name_of(case.schedule)}: {apart} (should be the same).",
        "It is sampled along another schedule than it was trained on",
        _schedule_fix(case, trained),
        severity=3,
    )


def _schedule_fix(case: Case, trained: Schedule) -> str:
    if not isinstance(trained, BetaSchedule):
        return f"{CONFIG}: that of a FlowMatchEulerDiscreteScheduler over {trained.num_timesteps} timesteps"
    rescaled = trained.with_zero_terminal_snr().amplitudes.a
    if case.scheduler_config.get("rescale_betas_zero_snr") and len(rescaled) == case.num_timesteps:
        difference = (rescaled - case.amplitudes.a).abs().max()
        if float(difference) <= MAX_AMPLITUDE_DIFFERENCE:
            return f'{CONFIG}: "rescale_betas_zero_snr": false, for it was trained without'
    made = f"make_schedule({trained.name!r}, {trained.num_timesteps})"
    if case.is_flow:
        predicts = f"which predicts {case.config.get('prediction', 'v_prediction')}"
        return f"{CONFIG}: that of a DDPMScheduler with trained_betas of {made}, {predicts}"
    return f"{CONFIG}: trained_betas and num_train_timesteps of {made}"


def as_settings(schedule: BetaSchedule, config: SchedulerConfig) -> str:
    """The lines of a scheduler's config that give a registered schedule with its usual betas."""
    wanted: dict[str, Any] = {
        "beta_schedule": DIFFUSERS_NAMES.get(schedule.name, schedule.name),
        "num_train_timesteps": schedule.num_timesteps,
    }
    if schedule.name != "cosine":  # which has no range
        usual = {"beta_start": DEFAULT_BETA_START, "beta_end": DEFAULT_BETA_END}
        wanted |= {name: value for name, value in usual.items() if config.get(name, value) != value}
    if config.get("trained_betas") is not None:
        wanted["trained_betas"] = None
    if config.get("rescale_betas_zero_snr"):
        wanted["rescale_betas_zero_snr"] = False
    return ", ".join(f'"{name}": {json.dumps(value)}' for name, value in wanted.items())


def name_of(schedule: Schedule) -> str:
    """What a schedule is called, if it is a registered one over its own number of steps."""
    if not isinstance(schedule, BetaSchedule):
        return f"{schedule.name} over {schedule.num_timesteps}"
    for name in SCHEDULES:
        for beta_range in ((), STABLE_DIFFUSION_BETAS):
            known = make_schedule(name, schedule.num_timesteps, *beta_range).amplitudes
            if torch.allclose(known.a, schedule.amplitudes.a, atol=MAX_AMPLITUDE_DIFFERENCE):
                return f"{name} over {schedule.num_timesteps}"
    return f"a schedule of {schedule.num_timesteps} steps without a name here"
