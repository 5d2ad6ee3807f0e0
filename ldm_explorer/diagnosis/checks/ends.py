"""Checks of where sampling starts: what is left of the image there, for the steps that are really visited."""

import torch
from torch import Tensor

from ldm_explorer.diagnosis.case import Case
from ldm_explorer.diagnosis.checks.settings import CONFIG, setting, walks_every_step
from ldm_explorer.diagnosis.verdicts import Finding, NotRun
from ldm_explorer.samplers import DEFAULT_NUM_STEPS, shift_of, shifted
from ldm_explorer.schedules import MAX_TERMINAL_SNR, MIN_EPSILON_TERMINAL_SNR

MAX_STEP = 0.6
"""Of a flow's way from noise to data. The largest shifts in use, about 12, leave their last of ten steps .57 of it."""
OTHER_SPACINGS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "stochastic_sampling")
MIN_FLOW_AMPLITUDE = 0.9e-3
HELPS = 0.1
"""Another spacing has to leave at most this share of the SNR to be asked for."""


def snr(case: Case, timestep: int) -> float:
    share = float(case.amplitudes.map(Tensor.double)[timestep].signal_share)
    return share / max(1 - share, 1e-12)


def spacing(case: Case) -> Finding:
    """With "leading" a run of few steps starts below T - 1, where its pure noise is not what the network knows."""
    if case.is_flow:
        return _flow_steps(case)
    kind, last = setting(case, "timestep_spacing", "trailing"), case.num_timesteps - 1
    if kind != "leading":
        return Finding(f'timestep_spacing is "{kind}": few steps also start at t = {last}.')
    if case.vae is None:
        return Finding('timestep_spacing is "leading": no matter while all steps are walked, as pixel pipelines do.')
    steps = min(DEFAULT_NUM_STEPS, case.num_timesteps)
    first = case.num_timesteps // steps * (steps - 1) + setting(case, "steps_offset", 0)
    evidence = (
        f'timestep_spacing is "leading": {steps} steps start at t = {first} in place of {last}, where the SNR is '
        f"{snr(case, first):.2g} in place of {snr(case, last):.2g} (should be below {MAX_TERMINAL_SNR:g})"
    )
    if snr(case, first) <= MAX_TERMINAL_SNR or snr(case, last) > HELPS * snr(case, first):
        return Finding(f"{evidence}: starting later would change little.")
    if _epsilon_is_lost(case):
        return Finding(f"{evidence}; at t = {last} epsilon would say nothing of the image.")
    fix = f'{CONFIG}: "timestep_spacing": "trailing"'
    return Finding(f"{evidence}.", "Sampling starts too late in the schedule", fix, severity=1)


def _flow_steps(case: Case) -> Finding:
    """A shift takes steps from one end of a flow to the other: where they are few, none may go most of the way."""
    if unread := [name for name in OTHER_SPACINGS if case.scheduler_config.get(name)]:
        raise NotRun(f"its steps are spaced by {' and '.join(unread)}, which is not read")
    shift, times = shift_of(case.required_scheduler), torch.linspace(1, 0, DEFAULT_NUM_STEPS + 1)
    visited = torch.as_tensor(shifted(times, shift))
    longest, at = (-visited.diff()).max(0)
    evidence = (
        f"With a shift of {shift:g} the longest of {DEFAULT_NUM_STEPS} steps leads from s = {float(visited[at]):.2f} "
        f"to {float(visited[at + 1]):.2f} (should be no more than {MAX_STEP:g} of the way)"
    )
    if float(longest) <= MAX_STEP:
        return Finding(f"{evidence}.")
    name = "shift" if case.prediction_type == "flow" else "flow_shift"
    return Finding(
        f"{evidence}.", "The shift leaves most of the way to one step", f'{CONFIG}: "{name}": 1.0', severity=2
    )


def terminal_snr(case: Case) -> Finding:
    """At the end nothing may be left of the image, but for epsilon a little has to be (Lin et al. 2023, section 3)."""
    last = case.num_timesteps - 1
    evidence = f"The terminal SNR is {snr(case, last):.2g} and the prediction type {case.prediction_type}"
    if snr(case, last) > MAX_TERMINAL_SNR:
        return Finding(
            f"{evidence}: at t = {last} {float(case.amplitudes.a[last]):.0%} of the image's amplitude is left "
            f"(the SNR should be below {MAX_TERMINAL_SNR:g}), and sampling starts from pure noise.",
            "The schedule ends early: sampling starts from noise that training never saw",
            "train along a schedule that ends in noise: cosine, or linear with more timesteps or a larger beta_end",
            severity=2,
        )
    if not _epsilon_is_lost(case):
        return Finding(f"{evidence}: they go together.")
    amplitude = _first_amplitude(case) if case.is_flow else float(case.amplitudes.a[last])
    evidence += f": the first step divides by an amplitude of {amplitude:.1g} (should be 1e-3 or more)"
    if not _visits_the_end(case):
        return Finding(f'{evidence}, but with "leading" spacing it is not walked.')
    fix = "train with --prediction v_prediction, or along another schedule"
    if case.scheduler_config.get("rescale_betas_zero_snr"):
        fix = f'{CONFIG}: "rescale_betas_zero_snr": false, or train with "v_prediction"'
    if case.is_flow:
        fix = f'{CONFIG}: "flow_shift": 1.0, or train with --prediction flow'
    return Finding(f"{evidence}.", "Epsilon is asked for where no image is left", fix, severity=3)


def _epsilon_is_lost(case: Case) -> bool:
    """Whether z0 = (z - b eps) / a is out of bounds at T - 1; that of pixels is clipped, unless a is 0."""
    if case.is_flow:
        return case.prediction_type == "epsilon" and _first_amplitude(case) < MIN_FLOW_AMPLITUDE
    last = case.num_timesteps - 1
    clipped = case.vae is None and setting(case, "clip_sample", False) and float(case.amplitudes.a[last]) > 0
    return case.prediction_type == "epsilon" and snr(case, last) < MIN_EPSILON_TERMINAL_SNR and not clipped


def _first_amplitude(case: Case) -> float:
    """The signal's where diffusers' solvers begin along a flow, at s = .999 before the shift."""
    return 1 - float(shifted(1 - 1 / case.num_timesteps, shift_of(case.required_scheduler)))


def _visits_the_end(case: Case) -> bool:
    """Whether T - 1 is walked: with "leading" by runs of all T steps alone."""
    return walks_every_step(case) or setting(case, "timestep_spacing", "trailing") != "leading"
