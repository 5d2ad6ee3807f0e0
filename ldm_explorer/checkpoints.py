"""Checkpoint folders: save and load. Weights are fp16 safetensors, everything beside them is JSON.

checkpoints/<dataset>/<run>/   vae/ alone (an autoencoder) or model_index.json, vae/, unet/ or transformer/, scheduler/
                               (a pipeline) and pipeline.py, which lets diffusers load it without this package;
                               README.md (run card), train_config.json, train_log.jsonl, metrics.json;
                               dataset.json and images/ where the dataset is not one that everybody has;
                               .ldm-explorer, the mark of a run of ours (see run_folder)
"""

import copy
import json
import os
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal

from diffusers import AutoencoderKL, DiTTransformer2DModel, ModelMixin, SchedulerMixin, UNet2DModel

from ldm_explorer import standalone_pipeline
from ldm_explorer.data import DATASETS, DatasetSpec, dataset_spec
from ldm_explorer.denoiser import NetworkDenoiser
from ldm_explorer.examples import Examples
from ldm_explorer.files import CheckpointError, first_line, is_text, printable, read_json
from ldm_explorer.latents import LatentCodec, measure_statistics, settle_statistics
from ldm_explorer.lazy import cached_property
from ldm_explorer.model_folder import find_model
from ldm_explorer.model_images import fitting_spec, num_classes, numbered_spec
from ldm_explorer.model_parts import ModelFolder
from ldm_explorer.network_files import check_weights, load_model, model_files, why_none
from ldm_explorer.networks import NETWORKS, part_of
from ldm_explorer.options import as_path
from ldm_explorer.pipeline import LatentDiffusionPipeline
from ldm_explorer.run_files import LogRecord, RunConfig, read_log, read_run_config, read_scheduler_config, read_spec
from ldm_explorer.run_folder import RunFolder
from ldm_explorer.run_layout import (
    CODE_FILE,
    CONFIG_FILE,
    LOG_FILE,
    METRICS_FILE,
    NETWORK_CONFIG,
    PIPELINE_FILE,
    SCHEDULER,
    SCHEDULER_CONFIG,
    SCHEDULER_FILE,
    UNET,
    VAE,
    config_of,
    holds_classifier,
)
from ldm_explorer.sampler_steps import DEFAULT_STEPS, SamplerSteps, read_sampler_steps
from ldm_explorer.samplers import clipping, is_flow, own_schedule
from ldm_explorer.schedules import Schedule
from ldm_explorer.shipped import find_checkpoint
from ldm_explorer.stored_scheduler import load_scheduler

MAX_SHARD_SIZE = "9MB"
Kind = Literal["vae", "ldm", "pixel"]


def pipeline_files(network: str) -> tuple[str, ...]:
    """What `save_pipeline` writes, with the part of the network."""
    return PIPELINE_FILE, CODE_FILE, SCHEDULER_FILE, *model_files(network), *model_files(VAE)


def save_vae(folder: Path, vae: AutoencoderKL) -> None:
    """Write `folder/vae`."""
    save_model(vae, folder / VAE)


def save_pipeline(
    folder: Path,
    vae: AutoencoderKL,
    network: UNet2DModel | DiTTransformer2DModel,
    scheduler: SchedulerMixin,
    sampling: SamplerSteps = DEFAULT_STEPS,
) -> None:
    """Write `unet/` or `transformer/`, `scheduler/`, `vae/`, `pipeline.py` and last `model_index.json`, by which a
    folder is whole.

    With the autoencoder first, a folder that a kill left half-written would pass for that of an autoencoder.
    """
    run, part = RunFolder(folder), part_of(network)
    run.check(pipeline_files(part))
    others = tuple(f"{other}/" for other in NETWORKS if other != part)
    run.remove([PIPELINE_FILE, *(name for name in run.names if name.startswith(others))])
    save_model(network, folder / part)
    with run.replacing(SCHEDULER, last=SCHEDULER_CONFIG) as temporary:
        scheduler.save_pretrained(temporary)
    save_model(vae, folder / VAE)
    pipeline = LatentDiffusionPipeline.of(vae, network, scheduler, **sampling._asdict())
    parts = json.loads(pipeline.to_json_string())
    write_pipeline_index(run, {name: entry for name, entry in parts.items() if entry != [None, None]})


def write_pipeline_index(run: RunFolder, parts: dict[str, Any]) -> None:
    """Write what diffusers loads a pipeline by: the code that ties its parts, and `model_index.json`, naming it."""
    run.write_bytes(CODE_FILE, Path(standalone_pipeline.__file__).read_bytes())
    code = Path(CODE_FILE).stem, standalone_pipeline.LatentDiffusionPipeline.__name__
    run.write_json(PIPELINE_FILE, parts | {"_class_name": code})


def save_model(model: ModelMixin, folder: Path) -> None:
    """Write the subfolder of a run that holds a network, in fp16."""
    # Not from_config: it drops config fields that were registered after construction (latents_mean, latents_std).
    half = copy.deepcopy(model).half()
    with RunFolder(folder.parent).replacing(folder.name, last=NETWORK_CONFIG) as temporary:
        half.save_pretrained(temporary, safe_serialization=True, max_shard_size=MAX_SHARD_SIZE)


def load_vae(folder: Path) -> AutoencoderKL:
    """The autoencoder of a folder that has one, in fp32. Raises `CheckpointError`."""
    if not folder.exists():
        raise CheckpointError(f"{printable(folder)} {why_none(RunFolder(folder), VAE)}")
    return _load_vae(find_model(folder))


def _load_vae(model: ModelFolder, examples: Examples | None = None) -> AutoencoderKL:
    """With the side of a denoiser's images, whatever it was trained on alone, and statistics: those that are stored,
    what diffusers does without, or of examples."""
    if model.vae is None:
        raise CheckpointError(f"{printable(model.folder)} {why_none(RunFolder(model.folder), VAE)}")
    vae = load_model(AutoencoderKL, model.folder, model.vae)
    if not model.is_ours:
        settle_statistics(vae)
        vae.register_to_config(sample_size=model.latent_shape[-1] * model.factor)
        if examples is not None and vae.config.latents_std is None:
            measure_statistics(vae, examples.images)
    return vae


def load_pipeline(folder: Path) -> LatentDiffusionPipeline:
    """The pipeline of a folder with a denoiser, in fp32. Raises `CheckpointError`."""
    model = find_model(folder)
    return _load_pipeline(model, num_classes(model, None))


def _load_pipeline(model: ModelFolder, classes: int, examples: Examples | None = None) -> LatentDiffusionPipeline:
    network = load_model(model.network_class, model.folder, model.network or UNET)
    scheduler = load_scheduler(model.folder)
    steps, schedule = scheduler.config.num_train_timesteps, own_schedule(scheduler)
    if steps != schedule.num_timesteps:
        raise CheckpointError(
            f"{printable(model.folder)}/{SCHEDULER} has {schedule.num_timesteps} trained_betas for {steps} "
            "num_train_timesteps"
        )
    try:
        vae = None if model.vae is None else _load_vae(model, examples)
        scheduler = clipping(scheduler) if vae is None else scheduler
        sampling = read_sampler_steps(model)._asdict()
        pipeline = LatentDiffusionPipeline.of(vae, network, scheduler, classes, **sampling)
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{printable(model.folder)}: {first_line(error)}") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A folder that looks whole. Weights are loaded on first use and then kept, in fp32 and on the CPU.

    `kind` is "vae" for an autoencoder alone, "ldm" for one with a denoiser, and "pixel" for a denoiser of pixels, whose
    `codec` changes nothing. What asks one of them for a part that it does not have raises `CheckpointError`, as weights
    that cannot be loaded do.
    """

    folder: Path
    name: str
    dataset: str
    config: RunConfig
    metrics: dict[str, Any]  # as train/evaluate.py and others left it: see `evaluation.reference.flat_measures`
    model: ModelFolder
    told_spec: DatasetSpec | None = None  # what who opened it says of its images
    told_examples: Examples | None = None

    @property
    def kind(self) -> Kind:
        if self.model.network is None:
            return "vae"
        return "pixel" if self.model.vae is None else "ldm"

    @property
    def has_denoiser(self) -> bool:
        return self.model.network is not None

    @property
    def teacher(self) -> str | None:
        """The name of the checkpoint that its denoiser was distilled from, None for one that was not."""
        told = self.config.get("teacher") if self.has_denoiser and self.model.is_ours else None
        return PurePath(told).name if told else None

    @cached_property
    def sampling(self) -> SamplerSteps:
        """How its denoiser is sampled where nobody says otherwise. Raises `CheckpointError`."""
        return read_sampler_steps(self.model)

    @cached_property
    def sampled_along(self) -> Literal["betas", "a flow"]:
        """What its scheduler walks along, by its JSON alone. Raises `CheckpointError` for an autoencoder alone."""
        return "a flow" if is_flow(load_scheduler(self.model.folder)) else "betas"

    @cached_property
    def vae(self) -> AutoencoderKL:
        if self.kind == "pixel":
            raise CheckpointError(f"{printable(self.name)} has no autoencoder: its denoiser works on pixels")
        return self.pipeline.vae if self.has_denoiser else _load_vae(self.model, self.told_examples)

    @cached_property
    def pipeline(self) -> LatentDiffusionPipeline:
        """The diffusers pipeline that samples from the denoiser."""
        if not self.has_denoiser:
            raise CheckpointError(f"{printable(self.folder)} is an autoencoder alone: give one with a denoiser")
        return _load_pipeline(self.model, num_classes(self.model, self.known_spec), self.told_examples)

    @property
    def codec(self) -> LatentCodec:
        """Images to normalised latents and back. Raises `ValueError` for an autoencoder without latent statistics."""
        return self.pipeline.codec if self.kind == "pixel" else LatentCodec(self.vae)

    @property
    def denoiser(self) -> NetworkDenoiser:
        """The network with what it predicts and along which schedule."""
        return self.pipeline.denoiser

    @property
    def schedule(self) -> Schedule:
        """The schedule that the denoiser was trained along, and is sampled along."""
        return self.denoiser.schedule

    @cached_property
    def spec(self) -> DatasetSpec:
        """The images it was trained on; where nobody says which, their classes are numbers.

        Raises `ValueError` for a run of a dataset that is neither stored nor known.
        """
        return self.known_spec or numbered_spec(self.model)

    @cached_property
    def known_spec(self) -> DatasetSpec | None:
        """The same, None where nobody says which images they are."""
        if stored := self.told_spec or read_spec(self.folder):
            return stored
        is_said = self.model.is_ours and "dataset" in self.config
        return dataset_spec(self.dataset) if is_said else fitting_spec(self.model, self.dataset)

    def log(self) -> list[LogRecord]:
        return read_log(self.folder / LOG_FILE)

    def unload(self) -> None:
        """Let the networks go, whoever still holds the checkpoint; they are loaded again when they are asked for."""
        for part in ("vae", "pipeline"):
            self.__dict__.pop(part, None)


def read_checkpoint(folder: Path | str) -> Checkpoint:
    """Look at a folder without loading its weights: one that is here, or `checkpoints/...` as `find_checkpoint` does.

    Raises `CheckpointError` when it is none, or not whole.
    """
    given = as_path(folder, "the folder of a checkpoint")
    check_name(given)
    folder = find_checkpoint(given)
    if not os.path.isdir(folder):  # False also for a name that is too long
        raise CheckpointError(f"{printable(folder)} is no folder: give that of a checkpoint")
    run = RunFolder(folder)
    if holds_classifier(run) and not run.has_part(VAE):
        raise CheckpointError(f"{folder} holds a classifier: give the folder of an autoencoder or a denoiser")
    if run.has(CONFIG_FILE) and not any(map(run.has_part, (VAE, *NETWORKS))):
        raise CheckpointError(f"{folder} has no weights yet: its training goes on, or was stopped")
    model = find_model(folder)
    _check_whole(model)
    config, metrics = read_run_config(model.folder), read_json(model.folder / METRICS_FILE)
    dataset = config.get("dataset", folder.parent.name) if model.is_ours else folder.parent.name
    if not model.is_ours and dataset in DATASETS and fitting_spec(model, dataset) is None:
        dataset = folder.name  # the folder around it has that name by chance
    return Checkpoint(model.folder, folder.name, dataset, config, metrics, model)


def _check_whole(model: ModelFolder) -> None:
    """Raises `CheckpointError` for a run that a kill left half-written, and for networks without weights."""
    folder, run = model.folder, RunFolder(model.folder)
    if model.is_ours and model.network is not None and not run.has(PIPELINE_FILE):
        raise CheckpointError(f"{folder} is half-written: it has {model.network}/ but no {PIPELINE_FILE}")
    if model.is_ours and model.vae is None:
        raise CheckpointError(f"{folder} is no checkpoint: it has no {config_of(VAE)}")
    for part in (model.vae, model.network):
        if part is not None:
            check_weights(folder / part)
    if model.network is not None and not read_scheduler_config(folder):
        raise CheckpointError(f"{folder} is no checkpoint: it has no {SCHEDULER_FILE}")
    if not model.is_ours and model.network is not None:
        load_scheduler(folder)
    read_sampler_steps(model)


def check_name(folder: Path) -> None:
    """Raises `CheckpointError` for a path that is no text."""
    if not is_text(folder):
        raise CheckpointError(f"{printable(folder)} has a name with characters that are no text: rename it")
