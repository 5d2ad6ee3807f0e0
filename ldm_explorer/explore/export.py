"""What was shown, as a short Python script that makes it again.

What diffusers can do alone is written with diffusers, torch and the checkpoint folder; exact denoisers and faults are
this library's, and so are their scripts. Every value stands in a script as `ascii` writes it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from diffusers import (
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    SchedulerMixin,
)

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.data import DATASETS, DatasetSpec
from ldm_explorer.diagnosis.denoisers import DEFAULT_DENOISER
from ldm_explorer.explore.denoising import labels_to_denoise
from ldm_explorer.explore.faults import set_up
from ldm_explorer.explore.images import ImageToExplore
from ldm_explorer.networks import NETWORKS, part_of
from ldm_explorer.run_layout import TRANSFORMER
from ldm_explorer.samplers import is_flow, make_sampler, set_timesteps

MAX_LINE = 100
YOUR_IMAGE = "your-image.png"
PACKAGE = Path(__file__).resolve().parents[1]


def short_path(path: Path, roots: Sequence[Path]) -> str:
    """A path without what lies above the folder of checkpoints that it is in: no business of who reads a script."""
    root = next((root for root in roots if path.is_relative_to(root)), path.parent)
    return (root.name / path.relative_to(root)).as_posix()


def denoising_script(
    checkpoint: Checkpoint,
    folder: str,
    class_name: str | None,
    seed: int,
    num_images: int = 1,
    *,
    sampler: str,
    num_steps: int,
    guidance_scale: float,
    denoiser: str = DEFAULT_DENOISER,
) -> str:
    """The run that `denoise_images` makes of the same arguments; its images go into files, `image-0.png` and on.

    `folder` is where the script finds the checkpoint. Raises `ValueError` as `denoise_images` does.
    """
    count, labels = labels_to_denoise(checkpoint, class_name, num_images)
    listed = _listed(labels, checkpoint.spec)
    if denoiser != DEFAULT_DENOISER or not checkpoint.model.is_ours:
        options = {"num_inference_steps": num_steps, "guidance_scale": guidance_scale, "sampler": sampler}
        return _script(_by_the_library(checkpoint, folder, listed, range(seed, seed + count), options, denoiser))
    trained, part = checkpoint.pipeline.scheduler, part_of(checkpoint.pipeline.network)
    network = NETWORKS[part].__name__
    used = make_sampler(sampler, trained)
    return _script(
        [
            '"""Noise to images, with torch, diffusers and the checkpoint folder alone."""',
            "",
            "import torch",
            *_import_diffusers("AutoencoderKL", network, type(trained).__name__, type(used).__name__),
            "from PIL import Image",
            "",
            *_load(folder),
            f'{part} = {network}.from_pretrained(folder, subfolder="{part}")',
            f'trained = {type(trained).__name__}.from_pretrained(folder, subfolder="scheduler")',
            f"scheduler = {_made(used, trained)}",
            *_set_timesteps(used, num_steps),
            "",
            f"generators = [torch.Generator().manual_seed({seed} + index) for index in range({count})]",
            *_walk(checkpoint, used, listed, guidance_scale),
            "",
            "images = vae.decode(z * std + mean).sample.clamp(-1, 1)",
            *_save(checkpoint.spec, "image"),
        ]
    )


def reconstruction_script(checkpoint: Checkpoint, folder: str, image: ImageToExplore) -> str:
    """The way of an image through the autoencoder and back, into `reconstruction-0.png`.

    The image is a file of the package or of the checkpoint; an upload is in neither, and stands for itself. Raises
    `ValueError` for a model of another program, whose latents are scaled otherwise or not at all.
    """
    if not checkpoint.model.is_ours:
        raise ValueError(f"{checkpoint.name} is no run of this project: open_source(folder).codec encodes and decodes")
    spec, side = checkpoint.spec, checkpoint.spec.side
    mode = "RGB" if spec.channels == 3 else "L"
    return _script(
        [
            '"""An image to its latent and back, with torch, diffusers and the checkpoint folder alone."""',
            "",
            "import numpy",
            "import torch",
            "from diffusers import AutoencoderKL",
            "from PIL import Image",
            "",
            *_load(folder),
            "",
            *_assigned("name", _image_name(checkpoint, folder, image)),
            f'bands = Image.open(name).convert("{mode}").split()  # of {side} x {side} pixels',
            "image = torch.from_numpy(numpy.stack([numpy.array(band) for band in bands]))[None]",
            f"image = torch.nn.functional.pad(image, {_border(spec) * 2}, value={spec.background})",
            "latent = (vae.encode(image.float() / 127.5 - 1).latent_dist.mean - mean) / std",
            "images = vae.decode(latent * std + mean).sample.clamp(-1, 1)",
            *_save(spec, "reconstruction"),
        ]
    )


def fault_script(checkpoint: Checkpoint, folder: str, fault: str, seed: int, denoiser: str = DEFAULT_DENOISER) -> str:
    """A fault beside the same run without it, into `right-0.png`, `broken-0.png` and on. Raises as `set_up` does."""
    set_up(checkpoint, fault, denoiser)
    return _script(
        [
            '"""A fault beside the same run without it."""',
            "",
            "from torchvision.transforms.functional import to_pil_image",
            "",
            "from ldm_explorer import read_checkpoint",
            "from ldm_explorer.explore.faults import Subject, run_sampling, set_up",
            "",
            *_assigned("folder", folder),
            f"experiment = set_up(read_checkpoint(folder), {fault!a}, {denoiser!a})",
            f"subject = Subject.of(experiment.checkpoint, None, seed={seed})",
            "runs = {name: getattr(experiment, name) for name in ('right', 'broken')}",
            "for name, sampling in runs.items():",
            "    *_, last = run_sampling(sampling, subject)",
            "    for index, image in enumerate(last.predicted):",
            '        to_pil_image(image).save(f"{name}-{index}.png")',
        ]
    )


def _by_the_library(
    checkpoint: Checkpoint, folder: str, labels: str | None, seeds: range, options: dict[str, object], denoiser: str
) -> Iterator[str]:
    """For what stock diffusers has not: exact denoisers, and folders of any kind that `open_source` reads."""
    by = "its network" if denoiser == DEFAULT_DENOISER else f"the {denoiser} denoiser, which needed no training"
    told = f", dataset={checkpoint.dataset!a}" if checkpoint.told_spec and checkpoint.dataset in DATASETS else ""
    yield f'"""Noise to images by {by}."""'
    yield from ("", "from ldm_explorer import denoiser_of, open_source, to_pil")
    yield from ("from ldm_explorer.data import crop", "")
    yield from _assigned("folder", folder)
    yield f"checkpoint = open_source(folder{told})"
    yield "*_, last = checkpoint.pipeline.denoise("
    yield f"    {labels},"
    yield f"    {seeds},"
    for name, value in options.items():
        yield f"    {name}={value!a},"
    yield f"    denoiser=denoiser_of({denoiser!a}, checkpoint),"
    yield ")"
    yield "images = crop(checkpoint.codec.decode(last.z_next), checkpoint.spec)"
    yield "for index, image in enumerate(to_pil(images)):"
    yield '    image.save(f"image-{index}.png")'


def _load(folder: str) -> Iterator[str]:
    yield "torch.set_grad_enabled(False)"
    yield from _assigned("folder", folder)
    yield 'vae = AutoencoderKL.from_pretrained(folder, subfolder="vae")'
    yield "mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1)"
    yield "std = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1)"


def _walk(checkpoint: Checkpoint, sampler: SchedulerMixin, labels: str | None, guidance_scale: float) -> Iterator[str]:
    """From noise to a clean latent z; without labels guidance is refused, as it is in sampling."""
    if guidance_scale != 1 and labels is None:
        raise ValueError("guidance needs class labels and a network trained with a null class")
    channels, *sides = checkpoint.model.latent_shape
    network, null_class = checkpoint.pipeline.network, checkpoint.pipeline.null_class
    learned = f"[:, :{channels}]" if (network.config.out_channels or channels) > channels else ""
    part = part_of(network)
    noise = f"torch.randn({channels}, {sides[0]}, {sides[1]}, generator=generator)"
    yield f"z = torch.stack([{noise} for generator in generators])"
    if not is_flow(sampler):
        yield "z = z * scheduler.init_noise_sigma"
    if labels is None and part == TRANSFORMER:  # which takes no answer without a label
        labels = f"[{null_class or 0}] * len(z)"
    if labels is not None:
        yield f"labels = torch.tensor({labels})"
    if guidance_scale != 1:
        yield f"no_label = torch.full_like(labels, {null_class})"
    yield "for t in scheduler.timesteps:"
    yield "    z_t = z" if is_flow(sampler) else "    z_t = scheduler.scale_model_input(z, t)"
    given = ", class_labels=labels" if labels is not None else ""
    time = "t.expand(len(z))" if part == TRANSFORMER else "t"
    yield f"    prediction = {part}(z_t, {time}{given}).sample{learned}"
    if guidance_scale != 1:
        yield f"    unguided = {part}(z_t, {time}, class_labels=no_label).sample{learned}"
        yield f"    prediction = unguided + {guidance_scale!a} * (prediction - unguided)"
    noisy = ", generator=generators" if isinstance(sampler, DDPMScheduler) else ""
    yield f"    z = scheduler.step(prediction, t, z{noisy}).prev_sample"


def _save(spec: DatasetSpec, name: str) -> Iterator[str]:
    """Images at the dataset's own side, as 8-bit PNG."""
    low = _border(spec)[0]
    if spec.side != spec.model_side:
        inside = f"{low}:{low + spec.side}"
        yield f"images = images[..., {inside}, {inside}]"
    yield "for index, image in enumerate(((images + 1) * 127.5).round().byte()):"
    yield f'    Image.fromarray(image.permute(1, 2, 0).squeeze(-1).numpy()).save(f"{name}-{{index}}.png")'


def _made(sampler: SchedulerMixin, trained: SchedulerMixin) -> str:
    """The call that makes a sampler of the stored scheduler, with what its entry in SAMPLERS sets."""
    plain = type(sampler).from_config(trained.config).config
    differs = {name: value for name, value in sampler.config.items() if name[0] != "_" and plain.get(name) != value}
    own = [f"{name}={value!a}" for name, value in differs.items()]
    return f"{type(sampler).__name__}.from_config({', '.join(['trained.config', *own])})"


def _set_timesteps(sampler: SchedulerMixin, num_steps: int) -> Iterator[str]:
    """The calls that give exactly so many timesteps, as `samplers.set_timesteps` does."""
    set_timesteps(sampler, num_steps)
    if isinstance(sampler, FlowMatchEulerDiscreteScheduler):
        yield f"scheduler.set_timesteps(sigmas=[1 - step / {num_steps} for step in range({num_steps})])"
        return
    if isinstance(sampler, FlowMatchHeunDiscreteScheduler):
        yield f"scheduler.set_timesteps({(num_steps + 1) // 2})  # two evaluations each, but one for the last"
        return
    plain = type(sampler).from_config(sampler.config)
    plain.set_timesteps(num_steps)
    if is_flow(sampler) or len(plain.timesteps) == num_steps:
        yield f"scheduler.set_timesteps({num_steps})"
    else:
        yield f"scheduler.set_timesteps({num_steps} - 1e-9)  # with {num_steps}, diffusers' own arange gains t = -1"
    if is_flow(sampler):
        yield f"scheduler.timesteps = scheduler.sigmas[:-1] * {sampler.config.num_train_timesteps}  # not rounded"


def _listed(labels: Sequence[int] | None, spec: DatasetSpec) -> str | None:
    if labels is None:
        return None
    if len(set(labels)) == 1:
        return f"[{labels[0]}] * {len(labels)}"
    return f"[index % {spec.num_classes} for index in range({len(labels)})]"


def _import_diffusers(*names: str) -> Iterator[str]:
    yield f"from diffusers import {', '.join(sorted(set(names)))}"


def _image_name(checkpoint: Checkpoint, folder: str, image: ImageToExplore) -> str:
    """Where the script finds the image: in the checkpoint's folder, or in the package as a clone has it."""
    if image.path is None:
        return YOUR_IMAGE
    if image.path.is_relative_to(checkpoint.folder):
        return f"{folder}/{image.path.relative_to(checkpoint.folder).as_posix()}"
    return (PACKAGE.name / image.path.relative_to(PACKAGE)).as_posix()


def _border(spec: DatasetSpec) -> tuple[int, int]:
    """The pixels that `data.pad` adds before and after."""
    low = (spec.model_side - spec.side) // 2
    return low, spec.model_side - spec.side - low


def _assigned(name: str, text: str) -> Iterator[str]:
    """A text as the value of a name, over several lines where it is long."""
    width = MAX_LINE // 2  # every character fits, whatever `ascii` makes of a few of them
    parts = [ascii(text[start : start + width]) for start in range(0, len(text), width)] or ["''"]
    if len(parts) == 1:
        yield f"{name} = {parts[0]}"
    else:
        yield f"{name} = ("
        yield from (f"    {part}" for part in parts)
        yield ")"


def _script(lines: Sequence[str] | Iterator[str]) -> str:
    return "\n".join(lines) + "\n"
