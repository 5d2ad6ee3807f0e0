"""Mark folders as runs of ours, so that they can be resumed and measured: `python tools/mark_run.py RUN ...`.

For runs from before runs were marked. What has the name of a file that a run writes counts as the run's own from then
on, and is overwritten and deleted as such; all else in the folder is left alone for good.
"""

import re
import sys
from pathlib import Path

from ldm_explorer.run_folder import RunFolder

NETWORK = r"(vae|unet|features)/(config\.json|diffusion_pytorch_model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?)"
WRITTEN = (
    r"README\.md|(train_config|metrics|dataset|model_index|[^/]+\.partial)\.json|train_log\.jsonl|latents\.safetensors",
    NETWORK,
    r"scheduler/scheduler_config\.json",
    r"state-\d{9,}/(progress\.json|state\.safetensors)",
    r"film/step-\d{9,}\.webp",
    r"images/\d+/\d{5,}\.png",
)
"""The names of what a run writes."""


def mark(folder: Path) -> list[str]:
    """Mark a run; returns the names of the files that count as its own."""
    if not (folder / "train_config.json").is_file():
        sys.exit(f"error: {folder} is no run: it has no train_config.json")
    if RunFolder(folder).is_marked:
        sys.exit(f"error: {folder} is marked already")
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    written = sorted(name for name in names if any(re.fullmatch(pattern, name) for pattern in WRITTEN))
    try:
        RunFolder(folder).adopt(written)
    except OSError as error:
        sys.exit(f"error: {error}")
    return written


def main(folders: list[Path]) -> None:
    for folder in folders:
        print(f"{folder}: marked, with {len(mark(folder))} files of its own")


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
