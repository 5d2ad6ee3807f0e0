"""Write checkpoints/sizes/seeds.json: the figures of runs that differ in their seed alone, by latent shape.

`python tools/seeds.py RUN ...` with denoisers that train/evaluate.py has measured, three or more of each shape.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm_explorer.checkpoints import SHIPPED_CHECKPOINTS, Checkpoint, read_checkpoint, write_json
from ldm_explorer.evaluation.ruler import flat_figures
from ldm_explorer.explore.reconstruction import latent_size
from ldm_explorer.explore.size_figures import FAMILY

FILE = SHIPPED_CHECKPOINTS / FAMILY / "seeds.json"
MIN_RUNS = 3


def main(folders: list[Path]) -> None:
    by_shape: dict[str, list[Checkpoint]] = {}
    for run in map(read_checkpoint, folders):
        if run.kind != "ldm" or "evaluation" not in run.metrics:
            sys.exit(f"{run.folder} is no denoiser that train/evaluate.py has measured")
        by_shape.setdefault(latent_size(run).shape, []).append(run)
    if not by_shape or min(map(len, by_shape.values())) < MIN_RUNS:
        sys.exit(f"give {MIN_RUNS} runs or more of each latent shape")
    write_json(FILE, {shape: summary(runs) for shape, runs in by_shape.items()})


def summary(runs: list[Checkpoint]) -> dict[str, list]:
    """The commands, and every figure that all runs have, a value for each."""
    rows = [flat_figures(run.metrics["evaluation"]) for run in runs]
    training = [run.metrics["training"] for run in runs]
    commands = [[cost["autoencoder"]["command"], cost["command"]] for cost in training]
    return {"commands": commands} | {
        name: [row[name] for row in rows] for name in rows[0] if all(name in row for row in rows)
    }


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
