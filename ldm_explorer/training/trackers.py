"""Accelerate's trackers: which there are, and how each of them is given a picture."""

import logging
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import LoggerType

_log = logging.getLogger(__name__)


def check_tracker(name: str) -> None:
    """Raise `ValueError` for a tracker that Accelerate does not know, or that is not installed."""
    if name not in LOGGER_TYPE_TO_CLASS:
        raise ValueError(f"unknown --tracker {name}: choose one of {', '.join(LOGGER_TYPE_TO_CLASS)}")
    is_built_in = name in [kind.value for kind in LoggerType]
    if is_built_in and name not in [str(kind) for kind in get_available_trackers()]:
        raise ValueError(f"--tracker {name} is not installed: pip install {name.replace('_', '-')}")


def start_trackers(accelerator: Accelerator, options: dict[str, Any]) -> None:
    """Begin a run in each, with its options, as text where one is neither a number nor a word.

    One that takes no pictures is named in a warning.
    """
    plain = {name: value if isinstance(value, int | float | str) else str(value) for name, value in options.items()}
    accelerator.init_trackers("ldm-explorer", config=plain)
    for tracker in accelerator.trackers:
        if tracker.name not in _PICTURES:
            _log.warning("--tracker %s is given no pictures: the film is in the run's folder alone", tracker.name)


def _trackio(tracker: Any, name: str, picture: np.ndarray, step: int) -> None:
    tracker.log({name: import_module("trackio").Image(picture)}, step=step)  # it is installed where it is a tracker


_PICTURES: dict[str, Callable[[Any, str, np.ndarray, int], None]] = {
    "tensorboard": lambda t, name, picture, step: t.log_images({name: picture[None]}, step=step, dataformats="NHWC"),
    "wandb": lambda t, name, picture, step: t.log_images({name: [picture]}, step=step),
    "swanlab": lambda t, name, picture, step: t.log_images({name: [picture]}, step=step),
    "aim": lambda t, name, picture, step: t.log_images({name: picture}, step=step),
    "clearml": lambda t, name, picture, step: t.log_images({name: picture}, step=step),
    "trackio": _trackio,
    "comet_ml": lambda t, name, picture, step: t.tracker.log_image(picture, name=name, step=step),
    "dvclive": lambda t, name, picture, step: t.tracker.log_image(f"{name}/{step}.png", picture),
}
"""By the tracker's name: Accelerate's `log_images` means another thing in each, and some have none."""


def log_picture(accelerator: Accelerator, name: str, picture: np.ndarray, step: int) -> None:
    """Give every tracker that takes pictures one of a step, `(H, W, 3) uint8`."""
    for tracker in accelerator.trackers:
        if tracker.name in _PICTURES:
            _PICTURES[tracker.name](tracker, name, picture, step)
