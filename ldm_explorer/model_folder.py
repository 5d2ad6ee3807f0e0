"""Which networks a folder holds, and where: known by their classes, never by what a config happens to have.

It may be a run of ours, what a diffusers pipeline saved, what a training script left on its way, or one autoencoder.
"""

import inspect
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, UNet2DModel

from ldm_explorer.files import MAX_SHOWN, CheckpointError, printable, read_json, shown, with_article
from ldm_explorer.lazy import cached_property
from ldm_explorer.network_files import read_network_config, why_none
from ldm_explorer.run_files import read_run_config, read_scheduler_config
from ldm_explorer.run_folder import RunFolder
from ldm_explorer.run_layout import (
    CLASSIFIER,
    NETWORK_CONFIG,
    PIPELINE_FILE,
    SCHEDULER,
    UNET,
    UNET_EMA,
    VAE,
    config_of,
)

HERE = "."
"""Stands for a network that lies in the folder itself."""
OUR_PIPELINE = ["pipeline", "LatentDiffusionPipeline"]
"""As an index names it: the file in the folder, and its class. Others have classes of that name, too."""
CLASSES: dict[str, type] = {VAE: AutoencoderKL, UNET: UNet2DModel}
MAX_SIDES_APART = 4
"""Autoencoders are used on larger images than they were trained on, but not on so much larger ones."""
MAX_NAMED = 5
_NO_MODEL = f"holds no model: it has neither {config_of(VAE)} nor {config_of(UNET)}"


@dataclass(frozen=True)
class ModelFolder:
    """The networks of a model that can be read: subfolders of `folder`, None for what is not there.

    With `unet` and no `vae` it is a diffusion model of pixels.
    """

    folder: Path
    vae: str | None
    unet: str | None
    is_ours: bool  # written by this project: what its labels mean is known

    @cached_property
    def vae_config(self) -> dict[str, Any]:
        """That of the autoencoder, with its class's defaults, {} without one. Raises `CheckpointError`."""
        return self._config(VAE, self.vae)

    @cached_property
    def unet_config(self) -> dict[str, Any]:
        return self._config(UNET, self.unet)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(c, h, w) of what the denoiser takes, or of what an autoencoder alone makes of its own image side."""
        if self.unet is None:
            side = self.vae_config["sample_size"] // self.factor
            return self.vae_config["latent_channels"], side, side
        height, width = _sides(self.unet_config)
        return self.unet_config["in_channels"], height, width

    @property
    def factor(self) -> int:
        """How often an image's side is that of its latent."""
        return 1 if self.vae is None else 2 ** (len(self.vae_config["block_out_channels"]) - 1)

    @property
    def image_shape(self) -> tuple[int, int]:
        """Channels and side of the images. Raises `CheckpointError` for what is no square picture."""
        latent_channels, height, width = self.latent_shape
        channels = latent_channels if self.vae is None else self.vae_config["out_channels"]
        if channels not in (1, 3):
            without = "" if self.vae else f", and no {config_of(VAE)} is there to make pictures of latents"
            raise CheckpointError(
                f"{printable(self.folder)} makes images of {channels} channels{without}: 1 (grey) or 3 are shown"
            )
        if height != width:
            raise CheckpointError(f"{printable(self.folder)} has latents of {height} by {width}: square ones are shown")
        return channels, self.vae_config["sample_size"] if self.unet is None else height * self.factor

    @property
    def num_embeddings(self) -> int:
        """The labels that the denoiser has embeddings of, a null class among them where it has one; 0 for none."""
        return self.unet_config.get("num_class_embeds") or 0

    def _config(self, kind: str, part: str | None) -> dict[str, Any]:
        if part is None:
            return {}
        known = {name: field.default for name, field in inspect.signature(CLASSES[kind]).parameters.items()}
        return known | read_network_config(self.folder / part, CLASSES[kind].__name__)


def find_model(folder: Path) -> ModelFolder:
    """The model in a folder, or in the one subfolder that holds any; its JSON is read, its weights are not.

    Raises `CheckpointError`, which says what is there and what would be read.
    """
    if not os.path.isdir(folder):  # False also for a name that is too long
        raise CheckpointError(f"{printable(folder)} is no folder: give that of a model")
    run = RunFolder(folder)
    index = read_json(folder / PIPELINE_FILE) if run.has(PIPELINE_FILE) else {}
    is_ours = run.is_marked or _has_our_options(folder) or index.get("_class_name") == OUR_PIPELINE
    _check_index(folder, index)
    vae, unet = _part(run, VAE), _part(run, UNET) or _part(run, UNET_EMA)
    if not (vae or unet or is_ours):
        if not run.has(NETWORK_CONFIG):
            return find_model(_one_below(folder))
        vae, unet = _bare(folder)
    if not (vae or unet):
        raise CheckpointError(f"{printable(folder)} {why_none(run, VAE)}")
    if not (is_ours or index):
        _check_neighbours(folder)
    model = ModelFolder(folder, vae, unet, is_ours)
    _check_index_is_there(model, index)
    _check_unet(model)
    _check_together(model)
    return model


def _has_our_options(folder: Path) -> bool:
    """Whether train_config.json is that of a training here; others use the name as well."""
    config = read_run_config(folder)
    return "dataset" in config and ("prediction" in config or "kl_weight" in config)


def _names(entry: object) -> list[str]:
    """A class as an index names it: alone, or behind the library or file that it is from."""
    return [name for name in (entry if isinstance(entry, list) else [entry]) if isinstance(name, str)]


def _parts_of(index: Mapping[str, Any]) -> dict[str, str]:
    """The parts that a model_index.json lists, with their classes."""
    entries = {name: entry for name, entry in index.items() if isinstance(entry, list) and not name.startswith("_")}
    return {name: names[-1] for name, entry in entries.items() if len(names := _names(entry)) == 2}


def _check_index(folder: Path, index: Mapping[str, Any]) -> None:
    for name, class_name in _parts_of(index).items():
        known = CLASSES.get(name)
        if name != SCHEDULER and (known is None or class_name != known.__name__):
            raise CheckpointError(_refusal(folder / name, class_name))


def _check_index_is_there(model: ModelFolder, index: Mapping[str, Any]) -> None:
    """A pipeline of latents without its autoencoder would pass for one of pixels."""
    for name, part in ((VAE, model.vae), (UNET, model.unet)):
        if name in _parts_of(index) and part is None:
            raise CheckpointError(f"{printable(model.folder)} is half-written: it has no {config_of(name)}")


def _refusal(path: Path, class_name: object) -> str:
    """What is said of a network, or whatever else a pipeline is made of, that no code here knows."""
    named = with_article(class_name) if isinstance(class_name, str) else "a config without _class_name"
    return f"{printable(path)} holds {named}: what is read is an AutoencoderKL in {VAE}/ and a UNet2DModel in {UNET}/"


def _part(run: RunFolder, part: str) -> str | None:
    """The same name where the folder has that network. Raises `CheckpointError` for one of another class."""
    path = run.path / part
    if not run.has(config_of(part)):
        if run.has_part(part) and not path.is_file():
            raise CheckpointError(f"{printable(path)} is half-written: it has no {NETWORK_CONFIG}")
        return None
    wanted = CLASSES[VAE if part == VAE else UNET].__name__
    if (name := read_json(path / NETWORK_CONFIG).get("_class_name")) != wanted:
        raise CheckpointError(_refusal(path, name))
    return part


def _bare(folder: Path) -> tuple[str | None, str | None]:
    """The autoencoder or the denoiser of a network in the folder itself: one alone, or a UNet with its scheduler.

    Raises `CheckpointError` for anything else.
    """
    name = read_json(folder / NETWORK_CONFIG).get("_class_name")
    if name == AutoencoderKL.__name__:
        return HERE, None
    if name != UNet2DModel.__name__:
        raise CheckpointError(_refusal(folder, name))
    if not read_scheduler_config(folder):
        raise CheckpointError(
            f"{printable(folder)} holds a {name} alone: give the folder above, with it in {UNET}/ beside {SCHEDULER}/"
        )
    return None, HERE


def _check_neighbours(folder: Path) -> None:
    """Raises `CheckpointError` where a network lies beside those that are known, and nothing says what it is for."""
    for path in sorted(folder.glob(f"*/{NETWORK_CONFIG}")):
        name = None if path.parent.name in (VAE, UNET, UNET_EMA, CLASSIFIER) else read_json(path).get("_class_name")
        if isinstance(name, str):
            raise CheckpointError(_refusal(path.parent, name))


def _one_below(folder: Path) -> Path:
    """The one subfolder that holds a model. Raises `CheckpointError` where there are none or several."""
    try:
        below = [path for path in sorted(folder.iterdir()) if path.is_dir() and path.name[0] != "."]
    except OSError as error:
        raise CheckpointError(f"{printable(folder)} cannot be looked through: {error.strerror}") from error
    models = [path for path in below if _holds_model(RunFolder(path))]
    if len(models) == 1:
        return models[0]
    if models:
        raise CheckpointError(f"{printable(folder)} holds models in {_listed(models)}: give one of these folders")
    found = f", but {_listed(below)}" if below else ""
    raise CheckpointError(f"{printable(folder)} {_NO_MODEL}{found}")


def _holds_model(run: RunFolder) -> bool:
    return any(map(run.has, (NETWORK_CONFIG, *map(config_of, (VAE, UNET, UNET_EMA)))))


def _listed(paths: list[Path]) -> str:
    named = [printable(path.name)[:MAX_SHOWN] for path in paths[:MAX_NAMED]]
    more = len(paths) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")


def _sides(config: Mapping[str, Any]) -> tuple[int, int]:
    size = config["sample_size"]
    return (size[0], size[1]) if isinstance(size, list | tuple) else (size, size)


def _check_unet(model: ModelFolder) -> None:
    """Raises `CheckpointError` for a denoiser that is told more than noise, a timestep and a class."""
    if model.unet is None:
        return
    config, path = model.unet_config, printable(model.folder / config_of(model.unet))
    taken, given = config["in_channels"], config["out_channels"]
    if given not in (taken, 2 * taken):  # twice as many: a variance that was learned with it
        raise CheckpointError(
            f"{path}: it takes {taken} channels and gives {given}, so it is told of another image: read are networks "
            "that take noise, a timestep and a class"
        )
    if (kind := config["class_embed_type"]) is not None:
        raise CheckpointError(
            f"{path}: class_embed_type is {shown(kind)}, labels that are no classes: read are networks with "
            "num_class_embeds, or without labels"
        )
    if config["sample_size"] is None:
        raise CheckpointError(f"{path} has no sample_size: write the side of its input there")


def _check_together(model: ModelFolder) -> None:
    """Raises `CheckpointError` for an autoencoder and a denoiser of different latents."""
    if model.vae is None or model.unet is None:
        return
    makes, takes = model.vae_config["latent_channels"], model.unet_config["in_channels"]
    if makes != takes:
        raise CheckpointError(
            f"{printable(model.folder)}: the autoencoder makes {makes} latent channels, the UNet takes {takes}: they "
            "were not trained together"
        )
    side, own = max(_sides(model.unet_config)) * model.factor, model.vae_config["sample_size"]
    if side > MAX_SIDES_APART * own:
        raise CheckpointError(
            f"{printable(model.folder)}: the UNet's latents are those of images of side {side}, the autoencoder's "
            f"images have side {own}: they were not trained together"
        )
