"""Networks in folders: a typed config.json beside weights in safetensors, compared before memory is taken for them."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import ModelMixin
from pydantic import TypeAdapter, with_config
from safetensors import safe_open
from torch import Tensor, nn
from typing_extensions import TypedDict

from ldm_explorer.files import CheckpointError, first_line, open_regular, printable, read_bytes, read_typed
from ldm_explorer.network_configs import CONFIGS
from ldm_explorer.networks import NETWORKS, settle
from ldm_explorer.run_files import STRICT, Name
from ldm_explorer.run_folder import RunFolder
from ldm_explorer.run_layout import CLASSIFIER, CONFIG_FILE, NETWORK_CONFIG, VAE, config_of

WEIGHTS = "diffusion_pytorch_model.safetensors"
MAX_HEADER_BYTES = 4_000_000
MAX_NAMED = 5
MAX_VALUES = 500_000_000
"""The values of all tensors of a network, also of those that no file holds: 2 GB in fp32."""

T = TypeVar("T")


@with_config(STRICT)
class ShardIndex(TypedDict):
    """The index beside weights that are cut into several files."""

    weight_map: dict[str, Name]


_INDEX = TypeAdapter(ShardIndex)
_VARIANT = re.compile(r"diffusion_pytorch_model\.\w{1,40}\.safetensors|.+\.index\.\w{1,40}\.json")
"""Weights of another precision, such as fp16: the file of all, or the index of several."""
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_PREFIXES = re.compile(r"^((module|_orig_mod)\.)+|\b_orig_mod\.")
"""What DistributedDataParallel and torch.compile put before the names of tensors when they are saved unwrapped."""
_OLD_ATTENTION = re.compile(r"\.(query|key|value|proj_attn)(?=\.\w+$)")
_NEW_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""What diffusers called the parts of an attention before its version 0.15, and what it calls them now."""


def model_files(part: str) -> tuple[str, str]:
    """What saving a network as this part of a run writes, where it needs no shards."""
    return config_of(part), f"{part}/{WEIGHTS}"


def read_network_config(folder: Path, class_name: str) -> dict[str, Any]:
    """The config.json of a network of one of these classes, {} where there is none. Raises `CheckpointError`."""
    path = folder / NETWORK_CONFIG
    config = read_typed(path, CONFIGS[class_name]) or {}
    for name in ("latents_mean", "latents_std"):
        values, channels = config.get(name), config.get("latent_channels", 4)
        if class_name == "AutoencoderKL" and values is not None and len(values) != channels:
            raise CheckpointError(
                f"{printable(path)}: latents_mean and latents_std need {channels} values, {name} has {len(values)}"
            )
    return config


def load_model(model_class: type[ModelMixin], folder: Path, part: str) -> ModelMixin:
    """A network from `folder/part`, in fp32, for inference. Raises `CheckpointError`.

    What the config builds has to be what the weights are, tensor by tensor, before memory is taken for them.
    """
    run, path = RunFolder(Path(folder)), Path(folder) / part
    config = read_network_config(path, model_class.__name__) if run.has(config_of(part)) else {}
    if not config:
        raise CheckpointError(f"{printable(folder)} {why_none(run, part)}")
    config.pop("_name_or_path", None)  # a place on somebody's machine, which would be saved with the network
    try:
        with torch.device("meta"):
            model = model_class.from_config(config)
        if (values := num_values(model)) > MAX_VALUES:
            raise CheckpointError(f"its config describes {values:,} values, and {MAX_VALUES:,} are read at most")
        wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        files = _weight_files(path)
        found = list(_read_each(files, wanted, _shape))
        if twice := {name for name, count in Counter(name for name, _ in found).items() if count > 1}:
            raise CheckpointError(f"{len(twice)} tensors are there twice, {printable(min(twice))} among them")
        _compare(wanted, dict(found))
        model.load_state_dict(dict(_read_each(files, wanted, _in_fp32)), assign=True)
        settle(model)
        if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
            raise CheckpointError("it has tensors that are not stored")
    except Exception as error:  # whatever a broken file makes diffusers, torch and safetensors raise
        raise CheckpointError(
            f"{printable(path)} cannot be loaded as {model_class.__name__}: {first_line(error)}"
        ) from error
    return model.eval().requires_grad_(False)


def num_values(model: nn.Module) -> int:
    """The values of all its tensors."""
    return sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))


def weights_sha256(folder: Path) -> str:
    """The SHA-256 of a network, as `cat FOLDER/*.safetensors | sha256sum` prints it. Raises `CheckpointError`."""
    content = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        content.update(read_bytes(path))
    return content.hexdigest()


def why_none(run: RunFolder, part: str) -> str:
    """What is wrong with a folder that has no such network."""
    if not run.path.exists():
        return "does not exist: give the folder of a checkpoint"
    if run.has(CONFIG_FILE) and not any(map(run.has_part, (VAE, *NETWORKS, CLASSIFIER))):
        return "is a run that is not finished, and has no weights yet: finish it with its own command and --resume"
    return f"is no checkpoint: it has no {config_of(part)}"


def check_weights(folder: Path) -> None:
    """Raise `CheckpointError` where a network has no weights that are read; their content is not looked at."""
    if any(folder.glob("*.safetensors")):
        return
    if pickled := next((path.name for path in sorted(folder.iterdir()) if path.suffix in PICKLED), None):
        raise CheckpointError(
            f"{printable(folder)} holds pickled weights alone ({printable(pickled)}), which can run code when opened "
            "and are not: save them again with save_pretrained(safe_serialization=True) where you trust them"
        )
    raise CheckpointError(f"{printable(folder)} is half-written: it holds no safetensors weights")


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a network, each a regular one with a header of a bearable size.

    Raises `CheckpointError`.
    """
    start = _first_file(folder)
    files = [start]
    if start.suffix == ".json":
        index = read_typed(start, _INDEX)
        files = [folder / Path(name).name for name in sorted(set(index["weight_map"].values()))] if index else []
    for file in files:
        with open_regular(file) as content:
            if int.from_bytes(content.read(8), "little") > MAX_HEADER_BYTES:
                raise CheckpointError(f"{printable(file.name)} is no safetensors file")
    return files


def _first_file(folder: Path) -> Path:
    """The index of the weights, or their only file; of a variant where there is but one and nothing else.

    Raises `CheckpointError`.
    """
    for name in (f"{WEIGHTS}.index.json", WEIGHTS):
        if os.path.lexists(folder / name):
            return folder / name
    variants = sorted(path for path in folder.iterdir() if _VARIANT.fullmatch(path.name))
    if len(variants) == 1:
        return variants[0]
    found = variants or sorted(folder.glob("*.safetensors"))
    names = ", ".join(printable(path.name) for path in found[:MAX_NAMED])
    what = "several variants" if variants else "other files"
    raise CheckpointError(f"it has no {WEIGHTS}, and {what} ({names}): leave one with that name")


def _compare(wanted: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]) -> None:
    if lost := {name for name, _ in wanted.items() ^ found.items()}:
        raise CheckpointError(f"{len(lost)} tensors do not fit it, {printable(min(lost))} among them")


def _read_each(files: list[Path], wanted: Container[str], read: Callable[[Any, str], T]) -> Iterator[tuple[str, T]]:
    """What `read` makes of every tensor in the files, by the name that diffusers has for it now."""
    for file in files:
        with safe_open(file, framework="pt") as content:
            for name in content.keys():  # noqa: SIM118, it is no dict
                yield name if name in wanted else _renamed(name), read(content, name)


def _renamed(name: str) -> str:
    name = _PREFIXES.sub("", name)
    return _OLD_ATTENTION.sub(lambda old: f".{_NEW_ATTENTION[old[1]]}", name)


def _shape(content: Any, name: str) -> tuple[int, ...]:
    """From the header of the file alone."""
    return tuple(content.get_slice(name).get_shape())


def _in_fp32(content: Any, name: str) -> Tensor:
    """In memory of its own, whatever becomes of the file. Raises `CheckpointError` for what is no fraction."""
    tensor = content.get_tensor(name)
    if not tensor.is_floating_point():
        raise CheckpointError(f"{printable(name)} is of type {tensor.dtype}: save weights as floating-point numbers")
    return tensor.to(torch.float32, copy=True)
