"""Which networks a folder holds, and where: known by their classes, never by what a config happens to have.

It may be a run of ours, what a diffusers pipeline saved, what a training script left on its way, or one autoencoder.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL

from ldm_explorer.files import MAX_SHOWN, CheckpointError, printable, read_json, with_article
from ldm_explorer.model_parts import ModelFolder, check_network, check_together, class_in
from ldm_explorer.network_files import NETWORKS, why_none
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
CLASSES: dict[str, type] = {VAE: AutoencoderKL, **NETWORKS}
MAX_NAMED = 5
_NO_MODEL = f"holds no model: it has neither {' nor '.join(map(config_of, CLASSES))}"


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
    vae, network = _part(run, VAE), _network(run)
    if not (vae or network or is_ours):
        if not run.has(NETWORK_CONFIG):
            return find_model(_one_below(folder))
        vae, network = _bare(folder)
    if not (vae or network):
        raise CheckpointError(f"{printable(folder)} {why_none(run, VAE)}")
    if not (is_ours or index):
        _check_neighbours(folder)
    model = ModelFolder(folder, vae, network, is_ours)
    _check_index_is_there(model, index)
    check_network(model)
    check_together(model)
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
    for name in CLASSES:
        if name in _parts_of(index) and (model.vae if name == VAE else model.network) is None:
            raise CheckpointError(f"{printable(model.folder)} is half-written: it has no {config_of(name)}")


def _refusal(path: Path, class_name: object) -> str:
    """What is said of a network, or whatever else a pipeline is made of, that no code here knows."""
    named = with_article(class_name) if isinstance(class_name, str) else "a config without _class_name"
    read = " or ".join(f"{with_article(known.__name__)} in {part}/" for part, known in NETWORKS.items())
    return f"{printable(path)} holds {named}: what is read is an AutoencoderKL in {VAE}/ and {read}"


def _part(run: RunFolder, part: str) -> str | None:
    """The same name where the folder has that network. Raises `CheckpointError` for one of another class."""
    path = run.path / part
    if not run.has(config_of(part)):
        if run.has_part(part) and not path.is_file():
            raise CheckpointError(f"{printable(path)} is half-written: it has no {NETWORK_CONFIG}")
        return None
    if (name := class_in(path)) != CLASSES[UNET if part == UNET_EMA else part].__name__:
        raise CheckpointError(_refusal(path, name))
    return part


def _network(run: RunFolder) -> str | None:
    """The part of the denoiser, averaged weights where there are no others. Raises `CheckpointError` for two."""
    found = [part for part in NETWORKS if _part(run, part)]
    if len(found) > 1:
        raise CheckpointError(f"{printable(run.path)} holds {' and '.join(f'{part}/' for part in found)}: leave one")
    return found[0] if found else _part(run, UNET_EMA)


def _bare(folder: Path) -> tuple[str | None, str | None]:
    """The autoencoder or the denoiser of a network in the folder itself: one alone, or a denoiser with its scheduler.

    Raises `CheckpointError` for anything else.
    """
    name = class_in(folder)
    if name == AutoencoderKL.__name__:
        return HERE, None
    part = next((part for part, known in NETWORKS.items() if known.__name__ == name), None)
    if part is None:
        raise CheckpointError(_refusal(folder, name))
    if not read_scheduler_config(folder):
        raise CheckpointError(
            f"{printable(folder)} holds a {name} alone: give the folder above, with it in {part}/ beside {SCHEDULER}/"
        )
    return None, HERE


def _check_neighbours(folder: Path) -> None:
    """Raises `CheckpointError` where a network lies beside those that are known, and nothing says what it is for."""
    for path in sorted(folder.glob(f"*/{NETWORK_CONFIG}")):
        name = None if path.parent.name in (*CLASSES, UNET_EMA, CLASSIFIER) else class_in(path.parent)
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
    return any(map(run.has, (NETWORK_CONFIG, *map(config_of, (*CLASSES, UNET_EMA)))))


def _listed(paths: list[Path]) -> str:
    named = [printable(path.name)[:MAX_SHOWN] for path in paths[:MAX_NAMED]]
    more = len(paths) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")
