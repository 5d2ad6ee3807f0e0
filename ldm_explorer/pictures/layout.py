"""What the subfolders of a folder of images are: classes, splits above or below them, or a wrapper around it all."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
SPLIT_BUCKETS = 10
SPLIT_NAMES: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
WRAPPER_NAMES = {"images", "image", "imgs", "img", "pictures", "photos", "data", "dataset", *SPLIT_NAMES}
"""Names that are no class's, where everything lies in one subfolder."""


@dataclass(frozen=True)
class Layout:
    """What is known of every file by where it lies; `notes` are what was recognised, to be said."""

    splits: tuple[Split | None, ...]  # None where folders say nothing of it
    classes: tuple[str, ...]  # "" for a file in no folder of a class
    notes: tuple[str, ...]


def recognise(names: Sequence[str]) -> Layout:
    """The layout of files by their names, relative to the folder and with slashes."""
    notes: list[str] = []
    folders = _unwrapped([name.split("/")[:-1] for name in names], notes)
    splits: list[Split | None] = [None] * len(folders)
    level = next((level for level in (0, 1) if _are_splits(folders, level)), None)
    if level is not None:
        found = sorted({parts[level] for parts in folders})
        notes.append(f"{_listed(found)} are taken as splits")
        splits = [SPLIT_NAMES[parts[level].lower()] for parts in folders]
        folders = _unwrapped([parts[:level] + parts[level + 1 :] for parts in folders], notes)
    elif len(alike := sorted({parts[0] for parts in folders if parts and parts[0].lower() in SPLIT_NAMES})) > 1:
        others = sorted({parts[0] for parts in folders if parts} - set(alike))
        notes.append(f"{_listed(alike)} look like splits, but are taken as classes for {_listed(others)} beside them")
    return Layout(tuple(splits), tuple(parts[0] if parts else "" for parts in folders), tuple(notes))


def _unwrapped(folders: list[list[str]], notes: list[str]) -> list[list[str]]:
    """Without the folders that everything lies in."""
    while len(tops := {parts[0] if parts else None for parts in folders}) == 1 and (top := tops.pop()) is not None:
        if top.lower() not in WRAPPER_NAMES and all(len(parts) == 1 for parts in folders):
            break  # the only class
        notes.append(f"{top}/ holds all of them and is no class")
        folders = [parts[1:] for parts in folders]
    return folders


def _are_splits(folders: list[list[str]], level: int) -> bool:
    """Whether all folders at a level have names of splits, that of training among them."""
    found = {SPLIT_NAMES.get(parts[level].lower()) if len(parts) > level else None for parts in folders}
    return None not in found and "train" in found and len(found) > 1


def _listed(names: Sequence[str], most: int = 5) -> str:
    shown = [*names[:most], *([f"{len(names) - most} more"] if len(names) > most else [])]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def complete_splits(names: Sequence[str], given: Sequence[Split | None]) -> list[Split]:
    """The split of every file: the given one; for a split that is given to none, a tenth of those to train on."""
    there = set(given)

    def complete(name: str, split: Split | None) -> Split:
        if split not in ("train", None):
            return split
        bucket = zlib.crc32(name.encode("utf-8", "surrogateescape")) % SPLIT_BUCKETS
        drawn: Split = "test" if bucket == 0 else "validation" if bucket == 1 else "train"
        return "train" if drawn in there else drawn

    return [complete(name, split) for name, split in zip(names, given, strict=True)]
