"""Logs in the files of trackers: TensorBoard's events and W&B's own, each read where its library is installed."""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ldm_explorer.files import CheckpointError, first_line, open_regular, printable, read_bytes
from ldm_explorer.logs.collector import Collector
from ldm_explorer.logs.numbers import as_number, parsed
from ldm_explorer.logs.series import Log

MAX_EVENT_BYTES = 64_000_000
TENSORBOARD_MISSING = (
    "TensorBoard files are read with the tensorboard library, which is not installed: pip install tensorboard, or "
    "export the curve from TensorBoard as CSV"
)
WANDB_MISSING = (
    ".wandb files are read with the wandb library, which is not installed: pip install wandb, or export the curve from "
    "the run's page as CSV"
)
WANDB_HEADER, WANDB_BLOCK = 7, 32_768
RECORD_FRAME = 16
"""Bytes around each record of TensorBoard: its length and two checksums."""


def read_events(files: Sequence[tuple[str, Path]], name: str) -> Log:
    """The scalars of TensorBoard event files, each by the name of its folder ("" for none), in the order in which they
    were written: a further file of one folder goes on with what was logged there.

    Raises `CheckpointError` where the library is missing or a file is none.
    """
    collector, read, whole = Collector(name), 0, 0
    for folder, path in files:
        size = _check_size(path)
        consumed = _read_event_file(folder, path, collector)
        read, whole = read + consumed, whole + size
        if consumed < size:
            collector.notes.append(f"{printable(path.name)} is damaged or breaks off {_behind(collector)}")
    collector.share_read = read / max(1, whole)
    return collector.log(name, "TensorBoard")


def _read_event_file(folder: str, path: Path, collector: Collector) -> int:
    """Add its scalars; how many bytes could be read, as the library passes over what is damaged in silence."""
    try:
        from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
        from tensorboard.compat.proto.event_pb2 import Event
    except ImportError as error:
        raise CheckpointError(TENSORBOARD_MISSING) from error
    consumed, tags = 0, set()
    try:
        for record in RawEventFileLoader(str(path)).Load():
            consumed += len(record) + RECORD_FRAME
            event = Event.FromString(record)
            for value in event.summary.value:
                if (number := _scalar(value)) is not None:
                    tag = f"{folder}/{value.tag}" if folder else value.tag
                    if tag not in tags:
                        collector.resume(tag, float(event.step))
                    tags.add(tag)
                    collector.add(tag, float(event.step), number)
            collector.check_time()
    except CheckpointError:
        raise
    except Exception as error:  # whatever bytes that are no events make the library raise
        raise CheckpointError(f"{printable(path)} is no TensorBoard file ({first_line(error)})") from error
    return consumed


def _scalar(value: Any) -> float | None:
    """The number of a summary, None for a picture and the like."""
    from tensorboard.util.tensor_util import make_ndarray

    if value.WhichOneof("value") == "simple_value":
        return float(value.simple_value)
    if value.WhichOneof("value") != "tensor" or value.tensor.ByteSize() >= 100:
        return None
    number = make_ndarray(value.tensor)
    return float(number.item()) if number.size == 1 and number.dtype.kind in "fiu" else None


def _behind(collector: Collector) -> str:
    last = max((points[-1].step for points in collector.points.values() if points), default=None)
    return "at its beginning" if last is None else f"behind step {last:g}: it was read up to there"


def write_scalars(folder: Path, tag: str, levels: dict[str, float], steps: tuple[float, float]) -> None:
    """Levels as runs of their own below a folder, each a line from the first step to the last under the loss's tag,
    so that TensorBoard draws them into its plot. Raises `CheckpointError` where the library is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise CheckpointError(TENSORBOARD_MISSING.replace("read", "written")) from error
    for name, level in levels.items():
        with SummaryWriter(str(folder / name)) as writer:
            for step in steps:
                writer.add_scalar(tag, level, int(step))


def read_wandb(path: Path) -> Log:
    """The history in a .wandb file. Raises `CheckpointError` where the library is missing or the file is none."""
    try:
        from wandb.proto.wandb_internal_pb2 import Record
    except ImportError as error:
        raise CheckpointError(WANDB_MISSING) from error
    _check_size(path)
    collector = Collector(printable(path))
    try:
        for content in _wandb_records(read_bytes(path, MAX_EVENT_BYTES)):
            record = Record.FromString(content)
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            found = {name: number for name, text in items.items() if (number := as_number(parsed(text))) is not None}
            if found:
                collector.add_record({"step": float(record.history.step.num)} | found)
    except CheckpointError:
        raise
    except Exception as error:  # whatever bytes that are no records make the library raise
        raise CheckpointError(f"{printable(path)} is no W&B file ({first_line(error)})") from error
    return collector.log(printable(path.name), "W&B")


def _wandb_records(content: bytes) -> Iterator[bytes]:
    """The records of a .wandb file: LevelDB's log format behind a header of seven bytes, in blocks of 32 KiB, each
    part with checksum, length, and whether it is whole (1), the first (2), a middle (3) or the last one (4)."""
    if content[:4] != b":W&B":
        raise ValueError("it does not begin like one")
    place, parts = WANDB_HEADER, b""
    while place + 7 <= len(content):
        if WANDB_BLOCK - place % WANDB_BLOCK < 7:
            place += WANDB_BLOCK - place % WANDB_BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        part = content[place + 7 : place + 7 + length]
        place += 7 + length
        parts = part if kind in (1, 2) else parts + part
        if kind in (1, 4):
            yield parts


def _check_size(path: Path) -> int:
    """Its bytes. Raises `CheckpointError` for too many."""
    with open_regular(path) as file:
        size = file.seek(0, 2)
    if size > MAX_EVENT_BYTES:
        raise CheckpointError(
            f"{printable(path)} has {size / 1e6:,.1f} MB, {MAX_EVENT_BYTES / 1e6:g} are read at most: export the loss "
            "as CSV"
        )
    return size
