"""What the logs of training runs say, in sentences."""

import time
from pathlib import PurePath

import torch

from ldm_explorer.diagnosis.students import student_sentence
from ldm_explorer.explore.training_run import VALIDATION, Run, RunReport
from ldm_explorer.files import CheckpointError, counted
from ldm_explorer.run_files import read_run_config
from ldm_explorer.run_layout import LOG_FILE

SAME_WITHIN = 1e-2
TARGETS = {"epsilon": "noise", "v_prediction": "velocity", "sample": "z0", "flow": "flow velocity"}


def status(report: RunReport) -> str:
    """How far an unfinished run is and when it was last heard of, or that other rooms do not know it yet, else ""."""
    if report.run.finished:
        return "" if report.run.in_library else "The other rooms show this run when the app is started again."
    step, total = report.records[-1]["step"], report.total_steps
    progress = f"step {step:,} of {total:,}" if total else f"step {step:,}"
    heard = last_heard(report.run)
    return f"Unfinished: {progress}; its log was last written {heard}." if heard else f"Unfinished: {progress}."


def last_heard(run: Run) -> str:
    """When an unfinished run wrote its log, in words that last for a minute at least; "" where nothing can be said."""
    if run.finished:
        return ""
    try:
        seconds = time.time() - (run.folder / LOG_FILE).stat().st_mtime
    except OSError:
        return ""
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return "less than two minutes ago"


def in_words(run: Run) -> str:
    """What a run trains, for a list of runs: its name, and what its options say."""
    try:
        config = read_run_config(run.folder)
    except (CheckpointError, OSError):
        return run.label
    if (teacher := config.get("teacher")) and (count := config.get("evaluations")):
        return f"{run.label}: student of {PurePath(teacher).name}, {counted(count, 'evaluation')}"
    if prediction := config.get("prediction"):
        return f"{run.label}: denoiser, predicts {TARGETS[prediction]}, {config.get('schedule')}"
    return f"{run.label}: autoencoder" if run.checkpoint is None or run.checkpoint.kind == "vae" else run.label


def describe(report: RunReport) -> str:
    """What the log of one run says, in a sentence or two."""
    if report.reading:
        sentence = report.reading.sentence()
        return sentence if report.run.finished else sentence.replace("ended at", "stands at")
    validations = report.records_with(VALIDATION)
    if not validations:
        return f"No validation so far: the training loss stands at {report.curve('loss').values[-1]:.3g}."
    if report.is_student:
        sentence = student_sentence(validations)
        return sentence if report.run.finished else sentence.replace("ended at", "stands at")
    last = validations[-1]
    if not report.is_autoencoder:
        return f"The validation loss stands at {last['validation_loss']:.3g}; without floors: {report.why_no_floors}."
    if not last.keys() >= {"validation_psnr_db", "validation_kl_per_value"}:
        return f"The validation loss stands at {last['validation_loss']:.3g}."
    best = max(report.curve("validation_psnr_db").values)
    return (
        f"On held-out images the reconstruction reaches {last['validation_psnr_db']:.1f} dB (best {best:.1f}), and the "
        f"latents hold {last['validation_kl_per_value']:.2g} nats per value. The loss is the mean squared error plus "
        f"{report.config.get('kl_weight', 'a weight')} times the KL per pixel; it has no floor in closed form."
    )


def why_not_comparable(one: RunReport, other: RunReport) -> str:
    """Why the losses of two runs are different quantities; "" where they may be compared."""
    names = f"{one.run.name} and {other.run.name}"

    def differ(field: str) -> bool:
        return (one.config.get(field) or None) != (other.config.get(field) or None)  # older runs lack later options

    if one.is_autoencoder != other.is_autoencoder:
        return f"{names} are an autoencoder and a denoiser: their losses are different quantities, drawn apart."
    if one.is_student != other.is_student:
        return f"{names} are a student and no student: their losses are different quantities."
    if one.is_student and (differ("evaluations") or differ("teacher")):
        return f"{names} have other teachers or steps to learn: their losses are different quantities."
    if differ("dataset"):
        return f"{names} were trained on different images: their losses are different quantities."
    if one.is_autoencoder:
        reason = f"{names} weigh the KL differently: compare their PSNR, not their losses."
        return reason if differ("kl_weight") else ""
    if differ("prediction"):
        return (
            f"{names} predict different things ({one.config.get('prediction')} and {other.config.get('prediction')}): "
            "their losses are different quantities. Read each by its own floor."
        )
    if _latents_differ(one, other):
        return f"{names} learn different latents: their losses are different quantities. Read each by its own floor."
    if differ("schedule") or differ("num_timesteps") or differ("zero_terminal_snr"):
        return (
            f"{names} have different schedules, which spread the timesteps over other noise levels: their mean losses "
            "do not compare. Read each by its own floor."
        )
    return ""


def _latents_differ(one: RunReport, other: RunReport) -> bool:
    """Compare their covariance where both kept it, else the name of the autoencoder."""
    if one.eigenvalues is None or other.eigenvalues is None:
        return one.config.get("vae") != other.config.get("vae")
    same_shape = one.eigenvalues.shape == other.eigenvalues.shape
    return not (same_shape and torch.allclose(one.eigenvalues, other.eigenvalues, rtol=SAME_WITHIN))
