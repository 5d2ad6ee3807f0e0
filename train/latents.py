"""Write what floors and exact denoisers need beside a denoiser's weights: `python train/latents.py runs/*/ldm-*`.

train/ldm.py writes the same `latents.safetensors` when it starts; this is for runs that have none.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import _checkout  # noqa: F401
import tyro

from ldm_explorer.checkpoints import Checkpoint, read_checkpoint
from ldm_explorer.claims import locked
from ldm_explorer.data import load_split
from ldm_explorer.diagnosis.statistics import FILE, LatentStatistics, measure_latents, write_statistics
from ldm_explorer.latents import encode_posterior
from ldm_explorer.run_folder import RunFolder
from train.common import main_of


@dataclass(frozen=True, kw_only=True)
class LatentsConfig:
    """Options of train/latents.py."""

    checkpoints: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Checkpoint folders of denoisers."""
    data_dir: Path | None = None
    """Folder with the dataset's own files; by default they are found on the system or downloaded."""


def main(config: LatentsConfig) -> None:
    checkpoints = [read_checkpoint(folder) for folder in config.checkpoints]
    for checkpoint in checkpoints:
        run = RunFolder(checkpoint.folder)
        if checkpoint.kind != "ldm":
            raise ValueError(f"{run.path} holds no denoiser: give folders of train/ldm.py")
        if not run.is_marked:
            raise ValueError(f"{run.path} has no mark of a run of ours: `python tools/mark_run.py` marks an old one")
        run.check([FILE])
    for checkpoint in checkpoints:
        with locked(RunFolder(checkpoint.folder)):
            write_statistics(checkpoint.folder, measure(checkpoint, config.data_dir))
        print(f"wrote the latent statistics of {checkpoint.folder}")


def measure(checkpoint: Checkpoint, data_dir: Path | None) -> LatentStatistics:
    """The statistics of the latents that a denoiser was trained on."""
    pipeline, image_side = checkpoint.pipeline, checkpoint.config.get("image_side")
    training = load_split(checkpoint.dataset, "train", data_dir, image_side)
    posterior = encode_posterior(pipeline.codec, training.images)
    return measure_latents(posterior, training.labels, pipeline.scheduler.alphas_cumprod, pipeline.null_class or 0)


if __name__ == "__main__":
    main_of(LatentsConfig, main)
