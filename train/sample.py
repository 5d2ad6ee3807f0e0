"""Sample a denoiser into a folder of PNG files: `python train/sample.py runs/fashion_mnist/ldm-8x8x4-cosine FOLDER`.

They are `<class>/<seed>.png`, and `python train/evaluate.py FOLDER` measures them. The same command goes on where it
stopped.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import _checkout  # noqa: F401
import tyro
from tqdm import tqdm

from ldm_explorer.evaluation.sample_files import SampleSettings, sample_files, write_samples
from ldm_explorer.options import settle_types
from ldm_explorer.sources import open_source
from ldm_explorer.training import process_state, use_cores
from ldm_explorer.training.command_line import main_of


@dataclass(frozen=True, kw_only=True)
class SampleConfig(SampleSettings):
    """Options of train/sample.py."""

    checkpoint: Annotated[str, tyro.conf.Positional]
    """Folder of a denoiser, or hf:OWNER/NAME."""
    out: Annotated[Path, tyro.conf.Positional]
    """Folder for the images; what others have put there stays as it is."""
    num_images: int = 1000
    """Of all classes in turn."""
    seed: int = 0
    """Of the first image; the next one has the next."""
    threads: int | None = None
    """CPU threads. Default: the cores there are."""

    def __post_init__(self) -> None:
        settle_types(self)
        for name in ("num_images", "steps", "threads"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} is {value}: give at least 1")
        if not 0 <= self.seed < 10**8:
            raise ValueError(f"--seed is {self.seed}: give 0 to 99999999")


def main(config: SampleConfig) -> None:
    use_cores(config.threads)
    checkpoint = open_source(config.checkpoint)
    checkpoint.pipeline.to(process_state().device)
    files = sample_files(checkpoint, config.num_images, config.seed)
    settings = SampleSettings(sampler=config.sampler, steps=config.steps, guidance_scale=config.guidance_scale)
    writing = write_samples(checkpoint, config.out, files, settings)
    with tqdm(total=len(files), initial=next(writing), unit="img", dynamic_ncols=True) as progress:
        for written in writing:
            progress.update(written - progress.n)
    print(f"{config.out} holds {len(files)} samples of {checkpoint.name}")


if __name__ == "__main__":
    main_of(SampleConfig, main)
