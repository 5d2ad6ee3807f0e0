"""Write what floors and exact denoisers need beside a denoiser's weights: `python train/latents.py runs/*/ldm-*`.

train/ldm.py writes the same `latents.safetensors` when it starts; this is for runs that have none.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tyro

from ldm_explorer.checkpoints import read_checkpoint
from ldm_explorer.data import load_split
from ldm_explorer.diagnosis.statistics import measure_latents, write_statistics
from ldm_explorer.latents import encode_posterior
from train.common import main_of


@dataclass(frozen=True, kw_only=True)
class LatentsConfig:
    """Options of train/latents.py."""

    checkpoints: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Checkpoint folders of denoisers."""
    data_dir: Path | None = None
    """Folder with the dataset's own files; by default they are found on the system or downloaded."""


def main(config: LatentsConfig) -> None:
    for checkpoint in [read_checkpoint(folder) for folder in config.checkpoints]:
        if checkpoint.kind != "ldm":
            raise ValueError(f"{checkpoint.folder} holds no denoiser: give folders of train/ldm.py")
        pipeline, image_side = checkpoint.pipeline, checkpoint.config.get("image_side")
        training = load_split(checkpoint.dataset, "train", config.data_dir, image_side)
        posterior = encode_posterior(pipeline.codec, training.images)
        classes = pipeline.null_class or 0
        alpha_bars = pipeline.scheduler.alphas_cumprod
        write_statistics(checkpoint.folder, measure_latents(posterior, training.labels, alpha_bars, classes))
        print(f"wrote the latent statistics of {checkpoint.folder}")


if __name__ == "__main__":
    main_of(LatentsConfig, main)
