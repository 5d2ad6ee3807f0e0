"""Writing a file whole or not at all. What a run writes goes through `run_folder`, which uses this."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

WAITS_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0) if os.name == "nt" else ()
"""How long a reader is waited for; elsewhere a file that is read can be replaced and deleted."""


def write_json(path: Path, content: Any) -> None:
    """Write whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, content: str) -> None:
    """Write whole or not at all."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        temporary.write_bytes(content.encode())
        put(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def put(temporary: Path, final: Path) -> None:
    """Give a file its name once its content is on the disk: a rename may be there first when the power goes."""
    with temporary.open("r+b") as file:  # Windows writes through only what is open for writing
        os.fsync(file.fileno())
    patiently(lambda: os.replace(temporary, final))


def delete(path: Path) -> None:
    """Delete a file, if it is there."""
    patiently(lambda: path.unlink(missing_ok=True))


def patiently(change: Callable[[], None]) -> None:
    """Change a file that somebody may be reading: Windows refuses that as long as they do."""
    for seconds in WAITS_SECONDS:
        try:
            return change()
        except PermissionError:
            time.sleep(seconds)
    change()
