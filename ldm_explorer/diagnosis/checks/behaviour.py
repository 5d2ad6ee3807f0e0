"""Checks of what the denoiser does with latents: what it predicts, along which schedule, for which labels, how well."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from ldm_explorer.diagnosis.case import Case
from ldm_explorer.diagnosis.checks.settings import CONFIG, as_settings, name_of
from ldm_explorer.diagnosis.floors import loss_floors
from ldm_explorer.diagnosis.judge import MeanFloors, Rung, beats_white, judge, last_tenth
from ldm_explorer.diagnosis.known import OWN_SAMPLES
from ldm_explorer.diagnosis.probes import step_at
from ldm_explorer.diagnosis.reading import floors_of, mean_floors
from ldm_explorer.diagnosis.statistics import LatentStatistics
from ldm_explorer.diagnosis.verdicts import ASK_FOR_IMAGES, Finding, NotRun
from ldm_explorer.networks import part_of
from ldm_explorer.prediction import add_noise, to_z0
from ldm_explorer.run_layout import CONFIG_FILE
from ldm_explorer.schedules import FLOW, SCHEDULES, make_schedule

FITS = 0.9
"""An error below this share of the white floor: this reading of the output knows something."""
CLEARLY_BETTER = 0.7
"""Two readings of which one errs less than this share of the other are not confused by chance."""
NEXT_TO_NOTHING = 0.9
"""Samples that went astray are denoised badly by a good network, too, but not as badly as by one that knows nothing."""
OFF_THE_LOG = 1.25
"""An error above this share of the last validation loss comes from other weights."""
NOISE_LEVELS = (0.9, 0.7, 0.4, 0.15)
"""Share of the variance that is signal: where knowing the noise level matters."""
SHIFTS = (0.25, 0.5, 2, 3, 4, 6, 12)
CANDIDATE_TIMES = 24
TOLD_BETTER = 1.1
"""Healthy networks err at most 1.2 % less when told another time than their own, and barely trained ones 5 %."""


def _ratios(case: Case) -> dict[str, float]:
    """Error over white floor, each averaged over the timesteps, for every reading of the output."""
    losses = case.losses
    return {kind: float(losses[kind].mean() / case.floors(kind).white.mean()) for kind in losses}


def prediction_type(case: Case) -> Finding:
    """The reading of the output that the config names has to fit best."""
    ratios, said = _ratios(case), case.prediction_type
    best = min(ratios, key=lambda kind: ratios[kind])
    numbers = ", ".join(f"{kind} {ratio:.2f}" for kind, ratio in ratios.items())
    source = (case.stored_latents or case.sampled_latents(said)).source
    evidence = f"Error over the white floor on {source}, the output read as {numbers} (below 1 for the right one)"
    trained = case.config.get("prediction") or said
    if trained != said:
        evidence += f"; {CONFIG_FILE} says {trained}"
    if ratios[best] < FITS and not ratios[best] > CLEARLY_BETTER * ratios[said]:
        return Finding(
            f"{evidence}; the config says {said}.",
            f"The output is read as {said}, and it is {best}",
            _prediction_fix(case, best),
            severity=3,
        )
    if not beats_white(ratios[said], 1):
        if trained != said and trained in ratios:  # where the network cannot tell
            return Finding(
                f"{evidence}; the config says {said}, and no reading fits {source}.",
                f"The output is read as {said}, and it was trained as {trained}",
                _prediction_fix(case, trained),
                severity=3,
            )
        why = ASK_FOR_IMAGES if source == OWN_SAMPLES else "it has not learned enough"
        raise NotRun(f"no reading of the output fits {source}, with {numbers} times the white floor: {why}")
    return Finding(f"{evidence}; the config says {said}.")


def _prediction_fix(case: Case, kind: str) -> str:
    if not case.is_flow:
        return f'{CONFIG}: "prediction_type": "{kind}"'
    if kind == "flow":
        return f"{CONFIG}: that of a FlowMatchEulerDiscreteScheduler"
    return (
        f'{CONFIG}: that of a DPMSolverMultistepScheduler, with "use_flow_sigmas": true and "prediction_type": "{kind}"'
    )


def schedule_by_behaviour(case: Case) -> Finding:
    """For a folder without a record: at given noise, the timestep of the config has to be the one that serves best."""
    if case.config.get("schedule") in (*SCHEDULES, FLOW):
        raise NotRun(f"{CONFIG_FILE} says along which schedule it was trained, and that is checked")
    told = [step_at(case.schedule, level) for level in NOISE_LEVELS]
    candidates = torch.linspace(0, max(1000, case.num_timesteps) - 1, CANDIDATE_TIMES).round().long().tolist()
    errors = [_errors_when_told(case, timestep, [*candidates, timestep]) for timestep in told]
    best = [min(row, key=row.__getitem__) for row in errors]
    white = case.floors("sample", told).white.tolist()
    if not sum(min(row.values()) < FITS * floor for row, floor in zip(errors, white, strict=True)) > len(told) / 2:
        raise NotRun("told any timestep, the network knows no more than the scale of the latents")
    excess = [row[timestep] / min(row.values()) for row, timestep in zip(errors, told, strict=True)]
    pairs = ", ".join(f"{timestep}: {time}" for timestep, time in zip(told, best, strict=True))
    evidence = f"At the noise of the config's timestep it denoises best when told {pairs} (should be near)"
    shown = sorted(excess)[-2] if case.known_latents().source == OWN_SAMPLES else max(excess)  # its own may be odd
    if shown < TOLD_BETTER:
        return Finding(f"{evidence}; being told the config's costs at most {max(excess) - 1:.0%}.")
    evidence += f"; being told the config's costs up to {max(excess) - 1:.0%} more error. The config is "
    like, reason, fix = _other_times(case, told, errors, candidates)
    return Finding(
        f"{evidence}{name_of(case.schedule)}, the network answers most like {like}.", reason, fix, severity=3
    )


def _other_times(
    case: Case, told: list[int], errors: list[dict[int, float]], candidates: list[int]
) -> tuple[str, str, str]:
    """What was most likely trained along, what is wrong then, and what to write where."""
    if case.is_flow:
        return (
            _nearest(_flows(np.array(told) / case.num_timesteps, case.num_timesteps), errors, candidates),
            "It is told other times than in training",
            f"{part_of(case.network)}/: tell it the time of the noise in training, s * num_train_timesteps, also where "
            "s was shifted",
        )
    known = {f"{name} over {steps}": make_schedule(name, steps) for name in SCHEDULES for steps in (250, 500, 1000)}
    times = {name: [step_at(one, level) for level in NOISE_LEVELS] for name, one in known.items()}
    like = _nearest(times, errors, candidates)
    settings = as_settings(known[like], case.scheduler_config)
    return (
        like,
        "It is sampled along another schedule than it was trained on",
        f"{CONFIG}: {settings}, or the betas of training where they were others",
    )


def _errors_when_told(case: Case, timestep: int, candidates: list[int]) -> dict[int, float]:
    """Error of the clean latent at the noise of `timestep`, by the timestep that the network is told."""
    known = case.known_latents()
    chosen = torch.linspace(0, len(known.z0) - 1, min(case.batch_size // 4, len(known.z0))).long()
    z0, labels = known.z0[chosen], None if known.labels is None else known.labels[chosen]
    mixed = case.amplitudes[timestep]
    z_t = add_noise(z0, torch.randn(z0.shape, generator=torch.Generator().manual_seed(3)), mixed)

    def error(told: int) -> float:
        clean = to_z0(case.prediction_type, case.predict(z_t, told, labels), z_t, mixed)
        return float((clean - z0).square().mean())

    return {told: error(told) for told in candidates}


def _nearest(
    known: Mapping[str, Sequence[float] | np.ndarray], errors: list[dict[int, float]], candidates: list[int]
) -> str:
    """The one whose times at these noise levels give the least error, read between candidates."""
    rows = [np.log([row[told] for told in candidates]) for row in errors]

    def excess(name: str) -> float:
        return sum(float(np.interp(t, candidates, row)) for t, row in zip(known[name], rows, strict=True))

    return min(known, key=excess)


def _flows(s: np.ndarray, num_timesteps: int) -> dict[str, np.ndarray]:
    """What is told at the times `s` of a flow, over another length, or where noise was shifted and times were not."""
    told = {f"a flow over {length}": s * length for length in (100, 250, 500, 1000)}
    shifted = "a flow whose noise was shifted by {:g}, and the times that it is told were not"
    return told | {shifted.format(k): num_timesteps * s / (k - (k - 1) * s) for k in SHIFTS}


_UNTRAINED = Finding(
    "should be well below the first",
    "The network looks untrained: its error is no better than knowing nothing but the scale",
    "train it longer; if the log stood still early, with a lower --learning-rate, warm-up and clipping",
    severity=3,
)
ACCUSED: dict[Rung, Finding] = {
    Rung.NOTHING_TO_LEARN: Finding(
        "knowing every training image should give far less than the first",
        "The latents are next to noise: there is nothing in them to be learned",
        "train the autoencoder again with a lower --kl-weight",
        severity=3,
    ),
    Rung.NOTHING: _UNTRAINED,
    Rung.SCALE: _UNTRAINED,
    Rung.PART_OF_COVARIANCE: Finding(
        "should be near the second or below",
        "It needs more training: so far it knows less than covariances do",
        "train longer: --max-minutes, --max-steps",
        severity=1,
    ),
}
"""What is wrong with a network on these rungs; their evidence says what should be."""
OTHER_WEIGHTS = Finding(
    "should be near the log's end",
    "These are not the weights that the log speaks of",
    "take the final, averaged weights of the run",
    severity=2,
)


def learned(case: Case) -> Finding:
    """The denoiser's error against what knowing only the scale, or the covariance, would reach.

    Where the run's log has floors it is the log that is judged, as in the training room: the error here is of few
    latents, and only shows whether the weights are those of the log.
    """
    known, floors, of_log = case.known_latents(), _floors_measured(case), _floors_of_log(case)
    loss = float(case.losses[case.prediction_type].mean())
    logged = [line["validation_loss"] for line in case.log if "validation_loss" in line]
    off_the_log = bool(logged) and known.source != OWN_SAMPLES and loss > OFF_THE_LOG * last_tenth(logged)
    judged_by = of_log if logged and not off_the_log else None
    rung = judge(loss, floors) if judged_by is None else judge(last_tenth(logged), judged_by)
    if known.source == OWN_SAMPLES and rung is Rung.SCALE and loss < NEXT_TO_NOTHING * floors.zero:
        raise NotRun(f"its own samples went astray, with an error of {loss:.3f} on them: {ASK_FOR_IMAGES}")
    evidence = f"Its error on {known.source}, averaged over {len(case.timesteps)} timesteps, is {loss:.3f}; "
    evidence += f"knowing the scale alone gives {floors.white:.3f}"
    evidence += f", the covariance {floors.gaussian:.3f}" if floors.gaussian else ""
    evidence += f", every training image {floors.memorising:.3f}" if rung is Rung.NOTHING_TO_LEARN else ""
    evidence += f"; the log ended at {last_tenth(logged):.3f}" if logged else ""
    evidence += f", where the covariance gives {judged_by.gaussian:.3f}" if judged_by else ""
    wrong = [found for found in (OTHER_WEIGHTS if off_the_log else None, ACCUSED.get(rung)) if found]
    if not wrong:
        return Finding(f"{evidence}.")
    worst = max(wrong, key=lambda finding: finding.severity)
    return replace(worst, evidence=f"{evidence} ({worst.evidence}).")


def _floors_measured(case: Case) -> MeanFloors:
    """The floors over the timesteps at which the error is measured."""
    floors = case.floors(case.prediction_type)
    return MeanFloors(float(floors.zero.mean()), float(floors.white.mean()), _gaussian(case), _memorising(case))


def _floors_of_log(case: Case) -> MeanFloors | None:
    """The floors over all timesteps, by which the training room reads the log; None where they were not kept."""
    statistics = _statistics_of_schedule(case)
    if statistics is None:
        return None
    conditional = bool(case.num_labels)
    return mean_floors(floors_of(statistics, case.prediction_type, case.amplitudes, conditional))


def _memorising(case: Case) -> float | None:
    """The memorising floor over the timesteps, None where it was not kept for this schedule, or is not there yet."""
    statistics = _statistics_of_schedule(case)
    if statistics is None or statistics.memorising is None:
        return None
    return float(statistics.memorising_floor(case.prediction_type, case.amplitudes)[case.timesteps].mean())


def _statistics_of_schedule(case: Case) -> LatentStatistics | None:
    """What was kept of the latents; None without, and where its memorising floor is that of another schedule."""
    statistics = case.statistics
    if statistics is None or int(statistics.memorising_timesteps[-1]) != len(case.amplitudes) - 1:
        return None
    return statistics


def _gaussian(case: Case) -> float | None:
    """The Gaussian floor over the timesteps, of its class where the network knows it; None without eigenvalues."""
    if case.statistics is None:
        return None
    of_classes = case.statistics.class_eigenvalues if case.num_labels else None
    spectra = case.statistics.eigenvalues if of_classes is None else of_classes
    amplitudes = case.amplitudes[case.timesteps]
    rows = spectra.view(-1, spectra.shape[-1])
    return float(torch.stack([loss_floors(case.prediction_type, amplitudes, row).gaussian for row in rows]).mean())
