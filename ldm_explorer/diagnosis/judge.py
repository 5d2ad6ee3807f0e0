"""How much of its latents a network knows, by its loss: one verdict, which the training room and the diagnosis word."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

MAX_MEMORISING_OVER_WHITE = 0.9
"""A memorising floor above this share of the white one leaves nothing to be learned."""
MAX_LOSS_OVER_ZERO = 1.02
"""A loss above this multiple of the zero floor is worse than predicting nothing."""
MAX_LOSS_OVER_WHITE = 0.98
"""A loss above this share of the white floor shows no more than the scale."""
MAX_LOSS_OVER_GAUSSIAN = 1 / 0.98
"""A loss above this multiple of the Gaussian floor shows less than the covariance."""
MIN_LOSS_OVER_GAUSSIAN = 0.98
"""A loss below this share of the Gaussian floor shows more than the covariance."""
MAX_LAST_TENTH_OVER_LOWEST = 1.1
"""A last tenth of the validations above this multiple of the lowest one has risen again."""


class Rung(Enum):
    """What a loss shows, from the least on; the first and the last say what could not be judged."""

    NOTHING_TO_LEARN = auto()  # the floors are nearly one, whatever the loss
    NOTHING = auto()
    SCALE = auto()
    PART_OF_COVARIANCE = auto()
    COVARIANCE = auto()
    MORE_THAN_COVARIANCE = auto()
    MORE_THAN_SCALE = auto()  # how much more is not known: there is no Gaussian floor


@dataclass(frozen=True)
class MeanFloors:
    """Floors averaged as the loss is that is judged by them; None where one is not known."""

    zero: float
    white: float
    gaussian: float | None  # of its class where the network is told the class
    memorising: float | None


def judge(loss: float, floors: MeanFloors) -> Rung:
    """The rung of a mean squared error; one that is not finite is that of a network that knows nothing."""
    if floors.memorising is not None and floors.memorising > MAX_MEMORISING_OVER_WHITE * floors.white:
        return Rung.NOTHING_TO_LEARN
    if not loss < MAX_LOSS_OVER_ZERO * floors.zero:
        return Rung.NOTHING
    if not beats_white(loss, floors.white):
        return Rung.SCALE
    if floors.gaussian is None:
        return Rung.MORE_THAN_SCALE
    if loss < MIN_LOSS_OVER_GAUSSIAN * floors.gaussian:
        return Rung.MORE_THAN_COVARIANCE
    return Rung.COVARIANCE if loss < MAX_LOSS_OVER_GAUSSIAN * floors.gaussian else Rung.PART_OF_COVARIANCE


def beats_white(loss: float, white: float) -> bool:
    """Whether an error shows more than the scale of the latents."""
    return loss < MAX_LOSS_OVER_WHITE * white


def last_tenth(validations: Sequence[float]) -> float:
    """Mean of the last tenth of a run's validation losses, of at least one."""
    tail = validations[-max(1, len(validations) // 10) :]
    return sum(tail) / len(tail)


def rose_again(validations: Sequence[float]) -> bool:
    """Whether a run's validation loss ended well above its lowest."""
    return last_tenth(validations) > MAX_LAST_TENTH_OVER_LOWEST * min(validations)
