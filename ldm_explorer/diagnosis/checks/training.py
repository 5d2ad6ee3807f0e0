"""The check of a run's log: did training stay stable?"""

import math
from collections.abc import Sequence
from statistics import median

from ldm_explorer.diagnosis.case import Case
from ldm_explorer.diagnosis.judge import MAX_LAST_TENTH_OVER_LOWEST, last_tenth, rose_again
from ldm_explorer.diagnosis.verdicts import Finding, NotRun
from ldm_explorer.run_layout import LOG_FILE

MIN_LINES = 20
PARTS = 10
MAX_RISE = 1.25
CLIPPED_OFTEN = 0.25
TINY = 1e-12
"""In the place of a loss of 0, by which nothing can be divided."""


def stability(case: Case) -> Finding:
    """A loss that rises for long, a validation loss that rises again, a gradient that is clipped all the time.

    Lines may hold only some of these: each is judged by the lines that have it.
    """
    losses = [line["loss"] for line in case.log if "loss" in line]
    norms = [line["grad_norm"] for line in case.log if "grad_norm" in line]
    validations = [line["validation_loss"] for line in case.log if "validation_loss" in line]
    if not all(map(math.isfinite, (*losses, *norms, *validations))):
        return _unstable("The log holds losses or gradients that are not finite.")
    if max(len(losses), len(validations)) < MIN_LINES:
        raise NotRun(f"{LOG_FILE} has {max(len(losses), len(validations))} losses: it needs {MIN_LINES}")
    rise = _sustained_rise(losses) if len(losses) >= MIN_LINES else 1.0
    late = norms[len(norms) // 3 :]
    clip = case.config.get("grad_clip_norm", math.inf)
    clipped = sum(norm > clip for norm in late) / max(1, len(late))
    again = bool(validations) and rose_again(validations)
    over_lowest = last_tenth(validations) / max(min(validations), TINY) if validations else 1.0
    evidence = (
        f"Between tenths of training the loss rises to at most {rise:.2f} times (should be below {MAX_RISE}), "
        f"{clipped:.0%} of the later gradients are clipped, and the validation loss ends at {over_lowest:.2f} "
        f"times its lowest (should be below {MAX_LAST_TENTH_OVER_LOWEST})"
    )
    if rise > MAX_RISE or (again and clipped > CLIPPED_OFTEN):
        return _unstable(f"{evidence}.")
    if again:
        return Finding(
            f"{evidence}.",
            "The validation loss rose again: it memorises, or training became unstable",
            "train for fewer steps, or with a lower --learning-rate",
            severity=1,
        )
    return Finding(f"{evidence}.")


def _sustained_rise(losses: Sequence[float]) -> float:
    """The largest ratio of a tenth's median loss to the lowest one before it: spikes that pass do not count."""
    size = len(losses) / PARTS
    medians = [median(losses[round(part * size) : round((part + 1) * size)]) for part in range(PARTS)]
    return max(later / max(min(medians[:part]), TINY) for part, later in enumerate(medians) if part)


def _unstable(evidence: str) -> Finding:
    return Finding(
        evidence,
        "Training was unstable: the learning rate was too high",
        "train with a lower --learning-rate, more --lr-warmup-steps, a lower --grad-clip-norm",
        severity=2,
    )
