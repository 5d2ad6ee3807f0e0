"""Any local folder of a diffusers model as a `Case`: a run of ours, a pipeline, or an autoencoder alone."""

from pathlib import Path

from diffusers import AutoencoderKL, UNet2DModel
from torch import Tensor

from ldm_explorer.checkpoints import load_scheduler
from ldm_explorer.diagnosis.case import Case
from ldm_explorer.diagnosis.statistics import read_statistics
from ldm_explorer.files import MAX_SHOWN, CheckpointError, first_line, printable, read_json
from ldm_explorer.network_files import load_model
from ldm_explorer.run_files import MAX_LOG_BYTES, read_log, read_run_config, read_scheduler_config
from ldm_explorer.run_folder import RunFolder
from ldm_explorer.run_layout import LOG_FILE, NETWORK_CONFIG, UNET, VAE, config_of

MAX_SIDES_APART = 4
"""Autoencoders are used on larger images than they were trained on, but not on so much larger ones."""


def open_case(folder: Path, images: Tensor | None = None, image_labels: Tensor | None = None) -> Case:
    """Load a folder. Raises `CheckpointError`, in one sentence, for one that holds no diffusers model we can read."""
    if not folder.is_dir():
        raise CheckpointError(f"{printable(folder)} is no folder: give that of a model")
    vae, unet = _load(AutoencoderKL, folder, VAE), _load(UNet2DModel, folder, UNET)
    if vae is None and unet is None:
        raise CheckpointError(
            f"{printable(folder)} holds no model: it has neither {config_of(VAE)} nor {config_of(UNET)}"
        )
    scheduler_config = read_scheduler_config(folder)
    scheduler = None if unet is None else load_scheduler(folder)
    if vae is not None and unet is not None and vae.config.latent_channels != unet.config.in_channels:
        raise CheckpointError(
            f"{folder}: the autoencoder makes {vae.config.latent_channels} latent channels, the UNet takes "
            f"{unet.config.in_channels}: they were not trained together"
        )
    if unet is not None and unet.config.sample_size is None:
        raise CheckpointError(f"{folder}/{config_of(UNET)} has no sample_size: write the side of its input there")
    _check_sides(folder, vae, unet)
    has_statistics = vae is not None and _settle_statistics(vae)
    try:
        log = read_log(folder / LOG_FILE, MAX_LOG_BYTES)
    except ValueError as error:
        raise CheckpointError(f"{folder}/{LOG_FILE} cannot be read: {first_line(error)}") from error
    return Case(
        folder,
        read_run_config(folder),
        log,
        vae,
        unet,
        scheduler,
        scheduler_config,
        read_statistics(folder),
        has_statistics,
        images,
        image_labels,
    )


def _load(model_class: type, folder: Path, part: str):
    """A network from safetensors, None where the folder has no such part."""
    path, run = folder / part, RunFolder(folder)
    config = read_json(folder / config_of(part)) if run.has(config_of(part)) else {}
    if not config:
        if run.has_part(part):
            raise CheckpointError(f"{path} is half-written: it has no {NETWORK_CONFIG}")
        return None
    if (name := config.get("_class_name")) != model_class.__name__:
        raise CheckpointError(
            f"{path} holds a {printable(name)[:MAX_SHOWN]}: the checks know {model_class.__name__} alone"
        )
    if not any(path.glob("*.safetensors")):
        pickled = next((file.name for file in path.iterdir() if file.suffix in (".bin", ".pt", ".pth", ".ckpt")), None)
        if pickled is not None:
            raise CheckpointError(
                f"{path} holds pickled weights alone ({pickled}), which can run code when opened and are not: save "
                "them again with save_pretrained(safe_serialization=True) where you trust them"
            )
        raise CheckpointError(f"{path} is half-written: it holds no safetensors weights")
    return load_model(model_class, folder, part)


def _check_sides(folder: Path, vae: AutoencoderKL | None, unet: UNet2DModel | None) -> None:
    """Raises `CheckpointError` for latents far larger than those of the autoencoder's images, which would take long."""
    if vae is None or unet is None:
        return
    size = unet.config.sample_size
    side = max(size if isinstance(size, list) else [size]) << len(vae.config.block_out_channels) - 1
    if side > MAX_SIDES_APART * vae.config.sample_size:
        raise CheckpointError(
            f"{folder}: the UNet's latents are those of images of side {side}, the autoencoder's images have side "
            f"{vae.config.sample_size}: they were not trained together"
        )


def _settle_statistics(vae: AutoencoderKL) -> bool:
    """Whether the config holds latent statistics; where not, what a caller then uses is put in their place."""
    mean, std = vae.config.get("latents_mean"), vae.config.get("latents_std")
    channels = vae.config.latent_channels
    stored = mean is not None and std is not None
    if not stored:
        mean = [vae.config.shift_factor or 0.0] * channels if mean is None else mean
        std = [1 / (vae.config.scaling_factor or 1.0)] * channels if std is None else std
    vae.register_to_config(latents_mean=list(mean), latents_std=list(std))
    return stored
