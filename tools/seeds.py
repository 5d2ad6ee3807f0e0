"""Write checkpoints/sizes/seeds.json: the measures of runs that differ in their seed alone, by latent shape.

`python tools/seeds.py RUN ...` with denoisers that train/evaluate.py has measured, three or more of each shape. Every
difference that the app claims is measured against their spread, so runs that differ in more, or are the same, are
refused.
"""

import json
import re
import sys
from pathlib import Path

from ldm_explorer.atomic import write_json
from ldm_explorer.checkpoints import Checkpoint, read_checkpoint
from ldm_explorer.evaluation.reference import flat_measures
from ldm_explorer.explore.reconstruction import latent_size
from ldm_explorer.explore.size_measures import FAMILY, SEEDS_FILE
from ldm_explorer.shipped import shipped_checkpoints

FILE = shipped_checkpoints() / FAMILY / SEEDS_FILE
MIN_RUNS = 3
NOT_THE_RECIPE = ("seed", "vae", "threads", "resume")


def main(folders: list[Path], file: Path = FILE) -> None:
    by_shape: dict[str, list[Checkpoint]] = {}
    for run in map(read_checkpoint, folders):
        if run.kind != "ldm" or "evaluation" not in run.metrics or "autoencoder" not in run.metrics.get("training", {}):
            sys.exit(f"{run.folder} is no denoiser that train/ldm.py trained and train/evaluate.py has measured")
        by_shape.setdefault(latent_size(run).shape, []).append(run)
    if not by_shape or min(map(len, by_shape.values())) < MIN_RUNS:
        sys.exit(f"give {MIN_RUNS} runs or more of each latent shape")
    for shape, runs in by_shape.items():
        check_that_seeds_alone_differ(shape, runs)
    write_json(file, {shape: summary(runs) for shape, runs in by_shape.items()})


def check_that_seeds_alone_differ(shape: str, runs: list[Checkpoint]) -> None:
    """Of the autoencoders, too, whose commands the runs keep. Ends the program where it is not so."""

    def kinds(of_runs: list) -> int:
        return len({json.dumps(item, sort_keys=True) for item in of_runs})

    commands = [run.metrics["training"]["autoencoder"]["command"] for run in runs]
    recipes = [{name: value for name, value in run.config.items() if name not in NOT_THE_RECIPE} for run in runs]
    without_seed = [re.sub(r" --seed[ =]\S+", "", command) for command in commands]
    conditions = [run.metrics["evaluation"]["conditions"] | {"weights": None} for run in runs]
    if max(map(kinds, (recipes, without_seed, conditions))) > 1:
        sys.exit(f"the runs at {shape} differ in more than their seeds: in options, autoencoder or evaluation")
    if min(kinds([run.config["seed"] for run in runs]), kinds(commands)) < len(runs):
        sys.exit(f"of the runs at {shape} some have the same seed: give each one, and each autoencoder, another")


def summary(runs: list[Checkpoint]) -> dict[str, list]:
    """The commands, and every figure that all runs have, a value for each."""
    rows = [flat_measures(run.metrics["evaluation"]) for run in runs]
    training = [run.metrics["training"] for run in runs]
    commands = [[cost["autoencoder"]["command"], cost["command"]] for cost in training]
    return {"commands": commands} | {
        name: [row[name] for row in rows] for name in rows[0] if all(name in row for row in rows)
    }


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
