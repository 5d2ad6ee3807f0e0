"""What a finished run says of itself: what its training cost, a grid of samples, and the README of its folder."""

import io
import re
import shlex
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import diffusers
import torch
from huggingface_hub import ModelCard, ModelCardData
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from ldm_explorer.checkpoints import read_checkpoint
from ldm_explorer.data import DATASETS, FOLDER_PREFIX
from ldm_explorer.diagnosis.reading import read_loss
from ldm_explorer.diagnosis.students import student_sentence
from ldm_explorer.evaluation.results_table import tables
from ldm_explorer.files import counted, read_json
from ldm_explorer.film import read_film
from ldm_explorer.models import count_flops
from ldm_explorer.run_files import RunConfig, read_log, read_run_config
from ldm_explorer.run_folder import RunFolder
from ldm_explorer.run_layout import (
    CODE_FILE,
    CONFIG_FILE,
    LOG_FILE,
    METRICS_FILE,
    PIPELINE_FILE,
    SAMPLES_FILE,
    VAE,
)
from ldm_explorer.training.loop import Task

UNKNOWN_LICENSE = "unknown"
SAMPLES_PER_ROW, SAMPLE_SIDE = 5, 112
"""The pixels that an image of the grid has at least on a side, each of them a square of equal ones."""
LOAD = """```python
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("{name}", custom_pipeline="{name}", trust_remote_code=True)
image = pipeline({labels}).images[0]
```

That runs `{code}`, which needs torch and diffusers alone."""


def flops_per_image(task: Task) -> float:
    """Forward and backward, counted on one small batch."""
    size = min(4, task.num_examples)
    model, batch = task.model.cpu(), task.batch(torch.arange(size), torch.Generator().manual_seed(0))
    return count_flops(lambda: task.loss(model, batch)["loss"].backward()) / size


def training_cost(task: Task, run_dir: Path, command: str | None) -> dict[str, Any]:
    """Images seen, CPU time and FLOPs of a finished run, and the command that repeats it, if it was one."""
    last = read_log(run_dir / LOG_FILE)[-1]
    return ({"command": command} if command else {}) | {
        "steps": last["step"],
        "images": last["images"],
        "cpu_minutes": round(last["cpu_seconds"] / 60, 1),
        "gflops_per_image": round(flops_per_image(task) / 1e9, 4),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
    }


def sample_grid(run_dir: Path, channels: int) -> bytes | None:
    """The last frame of a run's film as a PNG; None where there is no film."""
    film = read_film(run_dir, channels)
    if not film:
        return None
    images = film[-1].images
    scale = -(-SAMPLE_SIDE // images.shape[-1])
    images = images.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    content = io.BytesIO()
    to_pil_image(make_grid(images, SAMPLES_PER_ROW, padding=scale)).save(content, "PNG", optimize=True)
    return content.getvalue()


def run_card(run_dir: Path, name: str | None = None, license: str | None = None) -> str:
    """The README of a finished run, by what lies in its folder; `name` is where others load it from, `license` that of
    a run whose options say none.

    Nothing in it says where things lie on this machine.
    """
    run, config, metrics = RunFolder(run_dir), read_run_config(run_dir), read_json(run_dir / METRICS_FILE)
    is_denoiser = run.has(PIPELINE_FILE)
    grid = f"![Samples]({SAMPLES_FILE})\n\nSamples of one noise each, not chosen." if run.has(SAMPLES_FILE) else ""
    labels = "class_labels=[0]" if config.get("class_labels") else ""
    figures = _figures(run_dir, metrics) if is_denoiser or run.has_part(VAE) else []
    load = (
        LOAD.format(name=name or run_dir.name, labels=labels, code=CODE_FILE) + _sides(run_dir) if is_denoiser else ""
    )
    parts = (
        f"# {run_dir.name}",
        grid,
        _training(config, metrics["training"]),
        _as_a_student(config, metrics["training"]) if config.get("teacher") else "",
        load,
        *(["## Figures", *figures] if figures else []),
    )
    return str(ModelCard(f"---\n{_metadata(config, run, license)}\n---\n" + "\n\n".join(filter(None, parts)) + "\n"))


def _sides(run_dir: Path) -> str:
    """What is to be known of the images where they are padded for the network."""
    spec = read_checkpoint(run_dir).known_spec
    if spec is None or spec.side == spec.model_side:
        return ""
    padded, own = (f"{side}x{side}" for side in (spec.model_side, spec.side))
    return f" Its images are {padded}, as the network pads them; `train/sample.py` crops them to their {own}."


def _metadata(config: RunConfig, run: RunFolder, license: str | None) -> str:
    """What the Hub reads: YAML."""
    dataset, is_denoiser = config.get("dataset", ""), run.has(PIPELINE_FILE)
    data = ModelCardData(
        license=config.get("license") or license or UNKNOWN_LICENSE,
        library_name="diffusers" if run.has_part(VAE) else None,
        pipeline_tag="unconditional-image-generation" if is_denoiser else None,
        tags=["ldm-explorer", "latent-diffusion"],
        datasets=[dataset] if dataset in DATASETS else None,  # others have no name that others know
    )
    return data.to_yaml(original_order=["license", "library_name", "pipeline_tag", "tags", "datasets"])


def _training(config: RunConfig, cost: dict[str, Any]) -> str:
    command = f"`{without_places(cost['command'])}`\n\n" if "command" in cost else ""
    return (
        f"{command}Trained on {without_places(config.get('dataset', 'images')).removeprefix(FOLDER_PREFIX)}: "
        f"{cost['parameters'] / 1e6:.2f} M parameters, {cost['images']:,} images in {cost['steps']:,} steps, "
        f"{cost['cpu_minutes']} CPU-minutes, {cost['gflops_per_image']} GFLOPs per image and step. The weights are the "
        f"moving average of training, in fp16. Options are in `{CONFIG_FILE}`, the loss in `{LOG_FILE}`, measures in "
        f"`{METRICS_FILE}`."
    )


def _as_a_student(config: RunConfig, training: dict[str, Any]) -> str:
    """What it was distilled from, and how it is sampled."""
    count, walk = config.get("evaluations") or 1, training["teacher"]
    return (
        f"A student of {without_places(walk['folder'])} by progressive distillation (Salimans & Ho 2022): with "
        f"{counted(count, 'evaluation')} of DDIM it goes where its teacher goes with {walk['num_inference_steps']} of "
        f"{walk['sampler']}. It knows the trailing timesteps of these {count} alone: other numbers, samplers and "
        "guidance are not what it was trained for."
    )


def what_it_learned(run_dir: Path) -> str:
    """How its validation ended, in a sentence that holds it against what makes it readable; "" of a classifier."""
    run, training = RunFolder(run_dir), read_json(run_dir / METRICS_FILE)["training"]
    if "validation_psnr_db" in training:
        return f"Validation images come back with {training['validation_psnr_db']:.2f} dB PSNR."
    if not run.has(PIPELINE_FILE):
        return ""
    checkpoint = read_checkpoint(run_dir)
    try:
        return read_loss(checkpoint).sentence() if checkpoint.teacher is None else student_sentence(checkpoint.log())
    except ValueError:  # too short for a validation
        return "No validation loss was logged."


def _figures(run_dir: Path, metrics: dict[str, Any]) -> list[str]:
    """The losses and measures that are known."""
    said = [sentence] if (sentence := what_it_learned(run_dir)) else []
    measured = sorted(section for section in metrics if section.startswith("evaluation"))
    if not measured:
        return [*said, "No other measures were taken."]
    introduced = f"By `train/evaluate.py`, `{measured[0]}` in `{METRICS_FILE}`; floors are what real images reach:"
    return [*said, introduced, *tables({run_dir.name: metrics[measured[0]]})]


def without_places(said: Any) -> Any:
    """JSON without where things lie on this machine: of a path from its root or out of its folder the name is left."""
    if isinstance(said, dict):
        return {name: without_places(value) for name, value in said.items()}
    if isinstance(said, list):
        return [without_places(value) for value in said]
    if not isinstance(said, str):
        return said
    if said.startswith("accelerate launch "):
        return shlex.join(map(_without_place, shlex.split(said)))
    return _without_place(said)


def _without_place(word: str) -> str:
    path = re.sub(rf"^(--[\w-]+=)?({FOLDER_PREFIX})?", "", word)
    windows = PureWindowsPath(path)  # takes both kinds of slashes
    is_local = PurePosixPath(path).is_absolute() or windows.drive or path.startswith("~") or ".." in windows.parts
    return word.removesuffix(path) + windows.name if is_local else word
