"""Opening a log: a file or folder of any of the known kinds, or pasted text."""

from pathlib import Path

from ldm_explorer.files import CheckpointError, first_line, printable, read_bytes
from ldm_explorer.logs.events import read_events, read_wandb
from ldm_explorer.logs.series import Log
from ldm_explorer.logs.text import decoded, read_text
from ldm_explorer.run_layout import LOG_FILE

MAX_LOG_BYTES = 16_000_000
MAX_ENTRIES = 2000
KNOWN_FILES = (LOG_FILE, "trainer_state.json", "wandb-history.jsonl", "progress.csv", "metrics.csv")
"""What is read of a folder without TensorBoard files: of this project, of transformers, W&B, guided-diffusion and
Lightning."""


def read_log(path: Path) -> Log:
    """A log in a file, or the one in a folder. Raises `CheckpointError` for what holds none, or cannot be read."""
    name = printable(path.name or path)
    try:
        if path.is_dir():
            return _read_folder(path, name)
        if "tfevents" in path.name:
            return read_events([("", path)], name)
        if path.suffix == ".wandb":
            return read_wandb(path)
        return read_text(decoded(read_bytes(path, MAX_LOG_BYTES), name), name)
    except FileNotFoundError as error:
        raise CheckpointError(f"{printable(path)} is not there: give a log, or a folder that holds one") from error
    except OSError as error:
        raise CheckpointError(f"{printable(path)} cannot be read: {first_line(error)}") from error


def read_pasted(text: str) -> Log:
    """A log as text. Raises `CheckpointError` where no loss is in it, or where it is too long."""
    if len(text) > MAX_LOG_BYTES:
        raise CheckpointError(
            f"the text has more than {MAX_LOG_BYTES / 1e6:g} million characters: give its end, or the loss as CSV"
        )
    return read_text(text, "the pasted text")


def _read_folder(folder: Path, name: str) -> Log:
    entries = sorted(entry for _, entry in zip(range(MAX_ENTRIES), folder.rglob("*"), strict=False) if entry.is_file())
    events = [entry for entry in entries if "tfevents" in entry.name]
    if events:
        places = [printable(entry.parent.relative_to(folder)).replace("\\", "/") for entry in events]
        named = ("" if place == "." else place for place in places)
        return read_events(list(zip(named, events, strict=True)), name)
    for known in KNOWN_FILES:
        if found := [entry for entry in entries if entry.name == known]:
            return read_log(found[-1])
    if wandb := [entry for entry in entries if entry.suffix == ".wandb"]:
        return read_wandb(wandb[-1])
    raise CheckpointError(f"{name} holds no log: TensorBoard files, .wandb, or one of {', '.join(KNOWN_FILES)}")
