"""Models that are opened while the app runs, folders and ids of the Hub, by what they were asked for by."""

import re
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Self
from urllib.parse import unquote

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.data import DATASETS
from ldm_explorer.files import CheckpointError, first_line, is_text, shown, unique_name

HUB = "hf:"
MAX_REFERENCE = 300
"""Characters: a parameter of the address has no more."""
MAX_OPENED = 8
MAX_BYTES = 2_000_000_000
"""Of weights, as they lie on disk: what was used longest ago is let go."""
MAX_BYTES_EACH, MAX_OF_VISITORS = 500_000_000, 20
"""Of a model of the Hub that somebody elsewhere asks for, and how many of them are fetched until the app ends."""
MAX_FILES = 10_000
_ABOUT = re.compile(r"\?(dataset|images)=(.*)", re.DOTALL)
_ADDRESS = re.compile(r"https://(?:www\.)?(?:huggingface\.co|hf\.co)/([^/\s]+/[^/\s]+)(?:/tree/([^/\s]+))?/?")
_BARE_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class MayOpen:
    """What the server opens: folders for who sits at it, ids of the Hub for them alone or for everybody."""

    own: bool = False
    hub_for_all: bool = False

    def __bool__(self) -> bool:
        return self.own or self.hub_for_all

    def check(self, text: str, on_this_machine: bool) -> None:
        """Raises `ValueError` with why a client may not open a reference, or see what it stands for."""
        is_of_the_hub = names_hub(text)
        if (self.own and on_this_machine) or (self.hub_for_all and is_of_the_hub):
            return
        if not self:
            raise ValueError("this server opens no other models than its own: start the app on your machine")
        what = "ids of the Hub" if is_of_the_hub else "folders"
        raise ValueError(f"{what} are opened here for who sits at the server itself: start the app on your machine")


def names_hub(text: str) -> bool:
    """Whether a reference is of the Hub alone, and of no folder of this machine."""
    about = _ABOUT.search(text)
    return text.strip().startswith((HUB, "https://")) and not (about and about[1] == "images")


NOTHING = MayOpen()


@dataclass(frozen=True)
class Reference:
    """`source` is the path of a folder, or `hf:owner/name[@revision]`; what it is of is a dataset, a folder of images,
    or not known."""

    source: str
    dataset: str | None = None
    images: str | None = None

    @classmethod
    def read(cls, text: str) -> Self:
        """`SOURCE`, `SOURCE?dataset=NAME` or `SOURCE?images=DIR`. Raises `ValueError` for what is none."""
        text = text.strip()
        if not is_text(text):
            raise ValueError(f"{shown(text)} holds characters that are no text: give a folder, or {HUB}owner/name")
        source, about = text, _ABOUT.search(text)
        if about:
            source = text[: about.start()]
        if not source or len(text) > MAX_REFERENCE:
            came = f"{len(text)} characters" if source else "nothing"
            raise ValueError(f"{came} came: give a folder, or {HUB}owner/name, in at most {MAX_REFERENCE} characters")
        kind, given = (about[1], about[2].strip()) if about else ("", "")
        if kind == "dataset" and given and given not in DATASETS:
            raise ValueError(f"unknown dataset {shown(given)}: choose one of {', '.join(DATASETS)}")
        images = _whole_path(given) if kind == "images" and given else None
        reference = cls(_source(source), given if kind == "dataset" and given else None, images)
        if len(reference.text) > MAX_REFERENCE:
            raise ValueError(
                f"{shown(reference.text)} is longer than {MAX_REFERENCE} characters: link to it from nearer"
            )
        return reference

    @property
    def text(self) -> str:
        """As it stands in an address."""
        about = f"?dataset={self.dataset}" if self.dataset else f"?images={self.images}" if self.images else ""
        return f"{self.source}{about}"

    @property
    def name(self) -> str:
        """The folder's, or that of the Hub."""
        return self.source.removeprefix(HUB) if self.source.startswith(HUB) else Path(self.source).name or self.source


def _source(given: str) -> str:
    if address := _ADDRESS.fullmatch(given):
        return f"{HUB}{address[1]}" + (f"@{unquote(address[2])}" if address[2] else "")
    if "://" in given:
        raise ValueError(f"{shown(given)} is no address of a model: give {HUB}owner/name")
    if given.startswith(HUB):
        return given
    if _BARE_ID.fullmatch(given) and not Path(given).exists():
        raise ValueError(f"{shown(given)} is no folder here: for a model of the Hub give {HUB}{given}")
    return _whole_path(given)


def _whole_path(given: str) -> str:
    try:
        return str(Path(given).expanduser().absolute().resolve())
    except (OSError, RuntimeError, ValueError) as error:  # too long, a loop of links, a home that nobody has
        raise ValueError(f"{shown(given)} is no path: {first_line(error)}") from error


@dataclass(frozen=True)
class _Kept:
    checkpoint: Checkpoint
    written: tuple[tuple[str, int, int], ...]
    num_bytes: int


class Opened:
    """What was opened, by its reference or by its name; the last few that were used."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._lock = threading.Lock()
        self._of_visitors: set[str] = set()
        self.edition = 0
        """Another one whenever a reference stands for other files than before."""

    def reference(self, name: str) -> str | None:
        """The reference of what has this name or this reference, None where that is not open."""
        with self._lock:
            if name in self._kept:
                return name
            return next((text for text, kept in self._kept.items() if kept.checkpoint.name == name), None)

    def get(self, name: str) -> Checkpoint | None:
        """By name or reference, None where it is not open."""
        text = self.reference(name)
        with self._lock:
            if text is None or text not in self._kept:
                return None
            self._kept.move_to_end(text)
            return self._kept[text].checkpoint

    def add(self, text: str, checkpoint: Checkpoint, name: str, taken: Iterable[str]) -> Checkpoint:
        """Keep it under a name that is not taken; one whose files are as they were when it was opened stays as it is.

        Raises `CheckpointError` for a folder that cannot be looked through.
        """
        written, num_bytes = files_of(checkpoint.folder)
        with self._lock:
            before = self._kept.get(text)
            if before is None or before.written != written:
                self.edition += before is not None
                others = {kept.checkpoint.name for other, kept in self._kept.items() if other != text}
                free = unique_name(name, [*others, *taken])
                self._kept[text] = _Kept(replace(checkpoint, name=free), written, num_bytes)
            self._kept.move_to_end(text)
            self._let_go()
            return self._kept[text].checkpoint

    def count_visitors(self, source: str) -> None:
        """One more that somebody elsewhere has fetched. Raises `ValueError` after as many as there may be."""
        with self._lock:
            if source not in self._of_visitors and len(self._of_visitors) >= MAX_OF_VISITORS:
                most = (
                    f"visitors had {MAX_OF_VISITORS} models fetched, as many as they may until this server starts anew"
                )
                raise ValueError(f"{most}: start the app on your machine")
            self._of_visitors.add(source)

    def _let_go(self) -> None:
        def is_too_much() -> bool:
            return len(self._kept) > MAX_OPENED or sum(kept.num_bytes for kept in self._kept.values()) > MAX_BYTES

        while len(self._kept) > 1 and is_too_much():
            _, let_go = self._kept.popitem(last=False)
            let_go.checkpoint.unload()


def files_of(folder: Path) -> tuple[tuple[tuple[str, int, int], ...], int]:
    """The files of a folder and of its subfolders with their sizes and the times they were written at, in ns, and the
    bytes of all weights among them; of a folder with very many the first ones.

    Raises `CheckpointError` for a folder that cannot be looked through.
    """
    try:
        found = islice((path for pattern in ("*", "*/*") for path in folder.glob(pattern)), MAX_FILES)
        status = [(path, path.stat()) for path in found if path.is_file()]
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be looked through: {first_line(error)}") from error
    weights = sum(known.st_size for path, known in status if path.suffix == ".safetensors")
    return tuple(sorted((str(path), known.st_mtime_ns, known.st_size) for path, known in status)), weights
