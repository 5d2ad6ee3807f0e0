"""Samples of a denoiser as PNG files: `<class>/<seed>.png`, or `<seed>.png` where there are no classes.

`train/evaluate.py` reads such a folder back. An image depends on its class and its seed alone, and so a folder can be
gone on with.
"""

import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import Any

import torch
from torchvision.transforms.functional import to_pil_image

from ldm_explorer.atomic import put, write_json
from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.files import printable, read_json
from ldm_explorer.latents import BATCH_IMAGES, decode_images
from ldm_explorer.network_files import weights_sha256
from ldm_explorer.networks import NETWORKS
from ldm_explorer.run_folder import FolderRefused
from ldm_explorer.run_layout import VAE
from ldm_explorer.samplers import SamplerName, check_guidance, final_latents, make_sampler
from ldm_explorer.standalone_pipeline import set_timesteps

SETTINGS_FILE = "samples.json"
"""What the samples of a folder were made with: those of other settings are not mixed in."""


@dataclass(frozen=True, kw_only=True)
class SampleSettings:
    """What the image of a class and a seed depends on."""

    sampler: SamplerName | None = None
    """Default: the checkpoint's own, which is unipc, and ddim of a student."""
    steps: int | None = None
    """Network evaluations per sample, twice that with guidance. Default: the checkpoint's own, 10, and as many as a
    student was distilled to."""
    guidance_scale: float = 1.0
    """1 for none."""


@dataclass(frozen=True)
class SampleFile:
    name: str  # relative to the folder, with slashes
    label: int | None
    seed: int


def sample_files(checkpoint: Checkpoint, num_images: int, first_seed: int = 0) -> list[SampleFile]:
    """The files of so many samples, classes in turn, each with a seed of its own.

    Raises `ValueError` for a class whose name is no name of a folder.
    """
    names = checkpoint.spec.class_names if checkpoint.pipeline.null_class is not None else ()
    if odd := [name for name in names if PureWindowsPath(name).name != name or name == ".."]:
        raise ValueError(f"the class {printable(odd[0])} has a name that no folder can have: rename it in the dataset")
    files = []
    for seed in range(first_seed, first_seed + num_images):
        label = seed % len(names) if names else None
        place = "" if label is None else f"{names[label]}/"
        files.append(SampleFile(f"{place}{seed:08d}.png", label, seed))
    return files


def write_samples(
    checkpoint: Checkpoint, folder: Path, files: list[SampleFile], settings: SampleSettings
) -> Iterator[int]:
    """Write those of the files that are not there yet, and yield how many there are, first before any work.

    Raises `FolderRefused` for a folder with samples of other settings, or where another file or a link has one of the
    names, and `ValueError` as `LatentDiffusionPipeline.denoise` does.
    """
    sampler, num_steps = checkpoint.sampling.given(settings.sampler, settings.steps)
    settings = replace(settings, sampler=sampler, steps=num_steps)
    set_timesteps(make_sampler(sampler, checkpoint.pipeline.scheduler), num_steps)
    check_guidance(settings.guidance_scale, checkpoint.denoiser, bool(files and files[0].label is not None))
    parts = [part for part in (*NETWORKS, VAE) if (checkpoint.folder / part).is_dir()]
    _settle(folder, files, asdict(settings) | {part: weights_sha256(checkpoint.folder / part) for part in parts})
    missing = [file for file in files if not (folder / file.name).is_file()]
    yield len(files) - len(missing)
    for start in range(0, len(missing), BATCH_IMAGES):
        part = missing[start : start + BATCH_IMAGES]
        labels = [file.label for file in part if file.label is not None]
        steps = checkpoint.pipeline.denoise(
            labels or None,
            [file.seed for file in part],
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance_scale,
            sampler=settings.sampler,
        )
        latents = final_latents(steps)
        if not latents.isfinite().all():
            raise ValueError(f"{settings.sampler} with {settings.steps} steps gives latents that are not finite")
        for file, image in zip(part, decode_images(checkpoint.codec, latents, checkpoint.spec), strict=True):
            _write_png(folder / file.name, image)
        yield len(files) - len(missing) + start + len(part)


def _settle(folder: Path, files: list[SampleFile], settings: dict[str, Any]) -> None:
    """Keep what the samples are made with, in a folder that holds samples of these settings alone, or none."""
    path = folder / SETTINGS_FILE
    before = read_json(path)
    if before and before != settings:
        differ = next(name for name in settings if before.get(name) != settings[name])
        was = printable(before.get(differ))
        raise FolderRefused(f"{folder} holds samples with {differ} {was}, not {settings[differ]}: give another folder")
    for file in files:
        place = folder / file.name
        if place.is_symlink() or place.is_dir() or place.parent.is_symlink() or (place.exists() and not before):
            raise FolderRefused(f"{place} is there, and is no sample of ours: move it away, or give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, settings)


def _write_png(path: Path, image: torch.Tensor) -> None:
    """Whole or not at all."""
    content = io.BytesIO()
    to_pil_image(image).save(content, "PNG")
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(content.getvalue())
    put(temporary, path)
