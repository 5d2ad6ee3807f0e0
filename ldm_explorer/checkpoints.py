"""Checkpoint folders: save, load, discover. Weights are fp16 safetensors, everything beside them is JSON.

checkpoints/<dataset>/<run>/   vae/ alone (an autoencoder) or model_index.json, vae/, unet/, scheduler/ (a pipeline);
                               README.md (run card), train_config.json, train_log.jsonl, metrics.json;
                               dataset.json and images/ where the dataset is not one that everybody has;
                               .ldm-explorer, the mark of a run of ours (see run_folder)
"""

import copy
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, DDPMScheduler, ModelMixin, UNet2DModel
from torch import nn

from ldm_explorer.data import DatasetSpec, dataset_spec
from ldm_explorer.lazy import cached_property
from ldm_explorer.pipeline import LatentDiffusionPipeline
from ldm_explorer.run_folder import RunFolder

SHIPPED_CHECKPOINTS = Path(__file__).resolve().parents[1] / "checkpoints"
MAX_SHARD_SIZE = "9MB"
Kind = Literal["vae", "ldm"]


class CheckpointError(ValueError):
    """A folder that is no checkpoint; the message names it and says what is missing."""


def read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file, {} when there is none. Raises `CheckpointError` when it is not JSON."""
    try:
        content = json.loads(path.read_text()) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return content


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a train_log.jsonl; a last line cut short, by a crash or because it is being written, is left out.

    Raises `CheckpointError` when another one is damaged.
    """
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    if lines and not lines[-1].endswith("}"):
        lines.pop()
    return [_read_line(path, number, line) for number, line in enumerate(lines, start=1)]


def _read_line(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged in line {number} ({error}): mend that line or take it out") from error
    if not isinstance(record, dict):
        raise CheckpointError(f"{path} is damaged in line {number}, which is no JSON object: mend it or take it out")
    return record


def update_metrics(folder: Path, section: str, figures: dict[str, Any]) -> None:
    """Replace one section of metrics.json ("training", "evaluation", "evaluation_quick") and keep the others."""
    RunFolder(folder).write_json("metrics.json", read_json(folder / "metrics.json") | {section: figures})


def model_files(part: str) -> tuple[str, str]:
    """What `save_model` writes, where it needs no shards."""
    return f"{part}/config.json", f"{part}/diffusion_pytorch_model.safetensors"


PIPELINE_FILES = ("model_index.json", "scheduler/scheduler_config.json", *model_files("unet"), *model_files("vae"))


def save_vae(folder: Path, vae: AutoencoderKL) -> None:
    """Write `folder/vae`."""
    save_model(vae, folder / "vae")


def save_pipeline(folder: Path, vae: AutoencoderKL, unet: UNet2DModel, scheduler: DDPMScheduler) -> None:
    """Write `unet/`, `scheduler/`, `vae/`, and last `model_index.json`, by which a folder counts as whole.

    With the autoencoder first, a folder that a kill left half-written would pass for that of an autoencoder.
    """
    run = RunFolder(folder)
    run.check(PIPELINE_FILES)
    run.remove(["model_index.json"])
    save_model(unet, folder / "unet")
    with run.replacing("scheduler", last="scheduler_config.json") as temporary:
        scheduler.save_pretrained(temporary)
    save_model(vae, folder / "vae")
    run.write_text("model_index.json", LatentDiffusionPipeline(vae, unet, scheduler).to_json_string())


def save_model(model: ModelMixin, folder: Path) -> None:
    """Write the subfolder of a run that holds a network, in fp16."""
    # Not from_config: it drops config fields that were registered after construction (latents_mean, latents_std).
    half = copy.deepcopy(model).half()
    with RunFolder(folder.parent).replacing(folder.name, last="config.json") as temporary:
        half.save_pretrained(temporary, safe_serialization=True, max_shard_size=MAX_SHARD_SIZE)


def write_spec(folder: Path, spec: DatasetSpec) -> None:
    """Write `dataset.json`: what is to be known about the images of a dataset that others do not have."""
    RunFolder(folder).write_json("dataset.json", asdict(spec))


def read_spec(folder: Path) -> DatasetSpec | None:
    stored = read_json(folder / "dataset.json")
    if not stored:
        return None
    try:
        return DatasetSpec(**stored | {"class_names": tuple(stored["class_names"])})
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}/dataset.json does not describe a dataset: {error}") from error


def load_vae(folder: Path) -> AutoencoderKL:
    """The autoencoder of a checkpoint folder of either kind, in fp32. Raises `CheckpointError`."""
    return load_model(AutoencoderKL, folder, "vae")


def load_pipeline(folder: Path) -> LatentDiffusionPipeline:
    """The pipeline of an LDM folder, in fp32. Raises `CheckpointError`."""
    unet = load_model(UNet2DModel, folder, "unet")
    try:
        scheduler = DDPMScheduler.from_pretrained(folder / "scheduler", local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{folder}/scheduler is not a diffusers scheduler: {first_line(error)}") from error
    try:
        pipeline = LatentDiffusionPipeline(load_vae(folder), unet, scheduler)
    except ValueError as error:
        raise CheckpointError(f"{folder}: {first_line(error)}") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_model(model_class: type[ModelMixin], folder: Path, part: str) -> nn.Module:
    path = Path(folder) / part
    if not (path / "config.json").is_file():
        raise CheckpointError(f"{folder} is no checkpoint: it has no {part}/config.json")
    try:
        model, loading = model_class.from_pretrained(
            path,
            torch_dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except Exception as error:  # whatever a broken file makes the loader raise, it is this one message
        raise CheckpointError(f"{path} cannot be loaded as {model_class.__name__}: {first_line(error)}") from error
    if lost := [*loading["missing_keys"], *loading["unexpected_keys"]]:
        raise CheckpointError(f"{path} cannot be loaded as {model_class.__name__}: {len(lost)} tensors do not fit it")
    return model.eval().requires_grad_(False)


def first_line(error: Exception) -> str:
    """What an error says, without the rest; its kind when it says nothing."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A folder that looks whole. Weights are loaded on first use and then kept."""

    folder: Path
    name: str
    kind: Kind
    dataset: str
    config: dict[str, Any]
    metrics: dict[str, Any]

    @cached_property
    def vae(self) -> AutoencoderKL:
        return self.pipeline.vae if self.kind == "ldm" else load_vae(self.folder)

    @cached_property
    def pipeline(self) -> LatentDiffusionPipeline:
        return load_pipeline(self.folder)

    @cached_property
    def spec(self) -> DatasetSpec:
        """The images it was trained on. Raises `ValueError` for a dataset that is neither stored nor known."""
        return read_spec(self.folder) or dataset_spec(self.dataset)

    def log(self) -> list[dict[str, Any]]:
        return read_log(self.folder / "train_log.jsonl")


@dataclass(frozen=True)
class Skipped:
    """A folder that is not shown, and why, in one sentence."""

    folder: Path
    reason: str


def read_checkpoint(folder: Path) -> Checkpoint:
    """Look at a folder without loading its weights. Raises `CheckpointError` when it is none, or not whole."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder")
    if (folder / "train_config.json").is_file() and not (folder / "vae").exists():
        raise CheckpointError(f"{folder} has no weights yet: its training goes on, or was stopped")
    kind: Kind = "ldm" if (folder / "model_index.json").exists() else "vae"
    if kind == "vae" and (folder / "unet").exists():
        raise CheckpointError(f"{folder} is half-written: it has unet/ but no model_index.json")
    for part in ("vae", "unet", "scheduler") if kind == "ldm" else ("vae",):
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        if not (folder / part / name).is_file():
            raise CheckpointError(f"{folder} is no checkpoint: it has no {part}/{name}")
        read_json(folder / part / name)
        if part != "scheduler" and not any((folder / part).glob("*.safetensors")):
            raise CheckpointError(f"{folder} is half-written: {part}/ holds no safetensors weights")
    config, metrics = read_json(folder / "train_config.json"), read_json(folder / "metrics.json")
    return Checkpoint(folder, folder.name, kind, config.get("dataset", folder.parent.name), config, metrics)


def discover(root: Path) -> tuple[list[Checkpoint], list[Skipped]]:
    """Every checkpoint at or below `root` (up to `<root>/<dataset>/<run>`), and every folder that was passed over.

    The folder of a classifier (train/features.py) is neither.
    """
    checkpoints, skipped = [], []
    for folder in find_run_folders(root):
        if (folder / "features" / "config.json").is_file():
            continue
        try:
            checkpoints.append(read_checkpoint(folder))
        except CheckpointError as error:
            skipped.append(Skipped(folder, str(error)))
    return checkpoints, skipped


def find_run_folders(root: Path) -> list[Path]:
    """Every folder at or below `root` that may be a run, whole or not. Raises `CheckpointError` for no folder."""

    def children(folder: Path) -> list[Path]:
        return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))

    if not root.is_dir():
        raise CheckpointError(f"{root} is no folder: give one that holds checkpoints with --checkpoints")
    if _has_weights(root):
        return [root]
    runs = []
    for child in children(root):
        inner = [folder for folder in children(child) if not folder.name.startswith("state-")]
        runs += inner if inner and not _has_weights(child) else [child]
    return runs


def _has_weights(folder: Path) -> bool:
    files = ("model_index.json", "train_config.json", "vae/config.json", "unet/config.json", "features/config.json")
    return any((folder / file).is_file() for file in files)
