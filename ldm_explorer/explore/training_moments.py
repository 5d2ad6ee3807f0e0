"""The moments of a training: what the network generated then, and what its loss was, beside what it would be if the
network knew less."""

import math
from dataclasses import dataclass

from ldm_explorer.diagnosis.judge import Rung, judge
from ldm_explorer.diagnosis.reading import mean_floors
from ldm_explorer.explore.training_film import Milestone
from ldm_explorer.explore.training_run import VALIDATION, RunReport
from ldm_explorer.run_files import LogRecord

MAX_MOMENTS = 24
NEAR = 1.5
"""A validation counts for a moment when at most this times as many images had been seen, or as few."""

KNOWS = {
    Rung.NOTHING_TO_LEARN: "there is next to nothing in these latents to be learned",
    Rung.NOTHING: "it knows nothing yet",
    Rung.SCALE: "it knows the scale of the latents at most",
    Rung.PART_OF_COVARIANCE: "it knows more than the scale, and less than the covariance",
    Rung.COVARIANCE: "it knows means and covariances, and hardly more",
    Rung.MORE_THAN_COVARIANCE: "it knows more than means and covariances",
    Rung.MORE_THAN_SCALE: "it knows more than the scale",
}


@dataclass(frozen=True, eq=False)
class Moment:
    """One moment of a run: its place in training, and of the log the line that tells most about it."""

    step: int
    images: int
    shot: Milestone | None  # what the network generated, where the run kept that
    record: LogRecord
    is_validation: bool
    loss: float
    knows: str  # what this loss shows; "" without floors

    @property
    def source(self) -> str:
        """Which loss it is, and where it was logged."""
        return f"{'validation' if self.is_validation else 'training'} loss, step {self.record['step']:,}"


def moments_of(report: RunReport) -> tuple[Moment, ...]:
    """The moments of a run in order: those of its film, else at most 24 of its validations, else the end of its log."""
    steps = report.moments or (report.records[-1]["step"],)
    if not report.film:
        every = math.ceil(len(steps) / MAX_MOMENTS)
        steps = steps[::-1][::every][::-1]
    return tuple(moment_at(report, report.images_at(step)) for step in steps)


def moment_at(report: RunReport, images: int) -> Moment:
    """The moment of a run when it had seen about so many images."""

    def away(step: int) -> float:
        return abs(math.log(max(report.images_at(step), 1) / max(images, 1)))

    shot = min(report.film, key=lambda shot: away(shot.step), default=None)
    step = shot.step if shot else min((record["step"] for record in report.records), key=away)
    validation = min(report.records_with(VALIDATION), key=lambda record: away(record["step"]), default=None)
    if validation is not None and away(validation["step"]) < math.log(NEAR):
        record, loss, is_validation = validation, float(validation["validation_loss"]), True
    else:
        record, is_validation = min(report.records, key=lambda record: away(record["step"])), False
        loss = float(record["loss"] if report.is_autoencoder else record.get("mse", record["loss"]))
    knows = KNOWS[judge(loss, mean_floors(report.floors))] if report.floors and not report.is_autoencoder else ""
    return Moment(step, report.images_at(step), shot, record, is_validation, loss, knows)
