"""What floors and exact denoisers need beside a denoiser's weights, for runs that were trained without writing it."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from ldm_explorer.checkpoints import Checkpoint, read_checkpoint
from ldm_explorer.claims import locked
from ldm_explorer.data import load_split
from ldm_explorer.diagnosis.statistics import LatentStatistics, measure_latents, write_statistics
from ldm_explorer.run_folder import RunFolder
from ldm_explorer.run_layout import STATISTICS_FILE
from ldm_explorer.training.encoding import encode_all


def write_latents(folders: Iterable[Path], data_dir: Path | None = None) -> Iterator[Path]:
    """Write `latents.safetensors` into the folders of denoisers; yields each one when it is done.

    Raises `ValueError` for a folder of anything else, or no run of ours, before any work is done.
    """
    checkpoints = [read_checkpoint(folder) for folder in folders]
    for checkpoint in checkpoints:
        run = RunFolder(checkpoint.folder)
        if not checkpoint.has_denoiser:
            raise ValueError(f"{run.path} holds no denoiser: give folders of train/ldm.py")
        if not run.is_marked:
            raise ValueError(f"{run.path} has no mark of a run of ours: `python tools/mark_run.py` marks an old one")
        run.check([STATISTICS_FILE])
    for checkpoint in checkpoints:
        with locked(RunFolder(checkpoint.folder)):
            write_statistics(checkpoint.folder, measure(checkpoint, data_dir))
        yield checkpoint.folder


def measure(checkpoint: Checkpoint, data_dir: Path | None) -> LatentStatistics:
    """The statistics of the latents that a denoiser was trained on."""
    pipeline, image_side = checkpoint.pipeline, checkpoint.config.get("image_side")
    training = load_split(checkpoint.dataset, "train", data_dir, image_side)
    mirrored = checkpoint.config.get("flip") is True
    posterior = encode_all(pipeline.codec, training.images, mirrored=mirrored)
    labels = training.labels.repeat(2) if mirrored else training.labels
    return measure_latents(posterior, labels, checkpoint.schedule.amplitudes, pipeline.denoiser.num_classes)
