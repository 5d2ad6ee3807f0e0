"""Logs in the files of trackers: TensorBoard's events and W&B's own, each read where its library is installed."""

import struct
from collections.abc import Iterator
from pathlib import Path

from ldm_explorer.files import CheckpointError, first_line, open_regular, printable, read_bytes
from ldm_explorer.logs.series import Collector, Log
from ldm_explorer.logs.text import _number, _parsed

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


def read_events(files: dict[str, Path], name: str) -> Log:
    """The scalars of TensorBoard event files, each by the name that its folder gives it, "" for none.

    Raises `CheckpointError` where the library is missing or a file is none.
    """
    try:
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError as error:
        raise CheckpointError(TENSORBOARD_MISSING) from error
    collector = Collector(name)
    for folder, path in files.items():
        _check_size(path)
        try:
            for event in EventFileLoader(str(path)).Load():
                for value in event.summary.value:
                    if value.WhichOneof("value") == "tensor" and value.tensor.ByteSize() < 100:
                        number = make_ndarray(value.tensor)
                        if number.size == 1 and number.dtype.kind in "fiu":
                            tag = f"{folder}/{value.tag}" if folder else value.tag
                            collector.add(tag, float(event.step), float(number.item()))
                collector.check_time()
        except CheckpointError:
            raise
        except Exception as error:  # whatever bytes that are no events make the library raise
            raise CheckpointError(f"{printable(path)} is no TensorBoard file ({first_line(error)})") from error
    return collector.log(name, "TensorBoard")


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
            found = {name: number for name, text in items.items() if (number := _number(_parsed(text))) is not None}
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


def _check_size(path: Path) -> None:
    with open_regular(path) as file:
        size = file.seek(0, 2)
    if size > MAX_EVENT_BYTES:
        raise CheckpointError(
            f"{printable(path)} has {size / 1e6:,.1f} MB, {MAX_EVENT_BYTES / 1e6:g} are read at most: export the loss "
            "as CSV"
        )
