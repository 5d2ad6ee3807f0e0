"""A checkpoint made of the state that a denoiser's run saved.

For looking at a run that is not finished: what it has learned so far, by its weights as they are or by their average.
"""

from dataclasses import fields
from pathlib import Path
from typing import Literal

from torch import nn

from ldm_explorer.checkpoints import save_pipeline
from ldm_explorer.claims import claim
from ldm_explorer.files import read_json
from ldm_explorer.run_folder import FolderRefused, RunFolder
from ldm_explorer.run_layout import (
    CARD_FILE,
    CONFIG_FILE,
    EXAMPLES,
    LOG_FILE,
    PIPELINE_FILE,
    SPEC_FILE,
    STATISTICS_FILE,
)
from ldm_explorer.samplers import make_scheduler
from ldm_explorer.training.run_state import latest_state, load_weights, read_progress
from ldm_explorer.training.tasks.denoiser_config import LDMTrainConfig, load_frozen_vae

KEPT = (CONFIG_FILE, LOG_FILE, STATISTICS_FILE, SPEC_FILE, f"{EXAMPLES}/")
"""How the names of the run's files begin that belong to the export, too."""

Weights = Literal["average", "last"]
"""The moving average of the weights, or the weights of the last step."""


def export_state(run: Path, out: Path, weights: Weights = "average") -> None:
    """Write the checkpoint of a denoiser's run folder as it stands into another folder.

    Raises `ValueError` for a run that holds no state of a denoiser, `FolderRefused` for a folder of another run.
    """
    trained = read_options(run)
    with claim(out) as exported:
        vae = load_frozen_vae(trained)
        network = trained.network_for(vae).build()
        step = load_newest(run, network, weights)
        card = f"# {out.name}\n\nStep {step} of {run.name}, {weights} weights.\n"
        if exported.names and not is_half_written(exported, card):
            raise FolderRefused(f"{out} holds a run already: give another --out")
        exported.write_text(CARD_FILE, card)
        for name in sorted(name for name in RunFolder(run).names if name.startswith(KEPT)):
            if (run / name).is_file():  # it may have been deleted since
                exported.write_bytes(name, (run / name).read_bytes())
        save_pipeline(out, vae, network, make_scheduler(trained.noise_schedule, trained.predicted))


def read_options(run: Path) -> LDMTrainConfig:
    """What a denoiser was trained with. Raises `ValueError` for a run of another kind, or without a state."""
    newest_state(run)
    stored = read_json(run / CONFIG_FILE)
    if "prediction" not in stored:
        raise ValueError(f"{run} is no run of a denoiser: give a folder of train/ldm.py")
    if "teacher" in stored:
        raise ValueError(
            f"{run} is a student's run, whose weights are written when it is finished: go on with --resume"
        )
    known = {field.name for field in fields(LDMTrainConfig)}
    options = {name: value for name, value in stored.items() if name in known}
    widths = stored["widths"] and tuple(stored["widths"])
    return LDMTrainConfig(**options | {"vae": Path(stored["vae"]), "widths": widths})


def newest_state(run: Path) -> Path:
    """The folder of it. Raises `ValueError` where there is none."""
    state = latest_state(run)
    if state is None:
        raise ValueError(f"{run} holds no state that a run of ours saved: train/ldm.py leaves one while it trains")
    return state


def load_newest(run: Path, network: nn.Module, weights: Weights) -> int:
    """Put the weights of the newest state into a network; returns its step. Raises `ValueError` where none fits."""
    while True:
        state = newest_state(run)
        try:
            load_weights(state, network, weights)
            return read_progress(state).step
        except ValueError:
            if latest_state(run) in (None, state):  # else the training has put a newer one in its place
                raise


def is_half_written(out: RunFolder, card: str) -> bool:
    """Whether a kill left a folder with the card of the same export and without what is written last."""
    path = out.path / CARD_FILE
    return path.is_file() and path.read_text(encoding="utf-8") == card and not out.has(PIPELINE_FILE)
