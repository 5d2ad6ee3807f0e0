"""Gathering the points of a log into series, within limits: rows without a loss, steps that go back, resumed runs."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from ldm_explorer.files import CheckpointError, printable, unique_name
from ldm_explorer.logs.series import Log, Series, is_denoising_loss, is_validation

MAX_VALUES = 1_000_000
MAX_NAMES = 1000
MAX_SECONDS = 30.0
_CHECK_EVERY = 4096

STEPS = ("step", "global_step", "_step", "iteration", "iterations", "iter", "images", "samples", "batch", "epoch")
"""Fields that say how far a training is, in the order in which they are taken."""

COUNTED_STEPS = ("step", "global_step", "iteration", "iterations", "iter")
"""Those that count updates, and not lines of the log: the loss of the first is that of an untrained network."""

NEAR_THE_BEGINNING = 0.1
"""Of a training: it would have lost more if it was resumed from there."""
WENT_BACK = "steps go back in this log (of each epoch, or of several trainings): lines are numbered"


class Point(NamedTuple):
    """A value of one field; of a record its number, None for a value of its own."""

    step: float
    value: float
    record: int | None


@dataclass
class Collector:
    """Gathers the points of a log, up to so many and for so long."""

    source: str
    points: dict[str, list[Point]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    share_read: float = 1.0
    count: int = 0
    records: int = 0
    counts_updates: bool = False
    counters: set[str | None] = field(default_factory=set)
    deadline: float = field(default_factory=lambda: time.monotonic() + MAX_SECONDS)
    _current: dict[str, str] = field(default_factory=dict)  # the name of the last training's series of each field
    _rivals: set[str] = field(default_factory=set)

    def add(self, name: str, step: float | None, value: float, record: int | None = None) -> None:
        """Without a step its place counts. Raises `CheckpointError` where it is too much."""
        name = printable(name)[:200]
        own = self.points.setdefault(self._current.get(name, name), [])
        if step is None:
            self.counters.add(None)
        own.append(Point(float(len(own) + 1) if step is None else step, value, record))
        self.count += 1
        if self.count > MAX_VALUES:
            raise CheckpointError(
                f"{self.source} holds more than {MAX_VALUES:,} numbers: cut out the loss and its step"
            )
        if len(self.points) > MAX_NAMES:
            raise CheckpointError(f"{self.source} has more than {MAX_NAMES:,} fields: cut out the loss and its step")
        if self.count % _CHECK_EVERY == 0:
            self.check_time()

    def check_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise CheckpointError(f"{self.source} takes more than {MAX_SECONDS:g} s to read: cut out the loss")

    def add_record(self, record: dict[str, float]) -> None:
        """All numbers of a line but its step, which they share."""
        lowered = {name.lower().rpartition("/")[2]: value for name, value in record.items()}
        counter = next((name for name in STEPS if math.isfinite(lowered.get(name, math.nan))), None)
        self.counts_updates |= counter in COUNTED_STEPS
        self.counters.add(counter)
        step = None if counter is None else lowered[counter]
        self.records += 1
        for name, value in record.items():
            if name.lower().rpartition("/")[2] not in STEPS:
                self.add(name, step, value, self.records)

    def resume(self, name: str, step: float) -> None:
        """A further file goes on with a field from a step: what an earlier one has from there on was lost with its
        process, as TensorBoard reads it. Near the beginning it is another training, with a series of its own."""
        name = printable(name)[:200]
        own = self._current.get(name, name)
        if own not in self.points:
            return
        first, last = self.points[own][0].step, self.points[own][-1].step
        if step > first + NEAR_THE_BEGINNING * (last - first):
            self.points[own] = [point for point in self.points[own] if point.step < step]
            self.notes.append("training was resumed: its files are joined by their steps")
            return
        self._current[name] = unique_name(name, self.points)
        self._rivals |= {own, self._current[name]}

    def log(self, name: str, format_: str) -> Log:
        """Every series in the order of its steps. Raises `CheckpointError` where there is none."""
        if not self.points:
            raise CheckpointError(f"{self.source} holds no number that is named: give a log with a loss in it")
        found = self._without_empty()
        series = {field: self._series(field, points) for field, points in found.items() if points}
        return Log(name, format_, series, tuple(dict.fromkeys(self.notes)), self.share_read, frozenset(self._rivals))

    def _without_empty(self) -> dict[str, Sequence[Point]]:
        """The points without the "nan" that a table has in place of an empty cell: those of records that were written
        for another field, and validations beside a loss that is a number. A training that fell apart has it beside
        what is in every record, as its learning rate."""
        numbers = {
            name: {point.record for point in points if math.isfinite(point.value)}
            for name, points in self.points.items()
        }
        found: dict[str, Sequence[Point]] = dict(self.points)
        for name, points in self.points.items():
            empty = {point.record for point in points if math.isnan(point.value)} - {None}
            of_others: set[int | None] = set()
            for other, records in numbers.items() if empty else ():
                is_trained = is_validation(name) and is_denoising_loss(other) and not is_validation(other)
                if not records.isdisjoint(empty) and (is_trained or _are_apart(numbers[name], records)):
                    of_others |= records & empty
            if of_others:
                found[name] = [p for p in points if not (math.isnan(p.value) and p.record in of_others)]
            self.check_time()
        return found

    def _series(self, name: str, points: Sequence[Point]) -> Series:
        """Where steps go back, values are numbered: a counter of each epoch, or two trainings in one file. Where they
        never do anything else, the last line was written first."""
        steps = [point.step for point in points]
        if len(set(steps)) > 1 and all(later <= earlier for earlier, later in pairwise(steps)):
            points, steps = points[::-1], steps[::-1]
        values = tuple(point.value for point in points)
        if any(later < earlier for earlier, later in pairwise(steps)):
            self.notes.append(WENT_BACK)
            return Series(name, tuple(float(number) for number in range(1, len(values) + 1)), values, goes_back=True)
        shares_steps = len(self.counters) == 1 and None not in self.counters
        shares_steps &= all(point.record is not None for point in points)
        return Series(name, tuple(steps), values, self.counts_updates, shares_steps)


def _are_apart(numbers: set[int | None], others: set[int | None]) -> bool:
    """Whether two fields are rarely numbers in one record, and take turns."""
    both = len(numbers & others)
    return bool(numbers) and 2 * both <= len(numbers) and max(map(_place, numbers)) > min(map(_place, others))


def _place(record: int | None) -> int:
    return record or 0
