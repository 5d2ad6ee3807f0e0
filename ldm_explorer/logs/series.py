"""What a log holds: named series of numbers, and which of them is the denoising loss."""

import math
import re
import time
from dataclasses import dataclass, field
from itertools import pairwise

from ldm_explorer.files import CheckpointError, printable, shown

MAX_VALUES = 1_000_000
MAX_NAMES = 1000
MAX_SECONDS = 30.0
_CHECK_EVERY = 4096

STEPS = ("step", "global_step", "_step", "iteration", "iterations", "iter", "images", "samples", "batch", "epoch")
"""Fields that say how far a training is, in the order in which they are taken."""

COUNTED_STEPS = ("step", "global_step", "iteration", "iterations", "iter")
"""Those that count updates, and not lines of the log: the loss of the first is that of an untrained network."""

_VALIDATION = re.compile(r"(^|[^a-z])(val|valid|validation|eval|evaluation|test|heldout|holdout)([^a-z]|$)")
_LOSS = re.compile(r"loss|mse|(^|[^a-z])l2([^a-z]|$)")
_UNWEIGHTED = re.compile(r"simple|mse|unweighted")
_OTHER = re.compile(
    r"(^|[^a-z])(vlb|vb|kl|nll|rec|perc\w*|lpips|disc|gen|adv|vq|codebook|logvar|lr|vae|grad|weight|clip)([^a-z]|$)"
    r"|per_bin|_q\d|__min$|__max$|loss_scale|lossless"
)
"""Losses of autoencoders and the like, a part of the timesteps, and what only looks like a loss."""


@dataclass(frozen=True)
class Series:
    """One field of a log over training; values may be NaN or infinite."""

    name: str
    steps: tuple[float, ...]
    values: tuple[float, ...]
    counts_updates: bool = False  # whether the log says that its steps are updates of the network

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Log:
    """What was read."""

    name: str
    format: str
    series: dict[str, Series]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LossCurve:
    """The loss of a log: that of training and that of held-out data, at least one of them, and what else there was."""

    log: Log
    training: Series | None
    validation: Series | None
    others: tuple[str, ...] = ()

    @property
    def judged(self) -> Series:
        """Held-out data says more, where there are at least three values."""
        if self.validation is not None and (self.training is None or len(self.validation) >= 3):
            return self.validation
        assert self.training is not None
        return self.training


@dataclass
class Collector:
    """Gathers the points of a log, up to so many and for so long."""

    source: str
    points: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    count: int = 0
    counts_updates: bool = False
    deadline: float = field(default_factory=lambda: time.monotonic() + MAX_SECONDS)

    def add(self, name: str, step: float | None, value: float) -> None:
        """Without a step its place counts. Raises `CheckpointError` where it is too much."""
        own = self.points.setdefault(printable(name)[:200], [])
        own.append((float(len(own) + 1) if step is None else step, value))
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
        step = None if counter is None else lowered[counter]
        for name, value in record.items():
            if name.lower().rpartition("/")[2] not in STEPS:
                self.add(name, step, value)

    def log(self, name: str, format_: str) -> Log:
        """Every series in the order of its steps. Raises `CheckpointError` where there is none."""
        if not self.points:
            raise CheckpointError(f"{self.source} holds no number that is named: give a log with a loss in it")
        notes: list[str] = []
        series = {field: self._series(field, points, notes) for field, points in self.points.items()}
        return Log(name, format_, series, tuple(dict.fromkeys(notes)))

    def _series(self, name: str, points: list[tuple[float, float]], notes: list[str]) -> Series:
        """Where steps go back, values are numbered: a counter of each epoch, or two trainings in one file."""
        steps, values = zip(*points, strict=True)
        if any(later < earlier for earlier, later in pairwise(steps)):
            notes.append("steps go back in this log (of each epoch, or of several trainings): lines are numbered")
            return Series(name, tuple(float(number) for number in range(1, len(values) + 1)), values)
        return Series(name, steps, values, self.counts_updates)


def find_loss(log: Log, field: str | None = None) -> LossCurve:
    """The denoising loss of a log: `field` where one is named, else what is called so, unweighted where that is there.

    Raises `CheckpointError` where there is none, with the fields that there are.
    """
    if field is not None:
        if field not in log.series:
            raise CheckpointError(f"{log.name} has no field {shown(field)}: choose one of {_names(log.series)}")
        named = log.series[field]
        return LossCurve(log, None, named) if is_validation(field) else LossCurve(log, named, None)
    losses = {name: series for name, series in log.series.items() if _LOSS.search(name.lower())}
    own = {name: series for name, series in losses.items() if not _OTHER.search(name.lower())} or losses
    if not own and len(log.series) == 1:
        own = log.series
    if not own:
        raise CheckpointError(f"{log.name} has no loss among its fields ({_names(log.series)}): name one with --field")
    training = _best({name: series for name, series in own.items() if not is_validation(name)})
    validation = _best({name: series for name, series in own.items() if is_validation(name)})
    chosen = {series.name for series in (training, validation) if series}
    return LossCurve(log, training, validation, tuple(name for name in losses if name not in chosen))


def is_validation(name: str) -> bool:
    """Whether a field is called after held-out data."""
    return bool(_VALIDATION.search(name.lower()))


def _best(series: dict[str, Series]) -> Series | None:
    """Unweighted where that is logged, then with the most points, then with the shortest name."""
    longest = max(map(len, series.values()), default=0)
    return min(
        series.values(),
        key=lambda one: (not _UNWEIGHTED.search(one.name.lower()), 10 * len(one) < longest, len(one.name)),
        default=None,
    )


def _names(names) -> str:
    return ", ".join(list(names)[:12]) + (", ..." if len(names) > 12 else "")
