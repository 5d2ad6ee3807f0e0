"""Writing a file whole or not at all. What a run writes goes through `run_folder`, which uses this."""

import json
import os
from pathlib import Path
from typing import Any
from uuid import uuid4


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
    os.replace(temporary, final)
