"""Where a loss ended: its mean over a level end, how sure that is, and whether it still falls or has risen again."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ldm_explorer.diagnosis.judge import MAX_LAST_TENTH_OVER_LOWEST

SHARES = (0.4, 0.3, 0.2, 0.1)
"""Of the log, from its end: the largest that is level is averaged, as batches' losses scatter."""

SURE = 2.0
"""Standard errors that count as a difference."""

SURE_OF_RISE = 4.0
"""More, as the lowest of ten tenths is sought."""

LEVEL_WITHIN = 0.005
"""A smaller change between the halves of an end is none, however sure."""

STILL_FALLING = 0.01
LEVELLED_WITHIN = 0.2
"""A loss that may have fallen by more than this share of itself over the last 40 % of its log is not known to stay."""

MIN_VALUES_FOR_LEVEL = 10
MANY = 50
"""Values of which halves show whether they fall; of fewer a line through them shows more."""

TENTHS = 10
MIN_VALUES_FOR_RISE = 20
SURELY_LEVEL = 0.02
"""Of the value: with a larger error the end of a log may be level or not."""


@dataclass(frozen=True)
class Plateau:
    """`standard_error` is 0 where one value alone is known."""

    value: float
    standard_error: float
    count: int  # values that were averaged
    still_falling: bool
    has_levelled: bool  # whether its log shows that it stays there; one value, or few, does not
    rise: float  # of the last tenth over the lowest tenth; 1 where it has not risen

    @property
    def is_level(self) -> bool:
        """Whether it surely stands: more steps alone would change next to nothing."""
        sure = SURE * self.standard_error < SURELY_LEVEL * self.value
        return self.count >= MIN_VALUES_FOR_LEVEL and sure and not self.still_falling

    @property
    def rose_again(self) -> bool:
        return self.rise > MAX_LAST_TENTH_OVER_LOWEST


def find_plateau(loss: Sequence[float]) -> Plateau:
    """Of finite values, at least one."""
    values = np.asarray(loss, dtype=float)
    tails = [values[-max(1, round(share * len(values))) :] for share in SHARES]
    tail = next((tail for tail in tails if _is_level(tail)), tails[-1])
    falls = _change(values[-max(2, round(0.3 * len(values))) :])
    least, most = _line_falls(values)
    still_falling = falls < -STILL_FALLING or (len(values) < MANY and least > STILL_FALLING)
    has_levelled = not still_falling and most <= LEVELLED_WITHIN
    return Plateau(float(tail.mean()), _error(tail), len(tail), still_falling, has_levelled, _rise(values))


def _is_level(tail: np.ndarray) -> bool:
    return abs(_change(tail)) < LEVEL_WITHIN


def _line_falls(values: np.ndarray) -> tuple[float, float]:
    """By how much a straight line through the end of a log falls, at least and at most, as shares of its mean."""
    if len(values) < MIN_VALUES_FOR_LEVEL:
        return 0.0, math.inf
    tail = values[-max(MIN_VALUES_FOR_LEVEL, round(SHARES[0] * len(values))) :]
    mean, places = float(tail.mean()), np.arange(len(tail)) - (len(tail) - 1) / 2
    slope = float(places @ tail) / float(places @ places)
    left = tail - mean - slope * places
    error = SURE * math.sqrt(float(left @ left) / (len(tail) - 2) / float(places @ places))
    unit = len(tail) / mean if mean else 0.0
    return unit * (-slope - error), unit * (-slope + error)


def _change(tail: np.ndarray) -> float:
    """Of the mean from the first to the second half, over the first; 0 where it is within the scatter."""
    if len(tail) < 2:
        return 0.0
    halves = tail[: len(tail) // 2], tail[len(tail) // 2 :]
    before, after = (float(half.mean()) for half in halves)
    sure = abs(after - before) > SURE * math.hypot(*map(_error, halves))
    return (after - before) / abs(before) if sure and before else 0.0


def _error(values: np.ndarray) -> float:
    """The standard error of their mean."""
    return float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def _rise(values: np.ndarray) -> float:
    """How far the last tenth ended above the lowest, where that is beyond the scatter."""
    if len(values) < MIN_VALUES_FOR_RISE:
        return 1.0
    edges = [round(len(values) * tenth / TENTHS) for tenth in range(TENTHS + 1)]
    tenths = [values[first:last] for first, last in pairwise(edges)]
    lowest, last = min(tenths, key=np.mean), tenths[-1]
    low, end = float(lowest.mean()), float(last.mean())
    sure = end - low > SURE_OF_RISE * math.hypot(_error(lowest), _error(last))
    return end / low if sure and low > 0 else 1.0
