"""What anybody's log says: the loss beside its floors, the verdict of the judge, and what to try."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from torch import Tensor

from ldm_explorer.diagnosis.advice import NEAR, advice, is_white, near_zero
from ldm_explorer.diagnosis.conclusion import conclusion, what_helps
from ldm_explorer.diagnosis.explanations import LARGEST_STD, Explanation, explanations, std_of_white_floor
from ldm_explorer.diagnosis.judge import MAX_LOSS_OVER_ZERO, MeanFloors, Rung, judge
from ldm_explorer.diagnosis.loss_facts import MOST_OF_MEAN_IMAGE, LossFacts, mean_floors_of
from ldm_explorer.diagnosis.loss_sizes import what_is_summed, what_is_weighted
from ldm_explorer.diagnosis.plateau import SURE, Plateau, find_plateau
from ldm_explorer.files import CheckpointError
from ldm_explorer.logs.series import LossCurve
from ldm_explorer.run_files import MAX_NUMBER

Outcome = Literal["nothing found", "accused", "could not judge"]
SEEN = 1e-4
"""Of a value that is printed with four digits; a smaller error is one of rounding."""
LAST = 0.1
"""Of a log: values that are not finite there are its end."""
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
    open_pairs = () if floors or outcome == "accused" else explanations(plateau.value, facts, num_timesteps)
    to_try = _to_try(rung, plateau, facts, floors)
    return LogReading(curve, facts, plateau, floors, rung, outcome, sentence, notes, to_try, open_pairs)


def _fell_apart(values: Sequence[float]) -> bool:
    """Whether a log ends in what is no number; one now and then is what scaled half precision skips."""
    tail = values[-max(1, round(LAST * len(values))) :]
    return not math.isfinite(tail[-1]) or sum(map(math.isfinite, tail)) < len(tail) / 2


def _verdict(
    curve: LossCurve, facts: LossFacts, plateau: Plateau, floors: dict[str, Tensor]
) -> tuple[Rung | None, Outcome, str]:
    ended = f"The {'validation' if curve.judged is curve.validation else 'training'} loss ended at {_value(plateau)}"
    summed = what_is_summed(curve, plateau.value, facts)
    if summed or (weighted := what_is_weighted(curve, plateau.value, facts)):
        return None, "could not judge", f"{ended}, and is no mean squared error. {summed or weighted}."
    rung = _rung(plateau, facts, floors)
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
    if lost:
        notes.append(f"{lost:,} values are no numbers and were left out")
    std = facts.latents.std_of_all if facts.latents else 1.0
    if not 1 / FAR_FROM_ONE < std < FAR_FROM_ONE:
        notes.append(f"the latents' std is {std:.2g}, and schedules are made for 1: divide the latents by it")
    if facts.latents and facts.latents.few:
        notes.append(facts.latents.how_few())
    return tuple(notes)
