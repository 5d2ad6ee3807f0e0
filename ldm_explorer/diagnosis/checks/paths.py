"""The check of the path from data to noise that a network was trained along: betas or a flow, and a flow's direction.

The same image under the same share of noise is given to the network as each path has it, and its output read as what
is predicted there. Told a path that it was not trained along, no network knows more than along its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ldm_explorer.amplitudes import Amplitudes
from ldm_explorer.diagnosis.case import Case
from ldm_explorer.diagnosis.checks.settings import CONFIG, name_of
from ldm_explorer.diagnosis.floors import loss_floors
from ldm_explorer.diagnosis.known import KnownLatents, spread
from ldm_explorer.diagnosis.probes import BETTER, FITS, MAX_LATENTS, step_at
from ldm_explorer.diagnosis.verdicts import ASK_FOR_IMAGES, Finding, NotRun
from ldm_explorer.networks import part_of
from ldm_explorer.prediction import add_noise, to_z0
from ldm_explorer.samplers import prediction_types_of
from ldm_explorer.schedules import DEFAULT_NUM_TIMESTEPS, SCHEDULES, FlowSchedule, Schedule, make_schedule

NOISE_LEVELS = (0.8, 0.4, 0.15)
"""Shares of the variance that are signal. At one half a flow looks the same from both of its ends."""
SCALES = 0.4, 2.5
"""By what its own output may be multiplied."""


@dataclass(frozen=True, eq=False)
class Path:
    """A schedule, and what its output is read as; reversed, a flow has its data at s = 1."""

    schedule: Schedule
    prediction_type: str
    reversed_time: bool = False
    sign: int = 1  # -1: the output is the opposite of what is read

    @property
    def is_flow(self) -> bool:
        return isinstance(self.schedule, FlowSchedule)

    @property
    def name(self) -> str:
        if not self.is_flow:
            return f"{self.prediction_type} along {name_of(self.schedule)}"
        output = "-u = z0 - eps" if self.sign < 0 else "u = eps - z0"
        kind = output if self.prediction_type == "flow" else self.prediction_type
        return f"{kind} along a flow with data at s = {int(self.reversed_time)}"


def path(case: Case) -> Finding:
    """No other path may fit the network clearly better than the config's, whatever its output is read as there."""
    known = case.stored_latents
    if known is None:  # the network's own samples fit it, whatever it does
        raise NotRun(f"it needs images: {ASK_FOR_IMAGES}")
    own = [Path(case.schedule, kind) for kind in prediction_types_of(case.schedule)]
    errors = _errors(case, known, [*own, *_others(case)], own)
    best = min(errors, key=lambda one: errors[one])
    best_own = min(own, key=lambda one: errors[one])
    evidence = f"Its error over the white floor is {errors[best_own]:.2f} for {best_own.name}"
    if best.is_flow == case.is_flow and not best.reversed_time and best.sign > 0:
        return Finding(f"{evidence}, the best of all paths.")
    evidence += f", and {errors[best]:.2f} for {best.name}"
    if not (errors[best] < FITS and errors[best] < BETTER * errors[best_own]):
        return Finding(f"{evidence}: no clear difference.")
    return Finding(f"{evidence} (its own should be the best).", *_accusation(best, part_of(case.network)), severity=3)


def _accusation(best: Path, part: str) -> tuple[str, str]:
    """What is said of it, and how it is put right."""
    if best.reversed_time:
        return (
            "A flow's time runs the other way: it was trained with data at s = 1",
            f"{part}/: tell it num_train_timesteps - t{' and turn its output around' if best.sign < 0 else ''}, or "
            "train with data at s = 0, as diffusers has it",
        )
    if best.sign < 0:
        return "The velocity points the other way: it predicts z0 - eps", f"{part}/: turn its output around"
    if best.is_flow:
        return (
            "It predicts the flow velocity u = eps - z0, and is sampled along betas",
            f"{CONFIG}: that of a FlowMatchEulerDiscreteScheduler over {best.schedule.num_timesteps} timesteps",
        )
    made = f"make_schedule({best.schedule.name!r}, {best.schedule.num_timesteps})"
    return (
        f"It predicts {best.prediction_type} along betas, and is sampled as a flow",
        f"{CONFIG}: that of a DDPMScheduler with trained_betas of {made}, which predicts {best.prediction_type}",
    )


def _others(case: Case) -> Iterator[Path]:
    """All that a network may have been trained along."""
    for length in {case.num_timesteps, DEFAULT_NUM_TIMESTEPS}:
        flow = FlowSchedule(length)
        for reversed_time in (False, True):
            yield from (Path(flow, "flow", reversed_time, sign) for sign in (1, -1))
        for schedule in (make_schedule(name, length) for name in SCHEDULES):
            yield from (Path(schedule, kind) for kind in prediction_types_of(schedule))


def _errors(case: Case, known: KnownLatents, paths: list[Path], own: list[Path]) -> dict[Path, float]:
    """Squared error of the clean latents over the white floor, mean over the noise levels; an output serves all
    readings of one path.

    Its own may have another scale, and be told no label: faults of these are named by checks of theirs.
    """
    chosen = spread(len(known.z0), min(MAX_LATENTS, case.batch_size))
    z0, labels = known.z0[chosen], None if known.labels is None else known.labels[chosen]
    eps = torch.randn(z0.shape, generator=torch.Generator().manual_seed(7))
    outputs: dict[tuple, Tensor] = {}
    told_labels = (labels, None) if labels is not None and case.null_class is not None else (labels,)

    def error(one: Path, signal_share: float) -> float:
        step = step_at(one.schedule, signal_share)
        mixed, told = one.schedule.amplitudes[step], one.schedule.timesteps[step]
        z_t = add_noise(z0, eps, mixed)
        told = one.schedule.num_timesteps - told if one.reversed_time else told
        tried = []
        for place, given in enumerate(told_labels if one in own else told_labels[:1]):
            key = id(one.schedule), signal_share, one.reversed_time, place
            if key not in outputs:
                outputs[key] = case.predict(z_t, told - case.schedule.first_timestep, given)
            z0_hat = to_z0(one.prediction_type, one.sign * outputs[key], z_t, mixed)
            if one in own:
                z0_hat = _rescaled(z0_hat, to_z0(one.prediction_type, torch.zeros_like(z_t), z_t, mixed), z0)
            tried.append(float((z0_hat - z0).square().mean() / _white(z0, mixed)))
        return min(tried)

    return {one: sum(error(one, level) for level in NOISE_LEVELS) / len(NOISE_LEVELS) for one in paths}


def _rescaled(z0_hat: Tensor, without: Tensor, z0: Tensor) -> Tensor:
    """What a network's answer becomes when its output is scaled by what fits best; `without` is that of no output."""
    part = z0_hat - without
    scale = ((z0 - without) * part).sum() / part.square().sum().clamp_min(1e-12)
    return without + scale.clamp(*SCALES) * part


def _white(z0: Tensor, mixed: Amplitudes) -> Tensor:
    one = mixed.map(lambda value: value[None])
    return loss_floors("sample", one, z0.var()[None]).white
