"""Write what floors and exact denoisers need beside a denoiser's weights: `python train/latents.py runs/*/ldm-*`.

train/ldm.py writes the same `latents.safetensors` when it starts, and the memorising floors into it when it ends; this
is for runs without it or without those: a state that train/export_state.py made a checkpoint of, for one.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import _checkout  # noqa: F401
import tyro

from ldm_explorer.training.command_line import main_of
from ldm_explorer.training.latent_statistics import write_latents


@dataclass(frozen=True, kw_only=True)
class LatentsConfig:
    """Options of train/latents.py."""

    checkpoints: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Checkpoint folders of denoisers."""
    data_dir: Path | None = None
    """Folder with the dataset's own files; by default they are found on the system or downloaded."""


def main(config: LatentsConfig) -> None:
    for folder in write_latents(config.checkpoints, config.data_dir):
        print(f"wrote the latent statistics of {folder}")


if __name__ == "__main__":
    main_of(LatentsConfig, main)
