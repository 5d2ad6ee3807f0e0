"""From a folder to its diagnosis: every check in turn, then what explains what, and a few pictures."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from ldm_explorer.data import to_uint8
from ldm_explorer.diagnosis.case import Case
from ldm_explorer.diagnosis.checks import CHECKS, Check, Need
from ldm_explorer.diagnosis.verdicts import ASK_FOR_IMAGES, Diagnosis, NotRun, Verdict, explain
from ldm_explorer.files import first_line, printable
from ldm_explorer.run_layout import LOG_FILE

PICTURES = 16
FAILED = "it failed on this folder"
OF_A_STUDENT = "a student answers on its own few steps alone, and not as a denoiser does"
PARTS: tuple[Need, ...] = ("autoencoder", "denoiser")
"""What a folder may do without: the checks of it then do not count."""
MISSING: dict[Need, str] = {
    "autoencoder": "it needs an autoencoder: this model makes pixels",
    "denoiser": "it needs a denoiser: this folder holds an autoencoder alone",
    "images": f"it needs images: {ASK_FOR_IMAGES}",
    "log": f"it needs a {LOG_FILE}",
}


def examine(case: Case) -> Diagnosis:
    """Run every check. What a check cannot run on is in its verdict; nothing is raised."""
    *_, whole = examine_stepwise(case)
    return whole


def examine_stepwise(case: Case) -> Iterator[Diagnosis]:
    """The same, one check more at a time; the last diagnosis is the whole one, and alone has pictures."""
    name, verdicts = printable(case.folder.resolve().name), []
    explains = {check.name: check.explains for check in CHECKS}
    for check in CHECKS:
        verdicts.append(run_check(check, case))
        yield Diagnosis(name, explain(verdicts, explains))
    try:
        images, reconstructions, samples = _pictures(case)
    except Exception:  # what made it fail is among the checks
        images = reconstructions = samples = None
    yield Diagnosis(name, explain(verdicts, explains), images, reconstructions, samples)


def run_check(check: Check, case: Case) -> Verdict:
    """One check's verdict."""
    has_parts = all(_is_there(need, case) for need in check.needs if need in PARTS)
    return replace(_verdict_of(check, case), sees_common_faults=check.sees_common_faults and has_parts)


def _verdict_of(check: Check, case: Case) -> Verdict:
    missing = next((need for need in check.needs if not _is_there(need, case)), None)
    if missing is not None:
        return Verdict(check.name, check.title, "not run", MISSING[missing])
    if case.student and not check.judges_students:
        return Verdict(check.name, check.title, "not run", OF_A_STUDENT)
    if check.asks_networks and not all(case.is_finite(need) for need in check.needs):
        return Verdict(check.name, check.title, "not run", "weights are not finite")
    try:
        finding = check.run(case)
    except NotRun as reason:
        return Verdict(check.name, check.title, "not run", str(reason), doubt=reason.doubt)
    except Exception as error:  # a setting that nobody foresaw costs one check
        return Verdict(check.name, check.title, "not run", f"{FAILED}: {first_line(error)}")
    if not finding.accusation:
        return Verdict(check.name, check.title, "ok", finding.evidence)
    return Verdict(check.name, finding.accusation, "suspect", finding.evidence, finding.fix, finding.severity)


def _is_there(need: Need, case: Case) -> bool:
    return {
        "autoencoder": case.vae is not None,
        "denoiser": case.network is not None,
        "images": case.has_probes,
        "log": bool(case.log),
    }[need]


@torch.no_grad()
def _pictures(case: Case) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Images, what the autoencoder gives back, and what the denoiser generates; None where there is none."""
    images = reconstructions = samples = None
    if case.images is not None:
        images = to_uint8(case.pixels[:: max(1, len(case.pixels) // PICTURES)][:PICTURES])
        if case.vae is not None and case.is_finite("autoencoder"):
            means = case.posterior.mean
            reconstructions = to_uint8(case.codec.decode(means[:: max(1, len(means) // PICTURES)][:PICTURES]))
    if (
        case.network is not None
        and all(case.is_finite(part) for part in ("autoencoder", "denoiser"))
        and case.can_sample
    ):
        latents = case.sampled_latents(case.prediction_type).z0[:PICTURES]
        samples = to_uint8((latents if case.vae is None else case.codec.decode(latents)).nan_to_num())
    return images, reconstructions, samples
