"""What a diagnosis found in a checkpoint, seen: the model as it is, beside it with the fix or beside a healthy one."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.diagnosis.case import Case
from ldm_explorer.diagnosis.checks import CHECKS
from ldm_explorer.diagnosis.checks.settings import setting
from ldm_explorer.diagnosis.examination import run_check
from ldm_explorer.diagnosis.fault import Fault, Symptom
from ldm_explorer.diagnosis.faults import FAULTS, fault_of, lab_checkpoint
from ldm_explorer.diagnosis.remedies import remedy
from ldm_explorer.diagnosis.sampling import Sampling, divisor
from ldm_explorer.diagnosis.verdicts import Verdict
from ldm_explorer.evaluation.features import FeatureNet
from ldm_explorer.explore.diagnosis import case_of
from ldm_explorer.explore.faults import Experiment, FaultFrame, Subject, run_experiment
from ldm_explorer.latents import in_batches
from ldm_explorer.samplers import is_flow

HEALTHY = "lab-healthy"
"""Stands beside a model that has to be trained again: no change of a setting would show what is wrong."""

CLIPPING = "clipping"
"""The check that accuses a scheduler of it."""
FAR_OFF = 4 / 3
"""Times larger or smaller, from which on a standard deviation is none of images."""


@dataclass(frozen=True)
class OwnFault:
    """`experiment.broken` is the checkpoint as it is, `experiment.right` what stands beside it, of `beside`."""

    verdict: Verdict
    experiment: Experiment
    subject: Subject
    beside: Subject

    @property
    def is_fixed(self) -> bool:
        """Whether the right run is the same model with the fix."""
        return self.beside is self.subject

    def what_is_left(self, last: FaultFrame) -> str:
        """A sentence where the fix leaves latents of another spread than images have; else ""."""
        if not self.is_fixed or self.experiment.fault.symptom != "latents_std":
            return ""
        right, originals = self.experiment.right, self.subject.originals
        wanted = 1.0 if originals is None else float(in_batches(right.encode, originals).std())
        if wanted / FAR_OFF < last.right_symptom < wanted * FAR_OFF:
            return ""
        timesteps = right.scheduler.config.num_train_timesteps
        walked = "Euler's steps" if is_flow(right.scheduler) else "steps of DDIM"
        return (
            f"Even with the fix the standard deviation is {last.right_symptom:.3g}, where images have {wanted:.3g}: "
            f"what is left is of the network itself, or of {right.num_steps} {walked} in place of the {timesteps:,} "
            "that it was trained along."
        )

    def steps(self) -> Iterator[FaultFrame]:
        """Both runs from the same noise, step by step."""
        return run_experiment(self.experiment, self.subject, self.beside)


def find_own_fault(checkpoint: Checkpoint, cause: str, classifier: FeatureNet | None, seed: int) -> OwnFault:
    """What the check `cause` finds in a checkpoint.

    Raises `ValueError` for an autoencoder alone, for a check that finds nothing there, and where no number of steps
    divides the schedule.
    """
    if not checkpoint.has_denoiser:
        raise ValueError(f"{checkpoint.name} is an autoencoder, from which nothing is sampled: its diagnosis says more")
    case = case_of(checkpoint)
    verdict = _verdict(cause, case)
    if verdict.status != "suspect":
        why = f", as it was not run ({verdict.evidence})" if verdict.status == "not run" else ""
        raise ValueError(f"this check accuses {checkpoint.name} of nothing{why}: its diagnosis says more")
    known = FAULTS.get(fault_of(cause) or "")
    broken = _as_it_is(checkpoint, case)
    if known is not None and known.lab_run is None:
        broken = known.base(broken)
    change = remedy(verdict)
    subject = beside = Subject.of(checkpoint, classifier, seed)
    if change is None:
        healthy = lab_checkpoint(HEALTHY)
        beside, right = Subject.of(healthy, None, seed), Sampling.right(healthy.pipeline)
    else:
        right = change(broken)
    symptom = _measurable(known.symptom if known else "latents_std", subject, beside)
    fault = Fault(verdict.title, verdict.evidence, verdict.fix, symptom, lambda _: broken, lambda _: right)
    return OwnFault(verdict, Experiment(fault, checkpoint, *_of_one_length(right, broken)), subject, beside)


def clips_latents(checkpoint: Checkpoint) -> bool:
    """Whether its own scheduler is accused of clipping latents, so that no run of it is right."""
    config = checkpoint.pipeline.scheduler.config if checkpoint.kind == "ldm" else {}
    is_told_to = config.get("clip_sample") or config.get("thresholding")
    return bool(is_told_to) and _verdict(CLIPPING, case_of(checkpoint)).status == "suspect"


def _verdict(cause: str, case: Case) -> Verdict:
    return run_check(next(check for check in CHECKS if check.name == cause), case)


def _as_it_is(checkpoint: Checkpoint, case: Case) -> Sampling:
    """With what its own scheduler does, where the class that walks here has another default."""
    clips, spacing = setting(case, "clip_sample", False), setting(case, "timestep_spacing", "trailing")
    return Sampling.right(checkpoint.pipeline).configured(clip_sample=clips, timestep_spacing=spacing)


def _of_one_length(right: Sampling, broken: Sampling) -> tuple[Sampling, Sampling]:
    """Both in as many steps: a number that divides the timesteps of those along betas."""
    most = min(right.num_steps, broken.num_steps)
    of_betas = [len(run.scheduler.betas) for run in (right, broken) if not is_flow(run.scheduler)]
    steps = divisor(math.gcd(*of_betas), most) if of_betas else most
    return replace(right, num_steps=steps), replace(broken, num_steps=steps)


def _measurable(symptom: Symptom, *subjects: Subject) -> Symptom:
    """The same, or where a classifier, labels or images are missing for it, the spread of latents or of pixels."""
    if symptom == "class_probability" and any(item.classifier is None or item.labels is None for item in subjects):
        return "latents_std"
    if symptom in ("psnr_to_original", "roughness") and any(item.originals is None for item in subjects):
        return "contrast"
    return symptom
