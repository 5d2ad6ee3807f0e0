"""Mark folders as runs of ours, so that they can be resumed and measured: `python tools/mark_run.py RUN ...`.

For runs from before runs were marked. What has the name of a file that a run writes counts as the run's own from then
on, and is overwritten and deleted as such; all else in the folder is left alone for good.
"""

import re
import sys
from pathlib import Path

from ldm_explorer.evaluation.parts import partial_file
from ldm_explorer.run_folder import RunFolder
from ldm_explorer.run_layout import (
    CARD_FILE,
    CLASSIFIER,
    CODE_FILE,
    CONFIG_FILE,
    EXAMPLES,
    FILM,
    LOG_FILE,
    METRICS_FILE,
    PIPELINE_FILE,
    SAMPLES_FILE,
    SCHEDULER_FILE,
    SPEC_FILE,
    STATE,
    STATISTICS_FILE,
    TRANSFORMER,
    UNET,
    VAE,
)

FILES = (
    *(CARD_FILE, SAMPLES_FILE, CONFIG_FILE, METRICS_FILE, SPEC_FILE, LOG_FILE, STATISTICS_FILE),
    *(PIPELINE_FILE, CODE_FILE, SCHEDULER_FILE),
)
NETWORK = r"(config\.json|diffusion_pytorch_model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?)"
WRITTEN = (
    *map(re.escape, FILES),
    re.escape(partial_file("SECTION")).replace("SECTION", "[^/]+"),
    rf"({VAE}|{UNET}|{TRANSFORMER}|{CLASSIFIER})/{NETWORK}",
    STATE.pattern,
    rf"{FILM}/step-\d{{9,}}\.webp",
    rf"{EXAMPLES}/\d+/\d{{5,}}\.png",
)
"""The names of what a run writes."""


def mark(folder: Path) -> list[str]:
    """Mark a run; returns the names of the files that count as its own."""
    if not (folder / CONFIG_FILE).is_file():
        sys.exit(f"error: {folder} is no run: it has no {CONFIG_FILE}")
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
