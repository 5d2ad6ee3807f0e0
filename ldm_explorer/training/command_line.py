"""The command line of the scripts: options to a config, errors to one sentence and an exit status."""

import gc
import inspect
import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
import tyro

from ldm_explorer.image_folder import DataError
from ldm_explorer.training.config import FitConfig
from ldm_explorer.training.failures import ProcessLost
from ldm_explorer.training.guard import TrainingFailed
from ldm_explorer.training.launcher import check_launcher
from ldm_explorer.training.run import RefusedByMainProcess
from ldm_explorer.training.run_state import PLACE_FIELDS

INTERRUPTED = 130
"""The exit status of a run that Ctrl-C or SIGTERM stopped: 128 + SIGINT, as shells have it."""

REFUSED = 2

SECONDS_FOR_RANK_0 = 10

Config = TypeVar("Config")


class Interrupted(KeyboardInterrupt):
    """A training that Ctrl-C or SIGTERM stopped; the message, where there is one, is still to be shown."""


def main_of(config_class: type[Config], main: Callable[[Config], None]) -> None:
    """Parse the command line into the config and run.

    A refused option or a training that failed ends in one sentence, said once; exit status 2 or 1. Ctrl-C where a
    training does not see to it itself ends in one too, with 130.
    """
    try:
        check_launcher()  # before a config reads images
        gc.freeze()  # what was imported stays: no collection, nor the end, goes through it again
        main(tyro.cli(config_class, description=described(config_class)))
    except KeyboardInterrupt as stopped:
        if said := str(stopped) if isinstance(stopped, Interrupted) else _way_on(config_class):
            print(said, file=sys.stderr, flush=True)
        sys.exit(INTERRUPTED)
    except RefusedByMainProcess:
        sys.exit(REFUSED)  # the main process says why
    except (ValueError, OSError, DataError, TrainingFailed) as error:
        if os.environ.get("RANK", "0") != "0" and not isinstance(error, ProcessLost):
            time.sleep(SECONDS_FOR_RANK_0)  # where all fail alike its message is enough, and the launcher ends the rest
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(1 if isinstance(error, TrainingFailed) else REFUSED)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()  # or gloo's threads outlive the interpreter, which then may abort


def described(config_class: type) -> str:
    """What --help says before the options: nothing of what is raised, which is for Python, and what is spent by
    default."""
    said = [part for part in (inspect.getdoc(config_class) or "").split("\n\n") if not part.startswith("Raises ")]
    if issubclass(config_class, FitConfig):
        said.append(f"Without a budget it trains for {config_class.DEFAULT_MINUTES:g} minutes.")
    return "\n\n".join(said)


def _way_on(config_class: type) -> str:
    """How a command goes on that Ctrl-C stopped where no training saw to it."""
    if issubclass(config_class, FitConfig):  # `drive` sees to one that wrote anything
        return "stopped before anything was written"
    if hasattr(config_class, "resume"):
        return "stopped: the same command with --resume goes on from what was kept"
    return "stopped: the same command begins again"


def command_line(arguments: list[str]) -> str:
    """The command that repeats a run: its script and the options that change its result."""
    words, kept = list(arguments[1:]), []
    while words:
        option, equals, _ = words[0].partition("=")
        name = option[2:].replace("-", "_") if option.startswith("--") else ""
        without_effect = name in PLACE_FIELDS | {"threads"}
        kept += [] if without_effect else words[:1]
        words = words[2 if without_effect and not equals and name != "resume" else 1 :]
    return shlex.join(["accelerate", "launch", f"train/{Path(arguments[0]).name}", *kept])
