"""Which checkpoints lie below a folder, and what was passed over and why."""

import logging
from dataclasses import dataclass
from pathlib import Path

from ldm_explorer.checkpoints import Checkpoint, read_checkpoint
from ldm_explorer.files import CheckpointError, first_line, printable
from ldm_explorer.run_folder import RunFolder
from ldm_explorer.run_layout import STATE_PREFIX, holds_classifier, holds_run

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Skipped:
    """A folder that is not shown, and why, in one sentence."""

    folder: Path
    reason: str


def passed_over(folder: Path, error: Exception, name: str = "") -> Skipped:
    """A folder that something could not be read of, by `name` where the error does not say which.

    What no reader foresaw is also a line in the log.
    """
    reason = f"{printable(name)}: {first_line(error)}" if name else first_line(error)
    if not isinstance(error, ValueError):
        reason = f"{printable(folder)} cannot be read ({type(error).__name__}: {first_line(error)})"
        _log.warning("passed over: %s", reason)
    return Skipped(folder, reason)


def discover(root: Path) -> tuple[list[Checkpoint], list[Skipped]]:
    """Every checkpoint at or below `root` (up to `<root>/<dataset>/<run>`), and every folder that was passed over.

    The folder of a classifier (train/features.py) is neither. Raises `CheckpointError` where `root` is no folder.
    """
    checkpoints, skipped = [], []
    for folder in find_run_folders(root):
        try:
            if not holds_classifier(RunFolder(folder)):
                checkpoints.append(read_checkpoint(folder))
        except Exception as error:  # whatever a reader raises costs this folder alone
            skipped.append(passed_over(folder, error))
    return checkpoints, skipped


def find_run_folders(root: Path) -> list[Path]:
    """Every folder at or below `root` that may be a run, whole or not. Raises `CheckpointError` for no folder."""
    if not _is_folder(root):
        raise CheckpointError(f"{printable(root)} is no folder: give one that holds checkpoints with --checkpoints")
    try:
        if _has_weights(root):
            return [root]
        return [run for folder in _children(root) for run in _runs_in(folder)]
    except OSError as error:
        raise CheckpointError(f"{printable(root)} cannot be looked through: {first_line(error)}") from error


def _runs_in(folder: Path) -> list[Path]:
    """The runs of a dataset, or the folder itself where it holds none; also where it cannot be looked through."""
    try:
        inner = [run for run in _children(folder) if not run.name.startswith(STATE_PREFIX)]
        return inner if inner and not _has_weights(folder) else [folder]
    except OSError:
        return [folder]


def _children(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if not child.name.startswith(".") and _is_folder(child))


def _is_folder(path: Path) -> bool:
    """Also of one that cannot be entered; whoever reads it is told so."""
    try:
        return path.is_dir()
    except OSError:
        return True


def _has_weights(folder: Path) -> bool:
    try:
        return holds_run(RunFolder(folder))
    except CheckpointError:  # a run with a damaged list of files; whoever reads it is told so
        return True
