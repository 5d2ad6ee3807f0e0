"""Any local folder of a diffusers model as a `Case`: a run of ours, a pipeline, or an autoencoder alone."""

from pathlib import Path

from diffusers import AutoencoderKL
from torch import Tensor

from ldm_explorer.data import DatasetSpec
from ldm_explorer.diagnosis.case import Case
from ldm_explorer.diagnosis.statistics import read_statistics
from ldm_explorer.files import CheckpointError, first_line
from ldm_explorer.latents import settle_statistics
from ldm_explorer.model_folder import find_model
from ldm_explorer.model_images import num_classes
from ldm_explorer.model_parts import ModelFolder
from ldm_explorer.network_files import check_weights, load_model
from ldm_explorer.run_files import MAX_LOG_BYTES, RunConfig, read_log, read_run_config
from ldm_explorer.run_layout import LOG_FILE
from ldm_explorer.sampler_steps import SamplerSteps, read_sampler_steps, steps_of_student
from ldm_explorer.stored_scheduler import load_scheduler, read_named_config


def open_case(
    folder: Path,
    images: Tensor | None = None,
    image_labels: Tensor | None = None,
    spec: DatasetSpec | None = None,
) -> Case:
    """Load a folder, also one that is not whole; `spec` is what is known of its images.

    Raises `CheckpointError`, in one sentence, for one that holds no diffusers model we can read.
    """
    model = find_model(folder)
    folder = model.folder
    vae = _load(AutoencoderKL, model, model.vae)
    network = _load(model.network_class, model, model.network)
    scheduler = None if network is None else load_scheduler(folder)
    has_statistics = vae is not None and _settle_statistics(vae)
    try:
        log = read_log(folder / LOG_FILE, MAX_LOG_BYTES)
    except ValueError as error:
        raise CheckpointError(f"{folder}/{LOG_FILE} cannot be read: {first_line(error)}") from error
    config = read_run_config(folder)
    sampling = read_sampler_steps(model) if model.is_ours and model.network else None
    return Case(
        folder,
        config,
        log,
        vae,
        network,
        scheduler,
        read_named_config(folder),
        read_statistics(folder),
        has_statistics,
        images,
        image_labels,
        num_classes(model, spec),
        sampling=sampling,
        student=sampling and _made_for(config, sampling),
    )


def _made_for(config: RunConfig, sampling: SamplerSteps) -> SamplerSteps | None:
    """The steps that a denoiser was distilled for, whatever its index says; None for one that was not."""
    if not config.get("teacher"):
        return None
    evaluations = config.get("evaluations")
    return steps_of_student(evaluations) if evaluations else sampling


def _load(model_class: type, model: ModelFolder, part: str | None):
    """A network from safetensors, None where the folder has no such part."""
    if part is None:
        return None
    check_weights(model.folder / part)
    return load_model(model_class, model.folder, part)


def _settle_statistics(vae: AutoencoderKL) -> bool:
    """Whether the config holds latent statistics; where not, what a caller then uses is put in their place."""
    stored, channels = settle_statistics(vae), vae.config.latent_channels
    mean, std = vae.config.latents_mean or [0.0] * channels, vae.config.latents_std or [1.0] * channels
    vae.register_to_config(latents_mean=list(mean), latents_std=list(std))
    return stored
