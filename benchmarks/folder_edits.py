"""Edits of a model's folder, and the check that has to name what was done to it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor


@dataclass(frozen=True)
class FolderFault:
    inject: Callable[[Path], None]
    cause: str  # the name of the check that has to come first


def edit_json(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(part: Path, edit: Callable[[str, Tensor], Tensor]) -> None:
    for path in part.glob("*.safetensors"):
        save_file({name: edit(name, tensor) for name, tensor in load_file(path).items()}, path, {"format": "pt"})


def scheduler(**changes) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / "scheduler" / "scheduler_config.json", **changes)


def weights(part: str, prefix: str, change: Callable[[Tensor], Tensor]) -> Callable[[Path], None]:
    def edit(name: str, tensor: Tensor) -> Tensor:
        return change(tensor).contiguous() if name.startswith(prefix) else tensor

    return lambda folder: edit_weights(folder / part, edit)


def one_nan(tensor: Tensor) -> Tensor:
    broken = tensor.clone()
    broken.view(-1)[7] = torch.nan
    return broken


def latent_statistics(change: Callable[[list[float], list[float]], tuple]) -> Callable[[Path], None]:
    """Another latents_mean and latents_std."""

    def edit(folder: Path) -> None:
        path = folder / "vae" / "config.json"
        stored = json.loads(path.read_text())
        mean, std = change(stored["latents_mean"], stored["latents_std"])
        edit_json(path, latents_mean=mean, latents_std=std)

    return edit


def swap_channels(folder: Path) -> None:
    """The autoencoder's first latent channels change places; it gives images back as before."""
    order = [1, 0, 2, 3]
    weights("vae", "quant_conv.", lambda rows: rows[[*order, *(4 + index for index in order)]])(folder)
    weights("vae", "post_quant_conv.weight", lambda rows: rows[:, order])(folder)


def swap_channels_and_statistics(folder: Path) -> None:
    """The same, with what is stored of the channels."""

    def swapped(values: list[float]) -> list[float]:
        return [values[1], values[0], *values[2:]]

    swap_channels(folder)
    latent_statistics(lambda mean, std: (swapped(mean), swapped(std)))(folder)
