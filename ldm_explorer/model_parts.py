"""The networks of a model by their configs: the shapes of latents and images, the labels, and whether they fit."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, ModelMixin

from ldm_explorer.files import CheckpointError, printable, read_json, shown
from ldm_explorer.lazy import cached_property
from ldm_explorer.network_files import read_network_config
from ldm_explorer.networks import NETWORKS, num_labels
from ldm_explorer.run_layout import NETWORK_CONFIG, TRANSFORMER, UNET, VAE, config_of

MAX_SIDES_APART = 4
"""Autoencoders are used on larger images than they were trained on, but not on so much larger ones."""


@dataclass(frozen=True)
class ModelFolder:
    """The networks of a model that can be read: subfolders of `folder`, None for what is not there.

    `network` is that of the denoiser; without `vae` beside it, it is a diffusion model of pixels.
    """

    folder: Path
    vae: str | None
    network: str | None
    is_ours: bool  # written by this project: what its labels mean is known

    @cached_property
    def vae_config(self) -> dict[str, Any]:
        """That of the autoencoder, with its class's defaults, {} without one. Raises `CheckpointError`."""
        return self._config(AutoencoderKL, self.vae)

    @cached_property
    def network_config(self) -> dict[str, Any]:
        return self._config(self.network_class, self.network)

    @cached_property
    def network_class(self) -> type[ModelMixin]:
        """That of the denoiser, by its config."""
        return NETWORKS[self._kind]

    @cached_property
    def _kind(self) -> str:
        """What a pipeline calls a network of the denoiser's class, wherever it lies."""
        name = None if self.network is None else class_in(self.folder / self.network)
        return next((part for part, known in NETWORKS.items() if known.__name__ == name), UNET)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(c, h, w) of what the denoiser takes, or of what an autoencoder alone makes of its own image side."""
        if self.network is None:
            side = self.vae_config["sample_size"] // self.factor
            return self.vae_config["latent_channels"], side, side
        height, width = _sides(self.network_config)
        return self.network_config["in_channels"], height, width

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
        return channels, self.vae_config["sample_size"] if self.network is None else height * self.factor

    @property
    def num_embeddings(self) -> int:
        """The labels that the denoiser has embeddings of, a null class among them where it has one; 0 for none."""
        field = "num_embeds_ada_norm" if self.is_transformer else "num_class_embeds"
        return num_labels(self._kind, self.network_config.get(field))

    @property
    def knows_null_class(self) -> bool:
        """Whether it is certain that the last label, where there are any, means "no label"."""
        return self.is_ours or self.is_transformer

    @property
    def is_transformer(self) -> bool:
        return self._kind == TRANSFORMER

    def _config(self, model_class: type[ModelMixin], part: str | None) -> dict[str, Any]:
        if part is None:
            return {}
        known = {name: field.default for name, field in inspect.signature(model_class).parameters.items()}
        return known | read_network_config(self.folder / part, model_class.__name__)


def class_in(folder: Path) -> object:
    """The class of a network as its config names it."""
    return read_json(folder / NETWORK_CONFIG).get("_class_name")


def _sides(config: Mapping[str, Any]) -> tuple[int, int]:
    size = config["sample_size"]
    return (size[0], size[1]) if isinstance(size, list | tuple) else (size, size)


def check_network(model: ModelFolder) -> None:
    """Raises `CheckpointError` for a denoiser that is told more than noise, a timestep and a class."""
    if model.network is None:
        return
    config, path = model.network_config, printable(model.folder / config_of(model.network))
    taken, given = config["in_channels"], config["out_channels"] or config["in_channels"]
    if given not in (taken, 2 * taken):  # twice as many: a variance that was learned with it
        raise CheckpointError(
            f"{path}: it takes {taken} channels and gives {given}, so it is told of another image: read are networks "
            "that take noise, a timestep and a class"
        )
    if model.is_transformer:
        _check_transformer(config, path)
    if (kind := config.get("class_embed_type")) is not None:
        raise CheckpointError(
            f"{path}: class_embed_type is {shown(kind)}, labels that are no classes: read are networks with "
            "num_class_embeds, or without labels"
        )
    if config["sample_size"] is None:
        raise CheckpointError(f"{path} has no sample_size: write the side of its input there")


def _check_transformer(config: Mapping[str, Any], path: str) -> None:
    """Raises `CheckpointError` for one that diffusers cannot build, or whose patches leave a rim of the latent."""
    if (kind := config["norm_type"]) != "ada_norm_zero":
        raise CheckpointError(f"{path}: norm_type is {shown(kind)}, read are transformers with ada_norm_zero")
    if config["num_embeds_ada_norm"] is None:
        raise CheckpointError(f"{path} has no num_embeds_ada_norm: write the number of its classes there")
    if config["sample_size"] % config["patch_size"]:
        raise CheckpointError(
            f"{path}: patches of side {config['patch_size']} do not divide a latent of side {config['sample_size']}"
        )


def check_together(model: ModelFolder) -> None:
    """Raises `CheckpointError` for an autoencoder and a denoiser of different latents."""
    if model.vae is None or model.network is None:
        return
    makes, takes = model.vae_config["latent_channels"], model.network_config["in_channels"]
    if makes != takes:
        raise CheckpointError(
            f"{printable(model.folder)}: the autoencoder makes {makes} latent channels, the denoiser takes {takes}: "
            "they were not trained together"
        )
    side, own = max(_sides(model.network_config)) * model.factor, model.vae_config["sample_size"]
    if side > MAX_SIDES_APART * own:
        raise CheckpointError(
            f"{printable(model.folder)}: the denoiser's latents are those of images of side {side}, the autoencoder's "
            f"images have side {own}: they were not trained together"
        )
