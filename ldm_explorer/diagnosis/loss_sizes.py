"""How a loss was averaged, by its size: an untrained network predicts next to nothing, and begins at the zero floor."""

import math
from dataclasses import replace

from ldm_explorer.diagnosis.judge import MAX_LOSS_OVER_ZERO
from ldm_explorer.diagnosis.loss_facts import LossFacts
from ldm_explorer.logs.series import LossCurve

FAR_ABOVE = 3.0
"""Times the zero floor; an untrained network is not as far above it."""

ABOVE_WITHIN = 1.6
"""An untrained network's loss is at most so many times the zero floor."""

LEAST_SHARE = 0.005
"""Of the zero floor, which no loss that is worth a log goes below."""

BELOW = 0.9
SIZES = (0.92, 1.25)
"""Of what the zero floor of another loss is: one batch scatters, and an untrained network says a little."""

STUCK_WITHIN = 0.005
ALL_SUMS = 3
"""Over values, over the batch, and over both."""
FIRST_STEP = 1
ABSOLUTE = math.sqrt(2 / math.pi)
"""The mean absolute value of unit noise."""
HUBER = 0.4246
"""The mean Huber loss (delta 1) of unit noise: half the squares within one, |x| - 1/2 beyond."""
USUAL_GAMMAS = (5.0, 1.0)


def what_is_summed(curve: LossCurve, level: float, facts: LossFacts) -> str:
    """What a loss far above the zero floor is a sum over, in words; "" for one that is not.

    `level` is where the judged series ended, already divided. The smallest sum is named that explains how it began.
    """
    zero, first = facts.zero_floor, first_loss(curve, facts)
    if zero is None:
        return ""
    if max(level, first or 0.0) < FAR_ABOVE * zero or (first is not None and first < FAR_ABOVE * zero):
        return ""  # the mean it should be, or one that fell apart
    if early_loss(curve, facts) < BELOW * level:
        return ""  # no sum, which would have begun higher
    start, sums = max(level, early_loss(curve, facts)), _sums(facts)
    for count, of_what in sums:
        begins = (BELOW if first is not None else LEAST_SHARE) < start / (count * zero) < ABOVE_WITHIN
        if begins and LEAST_SHARE < level / (count * zero) < MAX_LOSS_OVER_ZERO:
            return (
                f"It began at {start:,.4g}, and an untrained network's mean squared error begins near the zero floor, "
                f"{zero:.3g}: this is the size of a sum over {of_what}, give --divide-by {count:.0f}"
            )
    if level < FAR_ABOVE * zero or len(sums) == ALL_SUMS:
        return ""
    tell = "" if facts.latents and facts.latents.values else " How many values a latent has, c h w, would tell."
    return (
        f"It is {level / zero:,.4g} times the zero floor, {zero:.3g}: either a sum, over values or the batch, which "
        f"--divide-by N undoes, or training fell apart.{tell}"
    ).rstrip(".")


def what_is_weighted(curve: LossCurve, level: float, facts: LossFacts) -> str:
    """What a loss that begins below the zero floor may be in place of a mean squared error; "" for none that is known.

    Told by the first step of a log that counts steps, or by a loss that never left the zero floor of its kind.
    """
    zero, start = facts.zero_floor, first_loss(curve, facts)
    if zero is None or facts.min_snr_gamma is not None:
        return ""
    stuck = start is None and abs(level / (ABSOLUTE * zero) - 1) < STUCK_WITHIN
    if stuck and facts.prediction_type == "epsilon":
        start = level
    if start is None or not 0 < start <= BELOW * zero:
        return ""
    share, of_what = min(_shares(facts), key=lambda known: abs(math.log(start / zero / known[0])))
    if not SIZES[0] < start / (share * zero) < SIZES[1]:
        return ""
    return (
        f"It {'stays' if stuck else 'begins'} at {start:.3g}, and an untrained network's mean squared error begins "
        f"near the zero floor, {zero:.3g}: this is the size of {of_what}. If it is a mean squared error all the same, "
        "of a network that was trained before, leave out the first step"
    )


def first_loss(curve: LossCurve, facts: LossFacts) -> float | None:
    """The loss of the first step, where the log says that it counts steps and has it."""
    for series in (curve.training, curve.validation):
        if series and series.counts_updates and series.steps[0] <= FIRST_STEP and math.isfinite(series.values[0]):
            return series.values[0] / facts.divide_by
    return None


def early_loss(curve: LossCurve, facts: LossFacts) -> float:
    """The first value of the log: at most what an untrained network has, where lines are means or rare."""
    series = curve.training or curve.judged
    return series.values[0] / facts.divide_by if math.isfinite(series.values[0]) else 0.0


def _sums(facts: LossFacts) -> list[tuple[float, str]]:
    """How many numbers may have been added up, the least first."""
    values, batch = facts.latents.values if facts.latents else None, facts.batch_size
    found: list[tuple[float, str]] = []
    if values:
        found.append((values, f"the {values:,} values of a latent"))
    if batch:
        found.append((batch, f"the {batch:,} of a batch"))
    if values and batch:
        found.append((values * batch, f"the {values:,} values of each of a batch of {batch:,}"))
    return sorted(found)


def _shares(facts: LossFacts) -> list[tuple[float, str]]:
    """What other losses of an untrained network are to its mean squared error."""
    shares = [(0.5, "half of it")]
    if facts.prediction_type == "epsilon":
        shares += [(ABSOLUTE, "a mean absolute error (L1)"), (HUBER, "a Huber loss with delta 1")]
    zero = facts.zero_floor
    for gamma in USUAL_GAMMAS if facts.schedule is not None and zero else ():
        weighted = replace(facts, min_snr_gamma=gamma).zero_floor
        if weighted and zero:
            shares.append((weighted / zero, f"one with min-SNR weights (--min-snr {gamma:g})"))
    return shares
