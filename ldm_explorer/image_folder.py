"""Any folder of images as tensors: subfolders are classes, without subfolders there are none.

Where no subfolders are the splits, a file is in the test, the validation or the training split by a checksum of its
name, so that files that are added later move no other one.
"""

import hashlib
import heapq
import os
import stat
from collections import Counter
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ldm_explorer.files import MAX_PICTURE_BYTES, printable, read_bytes
from ldm_explorer.pictures.collection import MemoryMap, Pictures, read_pictures
from ldm_explorer.pictures.layout import SPLITS, Layout, complete_splits, recognise
from ldm_explorer.pictures.listing import DataError, LeftOut, Listing, said_of
from ldm_explorer.pictures.picture import picture_suffixes, read_picture


@cache
def read_image_folder(folder: Path, side: int, memory_map: MemoryMap = "auto") -> Pictures:
    """Read every image at or below `folder`, cropped to its central square and scaled to `side`.

    What cannot be read is named in a warning and left out. Raises `DataError` when the folder holds no images, or
    images both in subfolders and beside them, or too few for three splits.
    """
    pictures = read_pictures(list_folder(folder), side, memory_map)
    pictures.split("train")  # there has to be one of each
    return pictures


@cache
def read_some_images(folder: Path, side: int, at_most: int = 1000) -> Pictures:
    """Images to look at, as `read_image_folder` reads them, also where they are too few for splits."""
    return read_pictures(list_folder(folder).at_most(at_most), side)


def list_folder(folder: Path) -> Listing:
    """Find every image at or below a folder, where links lead too. Raises `DataError` as `read_image_folder` does."""
    found, left_out = find_files(folder)
    names = sorted(found, key=_parts)
    if not names:
        why = f"; {said_of(left_out)}" if left_out else ""
        raise DataError(f"{printable(folder)} holds no images ({', '.join(sorted(picture_suffixes()))}){why}")
    layout = recognise(names)
    kept = _in_classes(folder, layout, left_out)
    splits = complete_splits(names, layout.splits)
    order = sorted(kept, key=lambda place: SPLITS.index(splits[place]))  # and by name: sorting is stable
    classes = sorted({layout.classes[place] for place in kept} - {""})
    ordered = tuple(names[place] for place in order)
    facts = "\0".join(f"{name} {found[name]}" for name in ordered)
    return Listing(
        where=os.fspath(folder),
        origin=os.fspath(folder.resolve()),
        names=ordered,
        labels=tuple(classes.index(layout.classes[place]) if classes else 0 for place in order),
        splits=tuple(splits[place] for place in order),
        class_names=tuple(map(printable, classes)),
        stamp=hashlib.sha256(facts.encode("utf-8", "surrogateescape")).hexdigest(),
        content=lambda place: read_bytes(folder / ordered[place], MAX_PICTURE_BYTES),
        left_out=left_out,
        notes=layout.notes,
    )


def find_files(folder: Path) -> tuple[dict[str, tuple[int, ...]], LeftOut]:
    """The images at or below a folder by name, with what tells that one has changed, and what is left out by why.

    Links are followed once everything else was seen, to what was not seen by then. Raises `DataError` for no folder.
    """
    if not folder.is_dir():
        raise DataError(f"{printable(folder)} is no folder: give one that holds images")
    found: dict[str, tuple[int, ...]] = {}
    left_out: Counter[str] = Counter()
    dead = list[str]()
    seen: set[tuple[int, int]] = set()
    waiting, links = [""], list[str]()  # links in the order of their names
    while waiting or links:
        is_link = not waiting
        name = heapq.heappop(links) if is_link else waiting.pop()
        path = os.path.join(folder, name)
        try:
            status = os.stat(path)
            is_folder = stat.S_ISDIR(status.st_mode)
            entries = [*os.scandir(path)] if is_folder else []
        except OSError as error:
            if is_link:
                dead.append(name)
            else:
                left_out[f"not to be opened ({error.strerror})"] += 1
            continue
        key = status.st_dev, status.st_ino
        if key in seen and (is_link or is_folder):
            left_out["links to what is there already"] += 1
        elif is_folder:
            left_out["hidden"] += sum(entry.name[0] == "." for entry in entries)
            for entry in entries:
                if entry.name[0] != ".":
                    inside = f"{name}/{entry.name}" if name else entry.name
                    heapq.heappush(links, inside) if entry.is_symlink() else waiting.append(inside)
        elif not stat.S_ISREG(status.st_mode):
            left_out["no regular files"] += 1
        elif (suffix := os.path.splitext(name)[1].lower()) not in picture_suffixes():
            left_out[suffix or "without suffix"] += 1
        else:
            found[name] = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        seen.add(key)
    return found, LeftOut(+left_out).and_named("broken links", dead)


def _in_classes(folder: Path, layout: Layout, left_out: LeftOut) -> list[int]:
    """The places of the files that are kept: those in folders of classes, where there are any."""
    inside = [place for place, name in enumerate(layout.classes) if name]
    outside = len(layout.classes) - len(inside)
    if inside and outside and layout.splits[0] is None:
        raise DataError(
            f"{printable(folder)} holds images in subfolders and beside them: give every image a subfolder, or none"
        )
    if inside and outside:  # as where a set of test images comes without labels
        left_out["in no folder of a class"] = outside
    return inside or list(range(len(layout.classes)))


def holds_pictures(folder: Path) -> bool:
    """Whether there is an image file in a folder, those of its subfolders left out."""
    return any(path.suffix.lower() in picture_suffixes() for path in folder.iterdir())


def read_samples(folder: Path, side: int, channels: int) -> tuple[Tensor, list[str], str]:
    """Every picture at or below `folder` as it is, `(N, channels, side, side) uint8`, the subfolder of each, and one
    line on what there is.

    Raises `DataError` for a picture of another size or one that cannot be read: samples are measured whole or not at
    all.
    """
    found, left_out = find_files(folder)
    if not found:
        raise DataError(f"{printable(folder)} holds no images; {said_of(left_out)}")
    names, pictures = sorted(found, key=_parts), []
    for name in tqdm(names, f"reading {printable(folder)}", leave=False):
        try:
            pictures.append(read_picture(folder / name, channels))
        except ValueError as error:
            raise DataError(str(error)) from error
        if (size := tuple(pictures[-1].shape[1:])) != (side, side):
            raise DataError(
                f"{printable(folder / name)} has {size[1]}x{size[0]} pixels: give samples of {side}x{side}, as the "
                "dataset has"
            )
    subfolders = [os.path.basename(os.path.dirname(name)) for name in names]
    classes = f"{len(set(subfolders) - {''})} subfolders"
    summary = f"{printable(folder)}: {len(names):,} images, {classes}, {said_of(left_out)}"
    return torch.stack(pictures), subfolders, summary


def _parts(name: str) -> list[str]:
    """By which names are ordered, as paths are."""
    return name.split("/")
