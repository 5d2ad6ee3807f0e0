"""A dataset of Hugging Face's `datasets` library as pictures: by its name on the Hub, or the folder it was saved to.

Its rows hold the files of pictures, which are decoded here, as those of folders are.
"""

import hashlib
import re
from collections import Counter
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from ldm_explorer.files import MAX_PICTURE_BYTES, first_line, printable, read_bytes
from ldm_explorer.pictures.collection import MemoryMap, Pictures, read_pictures
from ldm_explorer.pictures.layout import SPLIT_NAMES, SPLITS, Split, complete_splits
from ldm_explorer.pictures.listing import DataError, LeftOut, Listing

SAVED_FILES = ("dataset_dict.json", "dataset_info.json")
"""What `save_to_disk` leaves in its folder."""
_ON_THE_HUB = re.compile(r"(?P<path>[\w.-]+(/[\w.-]+)?)(:(?P<name>[\w.-]+))?(@(?P<revision>[\w./-]+))?")


@cache
def read_hugging_face(reference: str, side: int, memory_map: MemoryMap = "auto") -> Pictures:
    """The pictures of `owner/name[:config][@revision]` or of a folder, at one side.

    Raises `DataError` where there are none, no way to get them, or too few for three splits.
    """
    pictures = read_pictures(list_hugging_face(reference), side, memory_map)
    pictures.split("train")  # there has to be one of each
    return pictures


def list_hugging_face(reference: str) -> Listing:
    """Find the rows with a picture, and with a label where there are labels. Raises `DataError`."""
    datasets = _library(reference)
    parts = _load(datasets, reference)
    image, label, class_names, notes = _columns(datasets, reference, next(iter(parts.values())).features)
    stamp = hashlib.sha256(repr([(name, len(part), part._fingerprint) for name, part in parts.items()]).encode())
    plain = {
        name: part.select_columns([image]).cast_column(image, datasets.Image(decode=False)).with_format(None)
        for name, part in parts.items()
    }
    rows, left_out = _rows(parts, label)
    names = [f"{part}/{number}" for part, number, _, _ in rows]
    splits = complete_splits(names, [split for *_, split in rows])
    order = sorted(range(len(rows)), key=lambda place: SPLITS.index(splits[place]))

    def content(place: int) -> bytes:
        part, number, *_ = rows[order[place]]
        found = plain[part][number][image] or {}
        if found.get("bytes") is not None:
            return found["bytes"]
        if found.get("path") is None:
            raise ValueError("the row holds no picture")
        return read_bytes(Path(found["path"]), MAX_PICTURE_BYTES)

    return Listing(
        where=f"hf:{reference}",
        origin=f"hf:{reference}",
        names=tuple(names[place] for place in order),
        labels=tuple(rows[place][2] for place in order),
        splits=tuple(splits[place] for place in order),
        class_names=class_names,
        stamp=stamp.hexdigest(),
        content=content,
        left_out=left_out,
        notes=notes,
    )


def _library(reference: str) -> ModuleType:
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"hf:{reference} needs Hugging Face's library, which is not installed: pip install 'datasets>=4'"
        ) from error
    return datasets


def _load(datasets: ModuleType, reference: str) -> dict[str, Any]:
    """The parts of a dataset by their names."""
    folder, named = Path(reference).expanduser(), _ON_THE_HUB.fullmatch(reference)
    try:
        if any((folder / name).is_file() for name in SAVED_FILES):
            loaded = datasets.load_from_disk(str(folder))
        elif folder.exists() or named is None:
            raise DataError(
                f"{printable(folder)} is no folder that a dataset was saved to with save_to_disk, and no name on the "
                "Hub, owner/name[:config][@revision]: image files are read with folder:PATH"
            )
        else:
            loaded = datasets.load_dataset(**named.groupdict())
    except (DataError, KeyboardInterrupt):
        raise
    except Exception as error:  # the library's own, of every file it reads and of the network
        raise DataError(f"hf:{printable(reference)} cannot be loaded: {first_line(error)}") from error
    return dict(loaded) if isinstance(loaded, dict) else {"train": loaded}


def _columns(
    datasets: ModuleType, reference: str, features: dict[str, Any]
) -> tuple[str, str | None, tuple[str, ...], tuple[str, ...]]:
    """The column of pictures, that of labels, the names of the classes, and what is to be said of them."""
    images = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    labels = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    if not images:
        found = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in features.items())
        raise DataError(f"hf:{printable(reference)} has no column of pictures: its columns are {printable(found)}")
    notes = [f"pictures are those of the column {images[0]}"]
    if labels:
        notes.append(f"labels those of {labels[0]}")
    if unused := [*images[1:], *labels[1:]]:
        notes.append(f"{', '.join(unused)} not used")
    class_names = tuple(map(printable, features[labels[0]].names)) if labels else ()
    return images[0], labels[0] if labels else None, class_names, (", ".join(notes),)


def _rows(parts: dict[str, Any], label: str | None) -> tuple[list[tuple[str, int, int, Split | None]], LeftOut]:
    """Part, number in it, label and split of every row that is kept, and how many are left out, by why."""
    rows: list[tuple[str, int, int, Split | None]] = []
    left_out: Counter[str] = Counter()
    for name, part in parts.items():
        split = SPLIT_NAMES.get(name.lower())
        if split is None and len(parts) > 1:
            left_out[f"of {name}, which is no split that is known"] += len(part)
            continue
        labels = [0] * len(part) if label is None else part.with_format(None)[label][:]
        known = [number for number, value in enumerate(labels) if value is not None and value >= 0]
        left_out["without label"] += len(part) - len(known)
        rows += [(name, number, labels[number], split if len(parts) > 1 else None) for number in known]
    return rows, LeftOut(+left_out)
