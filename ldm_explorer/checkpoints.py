"""Checkpoint folders: save and load. Weights are fp16 safetensors, everything beside them is JSON.

checkpoints/<dataset>/<run>/   vae/ alone (an autoencoder) or model_index.json, vae/, unet/, scheduler/ (a pipeline);
                               README.md (run card), train_config.json, train_log.jsonl, metrics.json;
                               dataset.json and images/ where the dataset is not one that everybody has;
                               .ldm-explorer, the mark of a run of ours (see run_folder)
"""

import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from diffusers import AutoencoderKL, DDPMScheduler, ModelMixin, UNet2DModel

from ldm_explorer.data import DatasetSpec, dataset_spec
from ldm_explorer.denoiser import NetworkDenoiser
from ldm_explorer.files import MAX_SHOWN, CheckpointError, first_line, is_text, printable, read_json, shown
from ldm_explorer.latents import LatentCodec
from ldm_explorer.lazy import cached_property
from ldm_explorer.network_files import load_model, model_files, read_network_config
from ldm_explorer.options import as_path
from ldm_explorer.pipeline import LatentDiffusionPipeline
from ldm_explorer.prediction import PREDICTION_TYPES
from ldm_explorer.run_files import (
    LogRecord,
    RunConfig,
    SchedulerConfig,
    read_log,
    read_run_config,
    read_scheduler_config,
    read_spec,
)
from ldm_explorer.run_folder import RunFolder
from ldm_explorer.run_layout import (
    CONFIG_FILE,
    LOG_FILE,
    METRICS_FILE,
    NETWORK_CONFIG,
    PIPELINE_FILE,
    SCHEDULER,
    SCHEDULER_CONFIG,
    SCHEDULER_FILE,
    SPEC_FILE,
    UNET,
    VAE,
    config_of,
    holds_classifier,
)
from ldm_explorer.schedules import Schedule
from ldm_explorer.shipped import find_checkpoint

MAX_SHARD_SIZE = "9MB"
Kind = Literal["vae", "ldm"]
PARTS: dict[Kind, dict[str, str]] = {
    "vae": {VAE: "AutoencoderKL"},
    "ldm": {VAE: "AutoencoderKL", UNET: "UNet2DModel"},
}
"""The networks of a checkpoint: their subfolders and diffusers' classes."""


def update_metrics(folder: Path, section: str, measures: dict[str, Any]) -> None:
    """Replace one section of metrics.json ("training", "evaluation", "evaluation_quick") and keep the others."""
    RunFolder(folder).write_json(METRICS_FILE, read_json(folder / METRICS_FILE) | {section: measures})


PIPELINE_FILES = (PIPELINE_FILE, SCHEDULER_FILE, *model_files(UNET), *model_files(VAE))


def save_vae(folder: Path, vae: AutoencoderKL) -> None:
    """Write `folder/vae`."""
    save_model(vae, folder / VAE)


def save_pipeline(folder: Path, vae: AutoencoderKL, unet: UNet2DModel, scheduler: DDPMScheduler) -> None:
    """Write `unet/`, `scheduler/`, `vae/`, and last `model_index.json`, by which a folder counts as whole.

    With the autoencoder first, a folder that a kill left half-written would pass for that of an autoencoder.
    """
    run = RunFolder(folder)
    run.check(PIPELINE_FILES)
    run.remove([PIPELINE_FILE])
    save_model(unet, folder / UNET)
    with run.replacing(SCHEDULER, last=SCHEDULER_CONFIG) as temporary:
        scheduler.save_pretrained(temporary)
    save_model(vae, folder / VAE)
    run.write_text(PIPELINE_FILE, LatentDiffusionPipeline(vae, unet, scheduler).to_json_string())


def save_model(model: ModelMixin, folder: Path) -> None:
    """Write the subfolder of a run that holds a network, in fp16."""
    # Not from_config: it drops config fields that were registered after construction (latents_mean, latents_std).
    half = copy.deepcopy(model).half()
    with RunFolder(folder.parent).replacing(folder.name, last=NETWORK_CONFIG) as temporary:
        half.save_pretrained(temporary, safe_serialization=True, max_shard_size=MAX_SHARD_SIZE)


def write_spec(folder: Path, spec: DatasetSpec) -> None:
    """Write `dataset.json`: what is to be known about the images of a dataset that others do not have."""
    RunFolder(folder).write_json(SPEC_FILE, asdict(spec))


def load_vae(folder: Path) -> AutoencoderKL:
    """The autoencoder of a checkpoint folder of either kind, in fp32. Raises `CheckpointError`."""
    return load_model(AutoencoderKL, folder, VAE)


def load_pipeline(folder: Path) -> LatentDiffusionPipeline:
    """The pipeline of an LDM folder, in fp32. Raises `CheckpointError`."""
    unet = load_model(UNet2DModel, folder, UNET)
    scheduler = load_scheduler(folder)
    if (steps := scheduler.config.num_train_timesteps) != len(scheduler.betas):
        raise CheckpointError(
            f"{printable(folder)}/{SCHEDULER} has {len(scheduler.betas)} trained_betas for {steps} num_train_timesteps"
        )
    try:
        pipeline = LatentDiffusionPipeline(load_vae(folder), unet, scheduler)
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{printable(folder)}: {first_line(error)}") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_scheduler(folder: Path) -> DDPMScheduler:
    """The betas and the prediction type of any diffusers scheduler of this family. Raises `CheckpointError`."""
    config, path = read_scheduler_config(folder), f"{printable(folder)}/{SCHEDULER}"
    name = config.get("_class_name", "")
    if not config:
        raise CheckpointError(f"{printable(folder)} has a UNet but no {SCHEDULER_FILE}")
    if "num_train_timesteps" not in config or "Flow" in name:
        kind = printable(name)[:MAX_SHOWN] or "scheduler without a name"
        raise CheckpointError(f"{path} is a {kind}: it has no betas to check")
    if (kind := config.get("prediction_type", "epsilon")) not in PREDICTION_TYPES:
        raise CheckpointError(f"{path} predicts {shown(kind)}: known are {', '.join(PREDICTION_TYPES)}")
    try:
        return DDPMScheduler.from_config(
            {name: value for name, value in config.items() if name in SchedulerConfig.__annotations__}
        )
    except Exception as error:  # whatever a setting that nobody foresaw makes diffusers raise
        raise CheckpointError(f"{path} cannot be read: {first_line(error)}") from error


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A folder that looks whole. Weights are loaded on first use and then kept, in fp32 and on the CPU.

    `kind` is "vae" for an autoencoder alone and "ldm" for one with a denoiser; what asks an autoencoder alone for its
    `pipeline`, `denoiser` or `schedule` raises `CheckpointError`, as weights that cannot be loaded do.
    """

    folder: Path
    name: str
    kind: Kind
    dataset: str
    config: RunConfig
    metrics: dict[str, Any]  # as train/evaluate.py and others left it: see `evaluation.reference.flat_measures`

    @cached_property
    def vae(self) -> AutoencoderKL:
        return self.pipeline.vae if self.kind == "ldm" else load_vae(self.folder)

    @cached_property
    def pipeline(self) -> LatentDiffusionPipeline:
        """The diffusers pipeline that samples from the denoiser."""
        if self.kind != "ldm":
            raise CheckpointError(f"{printable(self.folder)} is an autoencoder alone: give one with a denoiser")
        return load_pipeline(self.folder)

    @property
    def codec(self) -> LatentCodec:
        """Images to normalised latents and back. Raises `ValueError` for an autoencoder without latent statistics."""
        return LatentCodec(self.vae)

    @property
    def denoiser(self) -> NetworkDenoiser:
        """The UNet with what it predicts and along which schedule."""
        return self.pipeline.denoiser

    @property
    def schedule(self) -> Schedule:
        """The schedule that the denoiser was trained along, and is sampled along."""
        return self.denoiser.schedule

    @cached_property
    def spec(self) -> DatasetSpec:
        """The images it was trained on. Raises `ValueError` for a dataset that is neither stored nor known."""
        return read_spec(self.folder) or dataset_spec(self.dataset)

    def log(self) -> list[LogRecord]:
        return read_log(self.folder / LOG_FILE)


def read_checkpoint(folder: Path | str) -> Checkpoint:
    """Look at a folder without loading its weights: one that is here, or `checkpoints/...` as `find_checkpoint` does.

    Raises `CheckpointError` when it is none, or not whole.
    """
    given = as_path(folder, "the folder of a checkpoint")
    check_name(given)
    folder = find_checkpoint(given)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder: give that of a checkpoint")
    run = RunFolder(folder)
    if holds_classifier(run) and not run.has_part(VAE):
        raise CheckpointError(f"{folder} holds a classifier: give the folder of an autoencoder or a denoiser")
    if run.has(CONFIG_FILE) and not run.has_part(VAE):
        raise CheckpointError(f"{folder} has no weights yet: its training goes on, or was stopped")
    kind: Kind = "ldm" if run.has(PIPELINE_FILE) else "vae"
    if kind == "vae" and run.has_part(UNET):
        raise CheckpointError(f"{folder} is half-written: it has {UNET}/ but no {PIPELINE_FILE}")
    for part, class_name in PARTS[kind].items():
        if not run.has(config_of(part)) or not read_network_config(folder / part, class_name):
            raise CheckpointError(f"{folder} is no checkpoint: it has no {config_of(part)}")
        if not any((folder / part).glob("*.safetensors")):
            raise CheckpointError(f"{folder} is half-written: {part}/ holds no safetensors weights")
    if kind == "ldm" and not read_scheduler_config(folder):
        raise CheckpointError(f"{folder} is no checkpoint: it has no {SCHEDULER_FILE}")
    config, metrics = read_run_config(folder), read_json(folder / METRICS_FILE)
    return Checkpoint(folder, folder.name, kind, config.get("dataset", folder.parent.name), config, metrics)


def check_name(folder: Path) -> None:
    """Raises `CheckpointError` for a path that is no text."""
    if not is_text(folder):
        raise CheckpointError(f"{printable(folder)} has a name with characters that are no text: rename it")
