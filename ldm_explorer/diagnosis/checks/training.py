"""The check of a run's log: did training stay stable?"""

import math

from ldm_explorer.diagnosis.case import Case
from ldm_explorer.diagnosis.verdicts import Finding, NotRun

RISE = 1.1
SPIKE = 3.0
MIN_LINES = 10


def stability(case: Case) -> Finding:
    """Spikes of the loss, a validation loss that rises again, a gradient that is clipped all the time."""
    losses = [line.get("mse", line["loss"]) for line in case.log if "loss" in line]
    if len(losses) < MIN_LINES:
        raise NotRun(f"train_log.jsonl has {len(losses)} lines: it needs {MIN_LINES}")
    settled = losses[len(losses) // 3 :]
    worst, typical = max(settled), sorted(settled)[len(settled) // 2]
    norms = [line["grad_norm"] for line in case.log if "grad_norm" in line]
    clip = case.config.get("grad_clip_norm")
    clipped = sum(norm > clip for norm in norms[len(norms) // 3 :]) / len(settled) if clip and norms else 0.0
    validations = [line["validation_loss"] for line in case.log if "validation_loss" in line]
    rise = validations[-1] / min(validations) if validations else 1.0
    evidence = (
        f"In the last two thirds the loss rises to {worst / typical:.2f} times its median (should be below {SPIKE:g}), "
        f"{clipped:.0%} of the gradients are clipped, and the validation loss ends at {rise:.2f} times its lowest"
    )
    finite = all(math.isfinite(value) for value in (*losses, *norms))
    if not finite or worst > SPIKE * typical or (rise > RISE and clipped > 0.25):
        return Finding(
            evidence if finite else "The log holds losses or gradients that are not finite.",
            "Training was unstable: the learning rate was too high",
            "train with a lower --learning-rate, --lr-warmup-steps and --grad-clip-norm",
            severity=2,
        )
    if rise > RISE:
        return Finding(
            f"{evidence} (should be below {RISE}).",
            "The validation loss rose again: it memorises, or training became unstable",
            "train for fewer steps, or with a lower --learning-rate",
            severity=1,
        )
    return Finding(f"{evidence}.")
