"""What would give a plateau, where a fact is missing: along every schedule, the scale whose white floor it is."""

from collections.abc import Iterator
from dataclasses import dataclass

from ldm_explorer.diagnosis.judge import Rung
from ldm_explorer.diagnosis.loss_facts import LossFacts, usual_schedules
from ldm_explorer.prediction import PredictionType
from ldm_explorer.samplers import prediction_types_of
from ldm_explorer.schedules import DEFAULT_NUM_TIMESTEPS, Schedule

SMALLEST_STD, LARGEST_STD = 0.05, 100.0
BISECTIONS = 30
COMMONEST: tuple[PredictionType, ...] = ("epsilon", "v_prediction", "flow", "sample")
"""What networks are trained to predict, the commonest first; the schedules are known in such an order."""


@dataclass(frozen=True)
class Explanation:
    """A schedule and a prediction under which the plateau is what the scale of the latents alone gives, if their
    standard deviation is `std`; with a larger one the loss shows that more was learned. `rung` is that of the known
    scale, None where that is not known, or not well enough."""

    schedule: str
    num_timesteps: int
    prediction_type: PredictionType
    std: float
    white: float | None  # the white floor at the known scale
    rung: Rung | None


def explanations(plateau: float, facts: LossFacts, num_timesteps: int | None = None) -> tuple[Explanation, ...]:
    """Every pair that the known facts leave open, the commonest first; of 1,000 timesteps where that is not known."""
    found = _explanations(plateau, facts, num_timesteps or DEFAULT_NUM_TIMESTEPS)
    return tuple(sorted(found, key=lambda one: COMMONEST.index(one.prediction_type)))


def _explanations(plateau: float, facts: LossFacts, num_timesteps: int) -> Iterator[Explanation]:
    known = None if facts.latents is None else facts.latents.variance**0.5
    for schedule in usual_schedules(num_timesteps) if facts.schedule is None else [facts.schedule]:
        for prediction_type in prediction_types_of(schedule):
            if facts.prediction_type not in (None, prediction_type):
                continue
            std = std_of_white_floor(plateau, facts, schedule, prediction_type)
            if std is None:
                continue
            floors = None if known is None else facts.means_at(known, schedule, prediction_type)
            rung = None if floors is None else facts.rung(plateau, floors, schedule, prediction_type)
            white = None if floors is None else floors.white
            yield Explanation(schedule.name, schedule.num_timesteps, prediction_type, std, white, rung)


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
