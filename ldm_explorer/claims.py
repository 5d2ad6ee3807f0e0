"""Who writes in a run folder: one process, in a folder that is a run's."""

import errno
import json
import logging
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ldm_explorer.files import is_text, printable
from ldm_explorer.run_folder import HOLDER_FILE, LOCK_FILE, MARK, TEMPORARY, FolderRefused, RunFolder
from ldm_explorer.run_layout import CONFIG_FILE, LOG_FILE

MAX_NAMED_FILES = 4
_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
_log = logging.getLogger(__name__)


@contextmanager
def claim(path: Path) -> Iterator[RunFolder]:
    """Take a folder for a run, marked and locked. One in which nothing is written is left as it was found.

    Raises `FolderRefused` for what is no place for a run, for a folder that holds anything but a run of ours, and as
    `locked` does.
    """
    run, new = RunFolder(path), [folder for folder in (path, *path.parents) if not folder.exists()]
    check_place(path)
    if not run.is_marked:
        check_empty(path)
    (path / MARK).mkdir(parents=True, exist_ok=True)
    left_alone = False
    try:
        with locked(run):
            try:
                if not run.is_marked:
                    run.adopt(())
                run.forget_what_is_gone()
                with run.held():
                    yield run
            finally:
                if left_alone := not run.names and not _others(path):
                    shutil.rmtree(path / MARK, ignore_errors=True)
    finally:
        with suppress(OSError):  # the first one that is not empty
            for folder in (path / MARK, *new) if left_alone else ():  # Windows keeps the mark as long as it is locked
                folder.rmdir() if folder.exists() else None


@contextmanager
def locked(run: RunFolder) -> Iterator[None]:
    """Be the one process that writes in a marked folder, and clear away what a killed one left half-written there.

    Raises `FolderRefused`, naming the process that writes there now. The lock ends with its process, however that ends.
    """
    run.check_mark()
    mark = run.path / MARK
    lock = FileLock(str(mark / LOCK_FILE), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise FolderRefused(f"{run.path} is being written by {_holder(mark)}: wait for it, or stop it") from None
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _WITHOUT_LOCKS:
            raise
        _log.warning("%s lies where files cannot be locked: see that no other process writes there", run.path)
    try:
        shutil.rmtree(mark / TEMPORARY, ignore_errors=True)
        (mark / HOLDER_FILE).unlink(missing_ok=True)  # it may be a hard link to somebody's file
        (mark / HOLDER_FILE).write_text(json.dumps({"pid": os.getpid(), "host": platform.node()}))
        yield
    finally:
        shutil.rmtree(mark / TEMPORARY, ignore_errors=True)
        (mark / HOLDER_FILE).unlink(missing_ok=True)
        lock.release()


def check_place(path: Path) -> None:
    """Raise `FolderRefused` for a link, a file, the home folder, and whatever contains the working directory.

    And for a name that is no text: the run's files hold it, and whoever reads them passes such a folder over.
    """
    advice = "give a folder of the run's own, as in --out runs/NAME"
    if not is_text(path):
        raise FolderRefused(f"{printable(path)} has a name with characters that are no text: {advice}")
    if path.is_symlink():
        raise FolderRefused(f"{path} is a link to {os.readlink(path)}: give that folder itself, or another")
    for place in (path, *path.parents):
        if place.exists() and not place.is_dir():
            raise FolderRefused(f"{place} is a file: {advice}")
    folder, home = path.resolve(), Path(os.path.expanduser("~")).resolve()  # Path.home() raises where there is none
    for name, kept in (("working directory", Path.cwd()), ("home folder", home)):
        if folder in (kept, *kept.parents):
            raise FolderRefused(f"{path} is the {name}, or contains it: {advice}")
    if any(place.name == MARK and RunFolder(place.parent).is_marked for place in (folder, *folder.parents)):
        raise FolderRefused(f"{path} lies in the mark of a run: {advice}")


def check_empty(path: Path) -> None:
    """Raise `FolderRefused` for a folder that holds anything, naming it."""
    if not (there := _others(path)):
        return
    named = ", ".join(there[:MAX_NAMED_FILES]) + (f" and {rest} more" if (rest := len(there[MAX_NAMED_FILES:])) else "")
    old_run = {CONFIG_FILE, LOG_FILE} <= set(there)
    hint = f", or, if a run of an earlier version made it, `python tools/mark_run.py {path}`" if old_run else ""
    raise FolderRefused(f"{path} holds {named}, and no mark of a run of ours: give a new or empty folder{hint}")


def _others(path: Path) -> list[str]:
    """What a folder holds besides the folder that marks a run."""
    children = path.iterdir() if path.is_dir() else ()
    return sorted(child.name for child in children if child.name != MARK or child.is_symlink() or not child.is_dir())


def _holder(mark: Path) -> str:
    try:
        holder = json.loads((mark / HOLDER_FILE).read_text())
        return f"process {holder['pid']} on {holder['host']}"
    except (OSError, ValueError, KeyError, TypeError):  # it is just starting
        return "another process"
