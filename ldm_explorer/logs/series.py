"""What a log holds: named series of numbers, and which of them is the denoising loss."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from ldm_explorer.files import CheckpointError, shown

_VALIDATION = re.compile(r"(^|[^a-z])(val|valid|validation|eval|evaluation|test|heldout|holdout)([^a-z]|$)")
_LOSS = re.compile(r"loss|mse|(^|[^a-z])l2([^a-z]|$)")
_UNWEIGHTED = re.compile(r"simple|mse|unweighted")
_OTHER = re.compile(
    r"(^|[^a-z])(vlb|vb|kl|nll|rec|perc\w*|lpips|disc|gen|adv|vq|codebook|logvar|lr|vae|grad|weight|clip)([^a-z]|$)"
    r"|per_bin|_q\d|__min$|__max$|loss_scale|lossless"
)
"""Losses of autoencoders and the like, a part of the timesteps, and what only looks like a loss."""

_NO_LOSS = re.compile(
    r"(^|[^a-z])(acc\w*|lr|rate|grad\w*|norm|fid|kid|is|inception\w*|psnr|ssim|lpips|snr|score|precision|recall|f1|auc"
    r"|epochs?|steps?|iter\w*|time\w*|runtime|timestamp|sec\w*|eta|elapsed|speed|throughput|fps|memory|mem|gpu|cpu"
    r"|ema|decay|momentum|beta\d*|wd|weight|scale|temperature|entropy|reward|perplexity|ppl|bleu|num|count|seed|size)"
    r"([^a-z]|$)"
)
"""What else is logged of a training; anything that is alone in a log and not called so may be its loss."""

WITHIN_GAPS = 2
"""Times the longest gap between validations: one that is longer ago than that at the end has stopped."""
FEW_VALIDATIONS = 10
"""Where a log keeps the steps of each field apart, more of them may have a count of their own, of epochs."""
MAX_RISE = 1.5
"""Of the last tenth over the first: what rises more is hardly a loss."""


@dataclass(frozen=True)
class Series:
    """One field of a log over training; values may be NaN or infinite."""

    name: str
    steps: tuple[float, ...]
    values: tuple[float, ...]
    counts_updates: bool = False  # whether the log says that its steps are updates of the network
    shares_steps: bool = False  # whether they are those of records, which hold other fields as well
    goes_back: bool = False  # whether the steps of the log did, so that its lines were numbered

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Log:
    """What was read."""

    name: str
    format: str
    series: dict[str, Series]
    notes: tuple[str, ...] = ()
    share_read: float = 1.0  # of the file, where what follows is damaged
    rivals: frozenset[str] = frozenset()  # fields that are the same one of several trainings


@dataclass(frozen=True)
class LossCurve:
    """The loss of a log: that of training and that of held-out data, at least one of them, and what else there was."""

    log: Log
    training: Series | None
    validation: Series | None
    others: tuple[str, ...] = ()

    @property
    def judged(self) -> Series:
        """Held-out data says more, where there are at least three values and it was looked at until the end."""
        if self.training is None or (self.validation and len(self.validation) >= 3 and not self.validation_stopped):
            assert self.validation is not None
            return self.validation
        return self.training

    @property
    def validation_stopped(self) -> bool:
        """Whether validations end long before the training does."""
        own, other = self.validation, self.training
        if own is None or other is None or own.goes_back or other.goes_back:
            return False
        if not (own.shares_steps and other.shares_steps) and len(own) >= FEW_VALIDATIONS:
            return False
        gaps = [later - earlier for earlier, later in pairwise(own.steps)]
        return bool(gaps) and other.steps[-1] - own.steps[-1] > WITHIN_GAPS * max(gaps)


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
    own = {name: series for name, series in losses.items() if is_denoising_loss(name)}
    own = own or {name: series for name, series in losses.items() if not _NO_LOSS.search(name.lower())}
    if not own and len(log.series) == 1:
        own = {name: series for name, series in log.series.items() if _may_be_a_loss(series)}
    if not own:
        raise CheckpointError(f"{log.name} has no loss among its fields ({_names(log.series)}): name one with --field")
    training = _best({name: series for name, series in own.items() if not is_validation(name)})
    validation = _best({name: series for name, series in own.items() if is_validation(name)})
    chosen = {series.name for series in (training, validation) if series}
    if chosen & log.rivals:
        rivals = _names(name for name in log.series if name in log.rivals and name in own)
        raise CheckpointError(f"{log.name} holds several trainings ({rivals}): name one with --field, or give its file")
    return LossCurve(log, training, validation, tuple(name for name in losses if name not in chosen))


def is_denoising_loss(name: str) -> bool:
    """Whether a field is called so, and not after a part of it or the loss of another network."""
    return bool(_LOSS.search(name.lower())) and not _OTHER.search(name.lower())


def is_validation(name: str) -> bool:
    """Whether a field is called after held-out data."""
    return bool(_VALIDATION.search(name.lower()))


def _may_be_a_loss(series: Series) -> bool:
    """Whether the one field of a log is not called after something else, is not negative and does not rise."""
    finite = [value for value in series.values if math.isfinite(value)]
    if _NO_LOSS.search(series.name.lower()) or min(finite, default=0.0) < 0:
        return False
    tenth = max(1, len(finite) // 10)
    return not finite or fmean(finite[-tenth:]) <= MAX_RISE * fmean(finite[:tenth])


def _best(series: dict[str, Series]) -> Series | None:
    """Unweighted where that is logged, then with the most points, then with the shortest name."""
    longest = max(map(len, series.values()), default=0)
    return min(
        series.values(),
        key=lambda one: (not _UNWEIGHTED.search(one.name.lower()), 10 * len(one) < longest, len(one.name)),
        default=None,
    )


def _names(fields: Iterable[str]) -> str:
    names = list(fields)
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
