"""What a diagnosis says to change, as a change of a sampling run: the line of its fix, put into effect."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from ldm_explorer.denoiser import NetworkDenoiser
from ldm_explorer.diagnosis.changes import Change, along, configured
from ldm_explorer.diagnosis.sampling import Sampling
from ldm_explorer.diagnosis.verdicts import Verdict
from ldm_explorer.networks import NETWORKS, rebuilt
from ldm_explorer.run_layout import SCHEDULER_FILE, VAE, config_of
from ldm_explorer.schedules import SCHEDULES, FlowSchedule, make_schedule

_FIELD = re.compile(r'"(\w+)": (\[[^\]]*\]|"[^"]*"|[^\s,;)]+)')
_SCHEDULE = re.compile(r"make_schedule\('(\w+)', (\d+)\)|most like (\w+) over (\d+)")
_PATH = re.compile(r"FlowMatchEulerDiscreteScheduler over (\d+)|make_schedule\('(\w+)', (\d+)\), which predicts (\w+)")
_SHIFT = re.compile(r"give label \+ (\d+)")

OF_A_SOLVER = {"shift": "flow_shift"}
"""What faults are shown with is DPM-Solver++ along a flow, which has a field of another name."""


def remedy(verdict: Verdict) -> Change | None:
    """The change that a cause's fix names: fields of a config, a schedule, or other labels. None where it has to be
    trained again, or no value is named."""
    file, _, line = verdict.fix.partition(": ")
    fields = _fields(line)
    if file == SCHEDULER_FILE and (path := _PATH.search(line)):
        return _along_another(*path.groups())
    if file == SCHEDULER_FILE and (schedule := _SCHEDULE.search(f"{line} {verdict.evidence}")) and not fields:
        return _along(*(group for group in schedule.groups() if group))
    if shift := _SHIFT.search(verdict.fix):
        return _relabelled(int(shift[1]))
    if not fields or "and train" in line:
        return None
    if file == SCHEDULER_FILE:
        return configured(**{OF_A_SOLVER.get(name, name): value for name, value in fields.items()})
    if file == config_of(VAE):
        return _scaled(**fields)
    return _built(**fields) if file in map(config_of, NETWORKS) else None


def _fields(line: str) -> dict[str, Any]:
    """The settings that a line names with their values, as JSON has them."""
    found = {}
    for name, value in _FIELD.findall(line):
        try:
            found[name] = json.loads(value)
        except ValueError:  # a row of numbers that is cut short
            continue
    return found


def _along(name: str, num_timesteps: str) -> Change | None:
    if name not in SCHEDULES:
        return None
    betas = make_schedule(name, int(num_timesteps)).betas.tolist()
    return configured(trained_betas=betas, num_train_timesteps=len(betas), rescale_betas_zero_snr=False)


def _along_another(of_flow: str | None, name: str, of_betas: str, prediction_type: str) -> Change | None:
    """A flow in the place of betas, or the other way round."""
    if of_flow:
        return along(FlowSchedule(int(of_flow)), "flow")
    return along(make_schedule(name, int(of_betas)), prediction_type) if name in SCHEDULES else None


def _relabelled(shift: int) -> Change:
    def change(sampling: Sampling) -> Sampling:
        classes = sampling.pipeline.denoiser.num_classes or 1
        return replace(sampling, relabel=lambda labels: (labels + shift) % classes)

    return change


def _scaled(
    latents_mean: Sequence[float] = (),
    latents_std: Sequence[float] = (),
    scaling_factor: float = 0.0,
    shift_factor: float | None = None,
    **_: Any,
) -> Change | None:
    """Latents normalised by other numbers than the config's."""
    if scaling_factor:
        latents_mean, latents_std = [shift_factor or 0.0], [1 / scaling_factor]
    elif shift_factor is not None:
        return _shifted(shift_factor)
    if not latents_mean or not latents_std:
        return None
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (latents_mean, latents_std))

    def change(sampling: Sampling) -> Sampling:
        codec = sampling.pipeline.codec
        return replace(
            sampling,
            encode=lambda pixels: (codec.encode(pixels) * codec.std + codec.mean - mean) / std,
            decode=lambda latents: codec.decode((latents * std + mean - codec.mean) / codec.std),
        )

    return change


def _shifted(shift_factor: float) -> Change:
    """The same for another mean, at the config's scale."""

    def change(sampling: Sampling) -> Sampling:
        codec = sampling.pipeline.codec
        moved = (codec.mean - shift_factor) / codec.std
        return replace(
            sampling,
            encode=lambda pixels: codec.encode(pixels) + moved,
            decode=lambda latents: codec.decode(latents - moved),
        )

    return change


def _built(**fields: Any) -> Change:
    """The same weights in a network with other settings."""

    def change(sampling: Sampling) -> Sampling:
        network = rebuilt(sampling.pipeline.network, **fields)
        own = sampling.pipeline.denoiser
        denoiser = NetworkDenoiser(network, own.prediction_type, own.schedule, own.num_classes)
        return replace(sampling, denoiser=denoiser)

    return change
