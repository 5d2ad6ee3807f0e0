"""A folder for what visitors upload: no file in it grows much older than an hour, or outlives the app for long."""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX = "ldm-explorer-"
LOCK = ".ldm-explorer.lock"
MAX_AGE_SECONDS = 3600
_SWEEP_SECONDS = 300
_VARIABLE = "GRADIO_TEMP_DIR"  # gradio reads it for each component and each app that it makes


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Let gradio keep its files in a folder of this process alone, below GRADIO_TEMP_DIR where that is set.

    Folders of processes that were killed are removed, then files that grow older than an hour, in the end the folder.
    """
    set_before = os.environ.get(_VARIABLE)
    root = Path(set_before or tempfile.gettempdir())
    root.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=root)).resolve()
    ended = threading.Event()
    try:
        with FileLock(folder / LOCK):
            remove_dead(folder)
            threading.Thread(target=_sweep_until, args=(folder, ended), daemon=True).start()
            os.environ[_VARIABLE] = str(folder)
            yield folder
    finally:
        ended.set()
        os.environ.pop(_VARIABLE, None)
        if set_before is not None:
            os.environ[_VARIABLE] = set_before
        shutil.rmtree(folder, ignore_errors=True)


def remove_dead(own: Path) -> None:
    """Remove the folders beside one's own whose process is gone: nobody holds their lock. Others' are left alone."""
    for folder in own.parent.glob(f"{PREFIX}[0-9]*-*"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != own.stat().st_uid or not (folder / LOCK).is_file():
                continue
            with FileLock(folder / LOCK, timeout=0):
                for entry in folder.iterdir():
                    if entry.name != LOCK:
                        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            shutil.rmtree(folder)
        except (Timeout, OSError):  # it lives, or its files are in use
            continue


def sweep(folder: Path) -> None:
    """Remove what has not changed for an hour: files, also of uploads that were broken off, and empty folders."""
    now = time.time()
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder before the folder
        try:
            if path.name != LOCK and now - path.lstat().st_ctime > MAX_AGE_SECONDS:
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        except OSError:  # not empty, or gone
            continue


def _sweep_until(folder: Path, ended: threading.Event) -> None:
    while not ended.wait(_SWEEP_SECONDS):
        sweep(folder)
