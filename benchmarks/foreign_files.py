"""Files of somebody else's in a folder that a command writes to, and whether they are as they were."""

import json
import os
import shutil
from pathlib import Path

FOREIGN_FILES = (
    "notes.txt",
    ".vae.backup",
    ".state-old/weights.bin",
    "vae/mine.txt",
    "vae/diffusion_pytorch_model.bin",
    "vae/mine/deeper.txt",
    "scheduler/mine.json",
    "features/mine.txt",
    "film/step-of-mine.webp",
    "film/holiday.mp4",
    "images/cat.jpg",
    "images/0/cat.png",
    "state-notes/thesis.txt",
    "state-999999999/state.safetensors",
    "state-999999999/progress.json",
)
"""Many look like files that a run writes, and none is in the way of one."""

LIKE_OURS = "state-999999999"
"""Has the name of a state, as far as anybody can tell: a run that might go on from there does not start."""

ANOTHER_TOOLS = {"README.md": "# Mine", "train_config.json": json.dumps({"dataset": "mine"}), "metrics.json": "{}"}
"""Files named exactly like those of a run."""


def plant(folder: Path, elsewhere: Path, named_like_ours: bool = False) -> dict[str, bytes]:
    """Put foreign files, and links to `elsewhere`, into a folder; returns what `contents` is to find afterwards."""
    before = contents(folder)
    elsewhere.mkdir(parents=True)
    (elsewhere / "precious.txt").write_text("precious")
    for name in (*FOREIGN_FILES, *(ANOTHER_TOOLS if named_like_ours else ())):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(ANOTHER_TOOLS.get(name, f"{name} is mine"))
    (folder / "link").symlink_to(elsewhere)
    (folder / "film" / "step-link.webp").symlink_to(elsewhere / "precious.txt")
    return {name: content for name, content in contents(folder).items() if name not in before}


def move_away(folder: Path, planted: dict[str, bytes]) -> dict[str, bytes]:
    """Take what is named like a state out of a folder; returns what was planted besides."""
    shutil.rmtree(folder / LIKE_OURS)
    return {name: content for name, content in planted.items() if not name.startswith(LIKE_OURS)}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file at or below a folder by its name, with its bytes; links with where they lead and what is there."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            inside = contents(path) if path.is_dir() else path.read_bytes() if path.exists() else "nothing"
            found[name] = f"{os.readlink(path)}: {inside}".encode()
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


def unchanged(folder: Path, planted: dict[str, bytes]) -> bool:
    """Whether what was planted is all there, to the byte."""
    return contents(folder).items() >= planted.items()
