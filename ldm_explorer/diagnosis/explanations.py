"""What would give a plateau, where a fact is missing: along every schedule, the scale whose white floor it is."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ldm_explorer.diagnosis.judge import Rung, judge
from ldm_explorer.diagnosis.loss_facts import LossFacts, usual_schedules
from ldm_explorer.prediction import PredictionType
from ldm_explorer.samplers import prediction_types_of
from ldm_explorer.schedules import DEFAULT_NUM_TIMESTEPS, FLOW, Schedule

SMALLEST_STD, LARGEST_STD = 0.05, 100.0
BISECTIONS = 30
LENGTHS = (DEFAULT_NUM_TIMESTEPS, 100)
"""Tried where the number of timesteps is not known."""


@dataclass(frozen=True)
class Explanation:
    """A schedule and a prediction under which the plateau is what the scale of the latents alone gives, if their
    standard deviation is `std`; with a larger one the loss shows that more was learned. `rung` is that of the known
    scale, None where the scale is not known."""

    schedule: str
    num_timesteps: int
    prediction_type: PredictionType
    std: float
    white: float | None  # the white floor at the known scale
    rung: Rung | None


def explanations(plateau: float, facts: LossFacts, num_timesteps: int | None = None) -> tuple[Explanation, ...]:
    """Every pair that the known facts leave open, those with a scale near 1 first."""
    found = list(_explanations(plateau, facts, num_timesteps))
    return tuple(sorted(found, key=lambda one: max(one.std, 1 / one.std)))


def _explanations(plateau: float, facts: LossFacts, num_timesteps: int | None) -> Iterator[Explanation]:
    known = None if facts.latents is None else facts.latents.variance**0.5
    for schedule in _schedules(facts, num_timesteps):
        for prediction_type in prediction_types_of(schedule):
            if facts.prediction_type not in (None, prediction_type):
                continue
            std = std_of_white_floor(plateau, facts, schedule, prediction_type)
            if std is None:
                continue
            floors = None if known is None else facts.means_at(known, schedule, prediction_type)
            rung = None if floors is None else judge(plateau, floors)
            white = None if floors is None else floors.white
            yield Explanation(schedule.name, schedule.num_timesteps, prediction_type, std, white, rung)


def _schedules(facts: LossFacts, num_timesteps: int | None) -> Iterable[Schedule]:
    if facts.schedule is not None:
        return [facts.schedule]
    lengths = LENGTHS if num_timesteps is None else (num_timesteps,)
    tried = [schedule for length in lengths for schedule in usual_schedules(length)]
    return [one for one in tried if one.name != FLOW or one.num_timesteps == lengths[0]]  # its time has no steps


def std_of_white_floor(
    loss: float, facts: LossFacts, schedule: Schedule, prediction_type: PredictionType
) -> float | None:
    """The standard deviation whose white floor a loss is, None outside .05 to 100: the floor grows with it, as more
    signal is harder to tell noise from, and more of it is to be predicted."""
    low, high = SMALLEST_STD, LARGEST_STD
    if (
        not facts.means_at(low, schedule, prediction_type).white
        < loss
        < facts.means_at(high, schedule, prediction_type).white
    ):
        return None
    for _ in range(BISECTIONS):
        middle = (low * high) ** 0.5
        if facts.means_at(middle, schedule, prediction_type).white < loss:
            low = middle
        else:
            high = middle
    return (low * high) ** 0.5
