"""Write checkpoints/sizes/seeds.json: the figures of runs that differ in their seed alone, by latent shape.

`python tools/seeds.py RUN ...` with denoisers that train/evaluate.py has measured, three or more of each shape.
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm_explorer.checkpoints import SHIPPED_CHECKPOINTS, read_checkpoint, write_json
from ldm_explorer.latents import latent_shape

SECTIONS = ("reconstruction", "latent_space", "continuity", "generation")
FILE = SHIPPED_CHECKPOINTS / "sizes" / "seeds.json"


def figures(folder: Path) -> dict[str, float]:
    """Every number of the sections, by its own name."""
    measured = read_checkpoint(folder).metrics["evaluation"]
    merged: dict[str, Any] = {}
    for section in reversed(SECTIONS):
        merged |= measured[section]
    return {name: value for name, value in merged.items() if isinstance(value, float)}


def main(folders: list[Path]) -> None:
    by_shape: dict[str, list[Path]] = {}
    for folder in folders:
        channels, side, _ = latent_shape(read_checkpoint(folder).vae)
        by_shape.setdefault(f"{side}x{side}x{channels}", []).append(folder)
    summary = {}
    for shape, runs in by_shape.items():
        rows = [figures(run) for run in runs]
        training = [read_checkpoint(run).metrics["training"] for run in runs]
        commands = [[cost["autoencoder"]["command"], cost["command"]] for cost in training]
        summary[shape] = {"commands": commands, **{name: [row[name] for row in rows] for name in rows[0]}}
    write_json(FILE, summary)


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
