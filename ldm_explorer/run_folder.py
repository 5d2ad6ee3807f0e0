"""The folder of a run: what marks it, which of its files are its own, and atomic writing.

A hidden folder, `.ldm-explorer`, which nobody else makes, is the mark of a run folder. It holds
    files.json    the exact names of the files that the run wrote, each recorded before it is written
    tmp           what is being written
    lock          what the one process that writes holds locked (see `claims`); holder.json says which it is
A file that is not in files.json is somebody else's: it is never overwritten and never deleted.
"""

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import uuid4

from ldm_explorer.atomic import delete, put
from ldm_explorer.files import MAX_JSON_BYTES, CheckpointError, read_bytes

MARK = ".ldm-explorer"
NAMES_FILE, HOLDER_FILE, LOCK_FILE, TEMPORARY = "files.json", "holder.json", "lock", "tmp"
FORMAT = 1
MAX_NAMES = 10_000
_held: set[Path] = set()
"""The run folders that this process writes in: one without its mark has lost it, and gets no new one."""


class FolderRefused(FileExistsError):
    """A folder or a file that is not to be written; the message names it and says what to do."""


@dataclass(frozen=True)
class RunFolder:
    """A folder and the files in it that are a run's own. Names are relative to it, with slashes."""

    path: Path

    @property
    def is_marked(self) -> bool:
        mark = self.path / MARK
        return not mark.is_symlink() and (mark / NAMES_FILE).is_file()

    @property
    def lost_its_mark(self) -> bool:
        """Whether the mark was taken away while this process holds the folder."""
        return self.path in _held and not self.is_marked

    @property
    def names(self) -> frozenset[str]:
        """The files that the run wrote, none without a mark.

        Raises `FolderRefused` for a damaged list, and for a mark that is gone while this process holds the folder.
        """
        if self.lost_its_mark:
            raise FolderRefused(
                f"{self.path / MARK}, the mark of this run, is gone: bring it back and go on with the same command and "
                "--resume, or give a new --out"
            )
        if not self.is_marked:
            return frozenset()
        path = self.path / MARK / NAMES_FILE
        status = os.stat(path)
        names = _read_list(path, status.st_ino, status.st_mtime_ns, status.st_size)
        if isinstance(names, str):
            raise FolderRefused(names)
        return names

    def find(self, glob: str, name: re.Pattern[str]) -> Iterator[Path]:
        """The files to be read that are named so: of a run those that it wrote, of another folder all there are.

        Raises `CheckpointError` for a damaged list.
        """
        if self.is_marked:
            there = (path for path in self._listed if os.path.lexists(self.path / path))
        else:
            there = (path.relative_to(self.path).as_posix() for path in self.path.glob(glob))
        return (self.path / path for path in there if name.fullmatch(path))

    def has(self, name: str) -> bool:
        """Whether there is such a file; of a run, whether it wrote that. Raises `CheckpointError` as `find`."""
        return (self.path / name).is_file() and (not self.is_marked or name in self._listed)

    def has_part(self, part: str) -> bool:
        """Whether there is such a subfolder; of a run, whether it wrote there. Raises `CheckpointError` as `find`."""
        if not self.is_marked:
            return (self.path / part).exists()
        return any(name.startswith(f"{part}/") for name in self._listed)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Take a missing mark for one that is gone: nothing is written then, and no new mark made."""
        _held.add(self.path)
        try:
            yield
        finally:
            _held.discard(self.path)

    @property
    def _listed(self) -> frozenset[str]:
        """`names` for those who read, to whom a damaged list is one more file that cannot be read."""
        try:
            return self.names
        except FolderRefused as error:
            raise CheckpointError(str(error)) from error

    def check(self, names: Iterable[str]) -> None:
        """Raise `FolderRefused` where a name that is to be written is taken by what the run did not write."""
        ours = self.names
        for name in names:
            if (taken := self._in_the_way(name, ours)) is not None:
                raise FolderRefused(f"{taken} is there, and this run did not write it: move it away")

    def write_json(self, name: str, content: Any) -> None:
        """Write whole or not at all."""
        self.write_text(name, json.dumps(content, indent=2) + "\n")

    def write_text(self, name: str, content: str) -> None:
        """Write whole or not at all."""
        self.write_bytes(name, content.encode())

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write whole or not at all. Raises `FolderRefused` as `check` does."""
        self.record([name])
        with self._temporary() as temporary:
            temporary.write_bytes(content)
            self._put(temporary, name)

    def append_text(self, name: str, content: str) -> None:
        """Write at the end of a file. Raises `FolderRefused` as `check` does."""
        self.record([name])
        with (self.path / name).open("a", encoding="utf-8", newline="\n") as file:
            file.write(content)

    @contextmanager
    def replacing(self, part: str, last: str | None = None) -> Iterator[Path]:
        """A temporary folder whose files take the place of what the run wrote in its subfolder `part` before.

        That happens when the block ends without an error. `last` is the file by which the part counts as whole: the
        old one goes first and the new one comes last, so nobody reads old and new together. Raises `FolderRefused`
        as `check` does.
        """
        self.check(())  # before anything is made in a mark that is gone
        with self._temporary() as temporary:
            (temporary / part).mkdir(parents=True)
            yield temporary / part
            new = sorted(path.relative_to(temporary).as_posix() for path in temporary.rglob("*") if path.is_file())
            whole = f"{part}/{last}"
            self.check(new)
            self.remove([whole])
            self.record(new)
            for name in new:
                if name != whole:
                    self._put(temporary / name, name)
            self.remove(name for name in self.names.difference(new) if name.startswith(f"{part}/"))
            if whole in new:
                self._put(temporary / whole, whole)

    def remove(self, names: Iterable[str]) -> None:
        """Delete those of the files that the run wrote, and the subfolders that are empty then."""
        ours = self.names
        if not (gone := ours.intersection(names)):
            return
        for name in sorted(gone):
            if self._in_the_way(name, ours) is None:
                delete(self.path / name)
                with suppress(OSError):
                    for folder in list(PurePosixPath(name).parents)[:-1]:
                        (self.path / folder).rmdir()
        self._save(ours - gone)

    def record(self, names: Iterable[str]) -> None:
        """Put names on the list of what the run wrote, before they are written. Raises as `check` does."""
        names, ours = set(map(_checked_name, names)), self.names
        self.check(names)
        if not self.is_marked or not names <= ours:
            self._save(ours | names)

    def adopt(self, names: Iterable[str]) -> None:
        """Mark the folder, and put files that lie there already on its list: those of a run from before the mark."""
        self._save(self.names.union(map(_checked_name, names)))

    def forget_what_is_gone(self) -> None:
        """Take off the list what was never written, for a kill came, or was deleted since: others may use the name."""
        ours = self.names
        there = frozenset(name for name in ours if os.path.lexists(self.path / name))
        if there != ours:
            self._save(there)

    def _in_the_way(self, name: str, ours: frozenset[str]) -> Path | None:
        """What keeps a name from being the run's own: a link, or a file or folder of others."""
        folders = [self.path / folder for folder in reversed(PurePosixPath(name).parents)][1:]
        final = self.path / name
        if taken := next((folder for folder in folders if folder.is_symlink() or folder.is_file()), None):
            return taken
        is_others = final.is_symlink() or final.is_dir() or name not in ours
        return final if is_others and os.path.lexists(final) else None

    def _save(self, names: Iterable[str]) -> None:
        with self._temporary() as temporary:
            temporary.write_text(json.dumps({"format": FORMAT, "files": sorted(names)}, indent=1) + "\n")
            self._put(temporary, f"{MARK}/{NAMES_FILE}")
        _read_list.cache_clear()  # an inode may be used again within one tick of the file system's clock

    def check_mark(self) -> None:
        """Raise `FolderRefused` for a link where the mark keeps its files: files would land elsewhere."""
        mark = self.path / MARK
        for path in (mark, *(mark / name for name in (NAMES_FILE, TEMPORARY, LOCK_FILE, HOLDER_FILE))):
            if path.is_symlink():
                raise FolderRefused(f"{path} is a link, which no run of ours makes: move it away")

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        """A name for a file or folder on the same disk, which is gone afterwards."""
        self.check_mark()
        folder = self.path / MARK / TEMPORARY
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / uuid4().hex
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
                folder.rmdir()

    def _put(self, temporary: Path, name: str) -> None:
        final = self.path / name
        final.parent.mkdir(parents=True, exist_ok=True)
        put(temporary, final)


@lru_cache(maxsize=256)
def _read_list(path: Path, *_stamp: int) -> frozenset[str] | str:
    """The names in files.json, or the sentence that refuses it: whoever reads a run asks for them many times over."""
    try:
        content = json.loads(read_bytes(path, MAX_JSON_BYTES))
        if content["format"] != FORMAT:
            return f"{path} is of format {content['format']}, not {FORMAT}: use a later version"
        if len(content["files"]) > MAX_NAMES:
            return f"{path} lists {len(content['files']):,} files, and a run has at most {MAX_NAMES:,}"
        return frozenset(map(_checked_name, content["files"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return f"{path} does not list the files of a run ({error}): bring it back as it was, or give another folder"


def _checked_name(name: str) -> str:
    """A name that stays inside its folder. Raises `ValueError` for another: a list may come from anywhere."""
    path = PurePosixPath(name)
    leads_out = path.is_absolute() or ".." in path.parts or PureWindowsPath(name).drive or {"\\", "\0"} & set(name)
    if leads_out or str(path) != name or path.parts[:1] in ((), (MARK,)):
        raise ValueError(f"{name!r} is no name of a file in it")
    return name
