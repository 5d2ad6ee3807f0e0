"""What anybody's log says: the loss beside its floors, the verdict of the judge, and what to try."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from statistics import fmean
from typing import Any, Literal

from torch import Tensor

from ldm_explorer.diagnosis.advice import FALLS, NEAR, advice, is_white, near_zero
from ldm_explorer.diagnosis.conclusion import conclusion, what_helps
from ldm_explorer.diagnosis.explanations import LARGEST_STD, Explanation, explanations, std_of_white_floor
from ldm_explorer.diagnosis.judge import MAX_LOSS_OVER_ZERO, MeanFloors, Rung, judge
from ldm_explorer.diagnosis.loss_facts import MOST_OF_MEAN_IMAGE, LossFacts, mean_floors_of
from ldm_explorer.diagnosis.loss_sizes import what_is_summed, what_is_weighted
from ldm_explorer.diagnosis.plateau import MIN_VALUES_FOR_LEVEL, SURE, Plateau, find_plateau
from ldm_explorer.files import CheckpointError, counted
from ldm_explorer.logs.series import LossCurve
from ldm_explorer.run_files import MAX_NUMBER

Outcome = Literal["nothing found", "accused", "could not judge"]
SEEN = 1e-4
"""Of a value that is printed with four digits; a smaller error is one of rounding."""
LAST = 0.1
"""Of a log: where fewer values than before are finite there, it ended so."""
LEAST_READ = 0.9
"""Of a file that is damaged further on, for a verdict on its end."""
FAR_FROM_ONE = 2.2
"""Pixels in [-1, 1], of std .5, are what most schedules were made on."""
ACCUSING = (Rung.NOTHING, Rung.SCALE, Rung.PART_OF_COVARIANCE)


@dataclass(frozen=True, eq=False)
class LogReading:
    """The answer about one log. `floors` `(T,)` each are {} where a fact is missing, and `rung` None where it cannot be
    said."""

    curve: LossCurve
    facts: LossFacts
    plateau: Plateau | None  # of the judged series, divided; None where it ended in what is no number
    floors: dict[str, Tensor]
    rung: Rung | None
    outcome: Outcome
    sentence: str
    notes: tuple[str, ...]
    to_try: tuple[str, ...]
    explanations: tuple[Explanation, ...]

    @property
    def mean_floors(self) -> dict[str, float]:
        """Each floor averaged as the loss is."""
        return {name: float(floor.mean()) for name, floor in self.floors.items()}

    def as_json(self) -> dict[str, Any]:
        """What the answer says, for programs."""
        return {
            "log": self.curve.log.name,
            "format": self.curve.log.format,
            "field": self.curve.judged.name,
            "outcome": self.outcome,
            "sentence": self.sentence,
            "plateau": None if self.plateau is None else asdict(self.plateau),
            "floors": self.mean_floors,
            "rung": None if self.rung is None else self.rung.name.lower(),
            "missing": list(self.facts.missing),
            "notes": list(self.notes),
            "to_try": list(self.to_try),
            "explanations": [asdict(one) | {"rung": one.rung and one.rung.name.lower()} for one in self.explanations],
        }


def read_curve(curve: LossCurve, facts: LossFacts, num_timesteps: int | None = None) -> LogReading:
    """Judge the loss of a log by what is known of it; `num_timesteps` may be known where the schedule is not."""
    values = [value / facts.divide_by if abs(value) < MAX_NUMBER else math.inf for value in curve.judged.values]
    finite = [value for value in values if math.isfinite(value)]
    floors, notes = facts.floors(), _notes(curve, facts, len(values) - len(finite))
    if not finite or _fell_apart(values):
        last = max((place for place, value in enumerate(values) if math.isfinite(value)), default=-1)
        place = curve.judged.steps[min(last + 1, len(values) - 1)]
        said, to_try = (
            f"The loss is no number from {place:g} on: training fell apart.",
            advice(Rung.NOTHING, None, None),
        )
        return LogReading(curve, facts, None, floors, Rung.NOTHING, "accused", said, notes, to_try, ())
    if min(finite) < 0:
        raise CheckpointError(f"{curve.judged.name} goes down to {min(finite):g}, and no mean of squares is below 0")
    plateau = find_plateau(finite)
    rung, outcome, sentence = _verdict(curve, facts, plateau, floors)
    if rung in ACCUSING and outcome == "accused" and (why_not := _not_level(curve, rung, plateau, finite)):
        outcome, sentence = "could not judge", f"{sentence} {why_not}"
    if curve.log.share_read < LEAST_READ:
        share = f"{curve.log.share_read:.0%}"
        outcome, sentence = "could not judge", f"{sentence} It is read up to {share} of its file, the rest is damaged."
    is_open = plateau.value > 0 and not floors and outcome != "accused"
    open_pairs = explanations(plateau.value, facts, num_timesteps) if is_open else ()
    to_try = _to_try(rung, plateau, facts, floors)
    if plateau.still_falling and outcome == "could not judge" and rung is not None:
        to_try = FALLS
    return LogReading(curve, facts, plateau, floors, rung, outcome, sentence, notes, to_try, open_pairs)


def _fell_apart(values: Sequence[float]) -> bool:
    """Whether a log ends in what is no number, for longer than it did before or more often: one now and then is what
    scaled half precision skips, or a line that was written for another field."""
    are_finite = [math.isfinite(value) for value in values]
    runs = [(is_finite, len(list(run))) for is_finite, run in groupby(are_finite)]
    lost = [length for is_finite, length in runs if not is_finite]
    if not are_finite[-1] and lost[-1] > max(lost[:-1], default=0):
        return True
    count = max(1, round(LAST * len(values)))
    before, tail = are_finite[:-count], are_finite[-count:]
    return bool(before) and fmean(tail) < fmean(before) / 2


def _verdict(
    curve: LossCurve, facts: LossFacts, plateau: Plateau, floors: dict[str, Tensor]
) -> tuple[Rung | None, Outcome, str]:
    ended = f"The {'validation' if curve.judged is curve.validation else 'training'} loss ended at {_value(plateau)}"
    summed = what_is_summed(curve, plateau.value, facts)
    if summed or (weighted := what_is_weighted(curve, plateau.value, facts)):
        return None, "could not judge", f"{ended}, and is no mean squared error. {summed or weighted}."
    if plateau.value == 0:
        return None, "could not judge", f"{ended} exactly, which no network reaches: look at what was logged."
    rung = _rung(plateau, facts, floors)
    if plateau.rose_again and curve.judged.goes_back:
        several = f"{ended}, {plateau.rise:.2f} times its lowest, and the steps of this log go back"
        return None, "could not judge", f"{several}: it may hold several trainings. Give the lines of one."
    if plateau.rose_again and rung is not Rung.NOTHING:
        return rung, "accused", f"{ended}, {plateau.rise:.2f} times its lowest: it rose again."
    if rung is None and floors:
        return None, "could not judge", f"{ended}, {_unsure(facts, floors)}"
    if rung is None:
        unknown = f"What it shows cannot be told without {_list(facts.missing)}."
        return None, "could not judge", f"{ended}{_at_zero(plateau, facts)}. {unknown}"
    mean = mean_floors_of(floors)
    said = f"{ended}, {conclusion(rung, mean, 'gaussian_per_class' in floors, plateau.is_level)}"
    if rung is Rung.SCALE and near_zero(plateau, mean):
        return rung, "accused", f"{said} That it predicts nothing would give {mean.zero:.3f}."
    if rung is Rung.SCALE and is_white(mean) and plateau.value < MAX_LOSS_OVER_ZERO * mean.white:
        same = f"The Gaussian floor ({mean.gaussian:.3f}) is the same: their covariance holds no more to be learned."
        return rung, "could not judge", f"{ended}, at the white floor ({mean.white:.3f}) of these latents. {same}"
    if rung is Rung.SCALE and (other := _other_std(plateau, facts, mean)):
        said = f"{ended}, {_above(plateau, facts, mean, other)}"
    lowest = judge(max(0.0, plateau.value - SURE * plateau.standard_error), mean)
    if rung in ACCUSING and lowest not in ACCUSING:
        return rung, "nothing found", f"{said} It scatters too much to be sure of that."
    if rung is Rung.PART_OF_COVARIANCE and plateau.still_falling:
        return rung, "nothing found", f"{said} It still falls."
    return rung, "accused" if rung in ACCUSING else "nothing found", said


def _rung(plateau: Plateau, facts: LossFacts, floors: dict[str, Tensor]) -> Rung | None:
    if not floors or facts.schedule is None or facts.prediction_type is None:
        return None
    return facts.rung(plateau.value, mean_floors_of(floors), facts.schedule, facts.prediction_type)


def _unsure(facts: LossFacts, floors: dict[str, Tensor]) -> str:
    """What a std alone leaves open: a network knows the mean image with no effort, which a std of all values counts."""
    least = facts.schedule and facts.prediction_type and facts.least_white(facts.schedule, facts.prediction_type)
    white = float(floors["white"].mean())
    return (
        f"below the white floor of the std that was given ({white:.3f}). But if that is the std of all values, and not "
        f"about the mean image, the floor is lower ({least:.3f} where the mean image holds {MOST_OF_MEAN_IMAGE:.0%} of "
        "the variance), and this may be no better: give what the snippet prints to be sure."
    )


def _other_std(plateau: Plateau, facts: LossFacts, mean: MeanFloors) -> float | None:
    """The std whose white floor the loss is, where it stands above the one of the latents and below the zero floor."""
    if plateau.value < (1 + NEAR) * mean.white or near_zero(plateau, mean):
        return None
    if facts.schedule is None or facts.prediction_type is None:
        return None
    return std_of_white_floor(plateau.value, facts, facts.schedule, facts.prediction_type)


def _above(plateau: Plateau, facts: LossFacts, mean: MeanFloors, other_std: float) -> str:
    about = " about their mean image" if facts.latents and facts.latents.about_mean_image else ""
    return (
        f"{plateau.value / mean.white - 1:.0%} above the white floor ({mean.white:.3f}): the network knows less than "
        f"the latents' scale, if that is as said. {plateau.value:.3g} is the white floor of std {other_std:.2f} there: "
        f"are the latents that it sees really of std {_std(facts):.3g}{about}? {what_helps(plateau.is_level)}"
    )


def _to_try(rung: Rung | None, plateau: Plateau, facts: LossFacts, floors: dict[str, Tensor]) -> tuple[str, ...]:
    if not floors or (rung is None and _rung(plateau, facts, floors) is not None):  # no mean squared error
        return ()
    mean = mean_floors_of(floors)
    return advice(rung, plateau, mean, facts.latents, _other_std(plateau, facts, mean))


def _std(facts: LossFacts) -> float:
    """Of the latents over all channels, about their mean image where that is known."""
    return facts.latents.variance**0.5 if facts.latents else 1.0


def _not_level(curve: LossCurve, rung: Rung | None, plateau: Plateau, finite: Sequence[float]) -> str:
    """Why a loss is not held against its network, "" where it is: it is level, or fell apart and scatters.

    Where validations are few, the training loss shows whether it stays.
    """
    count = len(finite)
    if count < MIN_VALUES_FOR_LEVEL and curve.training and not plateau.still_falling:
        trained = [value for value in curve.training.values if abs(value) < MAX_NUMBER]
        plateau, count = (find_plateau(trained), len(trained)) if len(trained) > count else (plateau, count)
    if plateau.rose_again:
        return ""
    if plateau.still_falling:
        return "But it still falls: this is no end to judge."
    if count < MIN_VALUES_FOR_LEVEL:
        return f"That holds if it stays there, which {counted(count, 'value')} cannot show."
    if plateau.has_levelled or rung is Rung.NOTHING:
        return ""
    return "That holds if it stays there, which its scatter does not show: it may still fall."


def _at_zero(plateau: Plateau, facts: LossFacts) -> str:
    """That a loss is no better than predicting nothing, where that is known before the latents are."""
    zero = facts.zero_floor
    if zero is None or not abs(plateau.value / zero - 1) < NEAR:
        return ""
    unless = "hardly any noise was added"
    if facts.schedule is not None:
        lowest = std_of_white_floor((1 - NEAR) * zero, facts, facts.schedule, "epsilon") or LARGEST_STD
        unless = f"the latents' std is above {lowest:.2g}"
    return f", where a network that predicts nothing stands ({zero:.3f}): it learned nothing, unless {unless}"


def _value(plateau: Plateau) -> str:
    error = SURE * plateau.standard_error
    shown = f" ± {error:.1g}" if error > SEEN * abs(plateau.value) else ""
    return f"{plateau.value:.4g}{shown}"


def _list(missing: tuple[str, ...]) -> str:
    return missing[0] if len(missing) == 1 else f"{', '.join(missing[:-1])} and {missing[-1]}"


def _notes(curve: LossCurve, facts: LossFacts, lost: int) -> tuple[str, ...]:
    """What was done with the log, and what the answer does not know."""
    notes = list(curve.log.notes)
    if curve.others:
        notes.append(f"read {curve.judged.name}; there are also {', '.join(curve.others[:8])}")
    if curve.validation_stopped and curve.training and curve.validation:
        last, end = curve.validation.steps[-1], curve.training.steps[-1]
        notes.append(f"{curve.validation.name} ends at {last:g} of {end:g} and was left out")
    if lost:
        notes.append(f"{lost:,} values are no numbers and were left out")
    std = facts.latents.std_of_all if facts.latents else 1.0
    if not 1 / FAR_FROM_ONE < std < FAR_FROM_ONE:
        notes.append(f"the latents' std is {std:.2g}, and schedules are made for 1: divide the latents by it")
    if facts.latents and facts.latents.few:
        notes.append(facts.latents.how_few())
    return tuple(notes)
