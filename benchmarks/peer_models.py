"""Who competes in benchmarks/peers.py: how each of them trains within a budget of CPU-seconds, and how it samples.

The peers train as their own programs do: on the images as they are (28x28, where ours pads them to 32x32), without
labels, in batches of 16, and without mirroring, as ours. What is no default of theirs favours them: images come from
memory, networks have a size that suits this budget, diffusers' warm-up is shortened to fit into it, the average of
denoising-diffusion-pytorch follows every step and not each tenth, of which there are too few, and bf16 is used where it
is faster. All sample in fp32.
"""

import importlib.metadata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from math import cos, pi
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal
from unittest import mock

import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel
from diffusers.training_utils import EMAModel
from peer_budget import Budget
from safetensors.torch import load_model, save_model
from torch import Tensor
from torch.nn.functional import mse_loss

from ldm_explorer.checkpoints import load_pipeline, save_pipeline
from ldm_explorer.data import crop, dataset_spec, load_split, to_model, to_uint8
from ldm_explorer.evaluation.generation import generate
from ldm_explorer.latents import BATCH_IMAGES
from ldm_explorer.samplers import DEFAULT_NUM_STEPS, DEFAULT_SAMPLER
from ldm_explorer.training import clock
from ldm_explorer.training.processes import bf16_is_faster
from ldm_explorer.training.run import Run, Training, begin
from ldm_explorer.training.tasks.autoencoder import AutoencoderTraining, VAETrainConfig
from ldm_explorer.training.tasks.denoiser import DenoiserTraining
from ldm_explorer.training.tasks.denoiser_config import LDMTrainConfig

try:
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet
    from ema_pytorch import EMA
except ImportError:
    DDPM_IS_HERE = False
else:
    DDPM_IS_HERE = True

DATASET = "fashion_mnist"
SPEC = dataset_spec(DATASET)
AUTOENCODER_SHARE = 1 / 4
"""Of our budget, until the autoencoder's last step; what comes then, as encoding, is taken off the denoiser's."""
LEAST_SECONDS = 1.0
"""For a loop of ours for which nothing is left: it trains all the same, and its budget is said to be overdrawn."""
BATCH = 16
DDIM_STEPS, ALL_STEPS = 50, 1000
"""Evaluations of the peers' fast and full samplers."""
WARMUP_STEPS, WARMUP_SHARE = 500, 0.05
"""diffusers' example warms up for so many steps, which are a quarter of what this budget has: not beyond this share."""
UNET_WIDTHS = (32, 64, 128)
"""The example's UNet has (128, 128, 256, 256, 512, 512) at 64x64. 28x28 can be halved twice: 3 levels. In 900
CPU-seconds (128, 128, 256) see 8,000 images, these 34,000."""
DDPM_WIDTH, DDPM_MULTIPLES = 32, (1, 2, 4)
"""README's Unet has 64 times (1, 2, 4, 8) at 128x128; 64 times (1, 2, 4) sees 18,000 images in place of 40,000."""


def train_ours(class_labels: bool, learning_rate: float | None, seed: int, budget: Budget) -> None:
    """The autoencoder, then the denoiser on its latents, with the defaults of train/vae.py and train/ldm.py."""
    common: dict[str, Any] = {"seed": seed, "threads": torch.get_num_threads(), "precision": precision()}
    vae, ldm = budget.folder / "autoencoder", budget.folder / "denoiser"

    def keep(run: Run, images: int, ended: bool) -> None:
        task: Any = run.task
        budget.keep(lambda folder: save_pipeline(folder, task.vae, run.averaged, task.scheduler), images, ended)

    # A budget in minutes, which is wall-clock time to our loop, becomes one of CPU-minutes.
    with mock.patch.object(clock, "time", SimpleNamespace(monotonic=lambda: budget.spent)):
        _train_part(AutoencoderTraining(VAETrainConfig(out=vae, **common)), AUTOENCODER_SHARE, budget)
        options = common | {"class_labels": class_labels, "learning_rate": learning_rate}
        _train_part(DenoiserTraining(LDMTrainConfig(vae=vae, out=ldm, **options)), 1.0, budget, keep)


def _train_part(training: Training, share: float, budget: Budget, keep: Callable = lambda *_: None) -> None:
    """Train until this share of the budget is spent, whatever the preparations took."""
    with begin(training) as run:
        run.prepare()
        budget.miss()
        left = max(LEAST_SECONDS, share * budget.seconds - budget.spent)
        run.config = replace(run.config, max_minutes=left / 60)
        for step in run.steps():
            keep(run, step.images, False)
        run.export()
        keep(run, step.images, True)


def sample_ours(folder: Path, count: int, seed: int, full: bool) -> tuple[Tensor, Tensor | None]:
    sampler, num_steps = ("ddpm", ALL_STEPS) if full else (DEFAULT_SAMPLER, DEFAULT_NUM_STEPS)
    pipeline = load_pipeline(folder)
    made = generate(pipeline, SPEC, count, seed, num_steps=num_steps, sampler=sampler)
    return made.images, made.labels if pipeline.denoiser.num_classes else None


def batches(budget: Budget) -> Iterator[Tensor]:
    """Training images `(16, 1, 28, 28) uint8`, shuffled anew for each epoch, until the budget is spent."""
    images = crop(load_split(DATASET, "train").images, SPEC)
    while True:
        for rows in torch.randperm(len(images)).split(BATCH):
            if budget.share >= 1:
                return
            yield images[rows]


@cache
def precision() -> Literal["fp32", "bf16"]:
    """What all train in, ours by their rule and the peers by an option that their programs have: measured once."""
    return "bf16" if bf16_is_faster(torch.device("cpu")) else "fp32"


def autocast() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=precision() == "bf16")


def learning_rate_share(step: int, spent: float) -> float:
    """diffusers' "cosine" schedule along the share of the budget that is spent; `step` counts from 0."""
    warmup = min(1.0, max(step / WARMUP_STEPS, spent / WARMUP_SHARE))
    return warmup * (1 + cos(pi * spent)) / 2


def train_diffusers(learning_rate: float, seed: int, budget: Budget) -> None:
    """As diffusers' examples/unconditional_image_generation/train_unconditional.py does it."""
    torch.manual_seed(seed)
    unet = UNet2DModel(
        sample_size=SPEC.side,
        in_channels=SPEC.channels,
        out_channels=SPEC.channels,
        layers_per_block=2,
        block_out_channels=UNET_WIDTHS,
        norm_num_groups=8,  # 32 would leave a channel to each
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    )
    scheduler = DDPMScheduler(num_train_timesteps=ALL_STEPS, beta_schedule="linear", prediction_type="epsilon")
    optimizer = torch.optim.AdamW(unet.parameters(), learning_rate, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_share(step, budget.share))
    ema = EMAModel(unet.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=3 / 4)

    def save(folder: Path) -> None:
        ema.store(unet.parameters())
        ema.copy_to(unet.parameters())
        DDPMPipeline(unet, scheduler).save_pretrained(folder)
        ema.restore(unet.parameters())

    images, autocasting = 0, autocast()
    for batch in batches(budget):
        clean = to_model(batch)
        noise, timesteps = torch.randn_like(clean), torch.randint(ALL_STEPS, (len(clean),))
        with autocasting:
            predicted = unet(scheduler.add_noise(clean, noise, timesteps), timesteps).sample
        mse_loss(predicted.float(), noise).backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        decay.step()
        ema.step(unet.parameters())
        optimizer.zero_grad()
        images += len(batch)
        budget.keep(save, images)
    budget.keep(save, images, ended=True)


def sample_diffusers(folder: Path, count: int, seed: int, full: bool) -> tuple[Tensor, None]:
    """DDIM with 50 evaluations, or DDPM with all."""
    pipeline: Any = DDPMPipeline.from_pretrained(folder)
    if not full:
        pipeline = DDIMPipeline(pipeline.unet, DDIMScheduler.from_config(pipeline.scheduler.config))
    pipeline.set_progress_bar_config(disable=True)
    steps, generator = ALL_STEPS if full else DDIM_STEPS, torch.Generator().manual_seed(seed)

    def draw(size: int) -> Tensor:
        made = pipeline(batch_size=size, generator=generator, num_inference_steps=steps, output_type="np").images
        return torch.from_numpy(made).permute(0, 3, 1, 2)

    return _in_slices(draw, count), None


def train_ddpm(learning_rate: float, seed: int, budget: Budget) -> None:
    """As the Trainer of denoising-diffusion-pytorch does it."""
    torch.manual_seed(seed)
    diffusion = _gaussian_diffusion(ALL_STEPS)
    optimizer = torch.optim.Adam(diffusion.parameters(), learning_rate, betas=(0.9, 0.99))
    ema, images, autocasting = EMA(diffusion, beta=0.995, update_every=1), 0, autocast()

    def save(folder: Path) -> None:
        folder.mkdir(parents=True)
        save_model(ema.ema_model, str(folder / "model.safetensors"))

    for batch in batches(budget):
        with autocasting:
            loss = diffusion(batch / 255)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.update()
        images += len(batch)
        budget.keep(save, images)
    budget.keep(save, images, ended=True)


def sample_ddpm(folder: Path, count: int, seed: int, full: bool) -> tuple[Tensor, None]:
    """Its DDIM with 50 evaluations, or all of them."""
    with torch.random.fork_rng():
        diffusion = _gaussian_diffusion(ALL_STEPS if full else DDIM_STEPS).eval()
        load_model(diffusion, str(folder / "model.safetensors"))
        torch.manual_seed(seed)
        return _in_slices(lambda size: diffusion.sample(batch_size=size), count), None


def _gaussian_diffusion(sampling_timesteps: int) -> torch.nn.Module:
    network = Unet(dim=DDPM_WIDTH, dim_mults=DDPM_MULTIPLES, channels=SPEC.channels, flash_attn=True)
    return GaussianDiffusion(network, image_size=SPEC.side, timesteps=ALL_STEPS, sampling_timesteps=sampling_timesteps)


def _in_slices(draw: Callable[[int], Tensor], count: int) -> Tensor:
    """So many images in [0, 1] as `uint8`, as few at a time as ours are made."""
    made = torch.cat([draw(min(BATCH_IMAGES, count - first)) for first in range(0, count, BATCH_IMAGES)])
    return to_uint8(2 * made - 1)


@dataclass(frozen=True)
class Competitor:
    """`train(learning_rate, seed, budget)`, and `sample(folder, count, seed, full)` to images `uint8` and labels."""

    train: Callable[[Any, int, Budget], None]
    sample: Callable[[Path, int, int, bool], tuple[Tensor, Tensor | None]]
    learning_rates: tuple[float | None, ...] = (None,)  # None: our default
    seeds: tuple[int, ...] = (0,)
    shares: tuple[float, ...] = (1.0,)  # of the budget


DDPM_PACKAGE = "denoising-diffusion-pytorch"
COMPETITORS = {
    "ours, labels": Competitor(partial(train_ours, True), sample_ours, seeds=(0, 1), shares=(1.0, 1 / 3, 1 / 8)),
    "ours, no labels": Competitor(partial(train_ours, False), sample_ours, seeds=(0, 1), shares=(1.0, 1 / 3, 1 / 8)),
    "diffusers": Competitor(train_diffusers, sample_diffusers, learning_rates=(1e-4, 1e-3)),
    DDPM_PACKAGE: Competitor(train_ddpm, sample_ddpm, learning_rates=(1e-4, 1e-3)),
}
if not DDPM_IS_HERE:
    del COMPETITORS[DDPM_PACKAGE]


def versions() -> str:
    """What the header says of the optional peer."""
    return f"{DDPM_PACKAGE} {importlib.metadata.version(DDPM_PACKAGE) if DDPM_IS_HERE else 'not installed: left out'}"
