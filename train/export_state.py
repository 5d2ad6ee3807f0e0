"""Make a checkpoint of a denoiser's saved state: `python train/export_state.py runs/fashion_mnist/RUN --out FOLDER`.

For looking at a run that is not finished: what it has learned so far, by its weights as they are or by their average.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import _checkout  # noqa: F401
import tyro
from diffusers import UNet2DModel

from ldm_explorer.checkpoints import read_json, save_pipeline
from ldm_explorer.claims import claim
from ldm_explorer.run_folder import FolderRefused, RunFolder
from ldm_explorer.samplers import make_scheduler
from ldm_explorer.training import latest_state, load_weights, read_progress
from train.common import main_of
from train.ldm import LDMTrainConfig, load_frozen_vae

KEPT = ("train_config.json", "train_log.jsonl", "latents.safetensors", "dataset.json", "images/")
"""How the names of the run's files begin that belong to the export, too."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Options of train/export_state.py."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of a run of train/ldm.py that holds a state."""
    out: Path
    """Folder to write."""
    weights: Literal["average", "last"] = "average"
    """The moving average of the weights, or the weights of the last step."""


def main(config: ExportConfig) -> None:
    if latest_state(config.run) is None:
        raise ValueError(
            f"{config.run} holds no state that a run of ours saved: train/ldm.py leaves one while it trains"
        )
    stored = read_json(config.run / "train_config.json")
    if "prediction" not in stored:
        raise ValueError(f"{config.run} is no run of a denoiser: give a folder of train/ldm.py")
    known = {field.name for field in fields(LDMTrainConfig)}
    options = {name: value for name, value in stored.items() if name in known}
    trained = LDMTrainConfig(**options | {"vae": Path(stored["vae"]), "widths": tuple(stored["widths"])})
    with claim(config.out) as out:
        vae = load_frozen_vae(trained)
        unet = trained.unet_for(vae).build()
        step = load_newest(config, unet)
        card = f"# {config.out.name}\n\nStep {step} of {config.run.name}, {config.weights} weights.\n"
        if out.names and not is_half_written(out, card):
            raise FolderRefused(f"{config.out} holds a run already: give another --out")
        out.write_text("README.md", card)
        for name in sorted(name for name in RunFolder(config.run).names if name.startswith(KEPT)):
            if (config.run / name).is_file():  # it may have been deleted since
                out.write_bytes(name, (config.run / name).read_bytes())
        save_pipeline(config.out, vae, unet, make_scheduler(trained.noise_schedule, trained.prediction))
    print(f"wrote {config.out}")


def load_newest(config: ExportConfig, unet: UNet2DModel) -> int:
    """Put the weights of the newest state into a network; returns its step. Raises `ValueError` where none fits."""
    while True:
        state = latest_state(config.run)
        try:
            load_weights(state, unet, config.weights)
            return read_progress(state).step
        except ValueError:
            if latest_state(config.run) in (None, state):  # else the training has put a newer one in its place
                raise


def is_half_written(out: RunFolder, card: str) -> bool:
    """Whether a kill left a folder with the card of the same export and without what is written last."""
    path = out.path / "README.md"
    return path.is_file() and path.read_text() == card and not out.has("model_index.json")


if __name__ == "__main__":
    main_of(ExportConfig, main)
