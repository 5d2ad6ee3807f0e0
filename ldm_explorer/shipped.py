"""Where the checkpoints lie that the repository ships. A checkout has them beside the package, a wheel has none."""

import os
from pathlib import Path

from ldm_explorer.files import CheckpointError

VARIABLE = "LDM_EXPLORER_CHECKPOINTS"
FOLDER = "checkpoints"
BESIDE_THE_PACKAGE = Path(__file__).resolve().parents[1] / FOLDER


def find_shipped_checkpoints() -> Path | None:
    """The folder beside the package, else the one that the environment variable LDM_EXPLORER_CHECKPOINTS names."""
    given = os.environ.get(VARIABLE)
    folders = (BESIDE_THE_PACKAGE, *([Path(given)] if given else []))
    return next((folder for folder in folders if os.path.isdir(folder)), None)  # unlike Path.is_dir, never raises


def shipped_checkpoints(*parts: str) -> Path:
    """The same, or a folder in it: `shipped_checkpoints("lab", "lab-healthy")`. Raises `CheckpointError` where it is
    not here."""
    root = find_shipped_checkpoints()
    if root is None or not os.path.isdir(root.joinpath(*parts)):
        raise CheckpointError(
            f"{'/'.join((FOLDER, *parts))} is not here: clone the repository, which has it, and name its folder "
            f"{FOLDER} in {VARIABLE} (to the app also with --checkpoints)"
        )
    return root.joinpath(*parts)


def find_checkpoint(path: Path) -> Path:
    """A folder as commands name it: `checkpoints/...` is also found where the shipped ones lie, from any folder.

    Raises `CheckpointError` where there are no shipped ones.
    """
    if os.path.exists(path) or path.parts[:1] != (FOLDER,):
        return path
    shipped = shipped_checkpoints().joinpath(*path.parts[1:])
    return shipped if shipped.exists() else path
