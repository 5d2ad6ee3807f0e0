"""Our training loop against a plain diffusers + Accelerate one: images per second, same UNet, same batch.

The plain loop: a DataLoader over the same latents, fp32, DDPMScheduler.add_noise and get_velocity, AdamW, clipping,
diffusers' EMAModel. Both train in turn; medians and spread over the pairs, after one that does not count. Beside it
stand what encoding every batch would cost in place of encoding once, and the share of the machine's measured
convolution rates that our loop reaches. `python benchmarks/training.py [BATCH]`, 256 images by default.
"""

import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import accelerate
import diffusers
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers import UNet2DModel
from diffusers.training_utils import EMAModel
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from ldm_explorer.checkpoints import load_vae
from ldm_explorer.data import load_split, to_model
from ldm_explorer.latents import LatentCodec, encode_posterior
from ldm_explorer.samplers import make_scheduler
from ldm_explorer.training import fit, make_accelerator, precision_of
from ldm_explorer.training.run_card import flops_per_image
from ldm_explorer.training.tasks.denoiser import DenoiserTask, LDMTrainConfig

IMAGES, STEPS, PAIRS = 8192, 24, 5


@dataclass
class EncodingTask(DenoiserTask):
    """As the parent, but every batch goes through the encoder."""

    codec: LatentCodec | None = None
    images: Tensor | None = None

    def batch(self, indices: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        self.posterior.mean[indices] = self.codec.encode(to_model(self.images[indices])).cpu()
        return super().batch(indices, generator)


def our_loop(task: DenoiserTask, config: LDMTrainConfig) -> float:
    """Seconds per step, the first ones left out."""
    AcceleratorState._reset_state(reset_partial_state=True)
    with tempfile.TemporaryDirectory() as folder:
        starts = [
            finished() for _ in fit(task, config, make_accelerator(config, Path(folder)), Path(folder))
        ]  # the last step also validates and saves
    return (starts[-2] - starts[3]) / (len(starts) - 5)


def plain_loop(unet: UNet2DModel, latents: Tensor, labels: Tensor, config: LDMTrainConfig) -> float:
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(mixed_precision="no")
    scheduler = make_scheduler(config.noise_schedule, config.prediction)
    optimizer = torch.optim.AdamW(unet.parameters(), config.learning_rate)
    loader = DataLoader(TensorDataset(latents, labels), config.batch_size, shuffle=True, drop_last=True)
    unet, optimizer, loader = accelerator.prepare(unet, optimizer, loader)
    ema = EMAModel(unet.parameters(), decay=0.999)
    starts = []
    while len(starts) < STEPS:
        for z0, label in loader:
            eps = torch.randn_like(z0)
            timesteps = torch.randint(0, config.num_timesteps, (len(z0),), device=z0.device)
            prediction = unet(scheduler.add_noise(z0, eps, timesteps), timesteps, label, return_dict=False)[0]
            loss = F.mse_loss(prediction, scheduler.get_velocity(z0, eps, timesteps))
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(unet.parameters(), config.grad_clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            ema.step(unet.parameters())
            starts.append(finished())
    return (starts[STEPS - 2] - starts[3]) / (STEPS - 5)


def finished() -> float:
    """The time when what was asked of the device is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def convolution_rate(dtype: torch.dtype, device: torch.device, batch: int, channels: int, side: int) -> float:
    """FLOP/s of the UNet's commonest layer, a 3x3 convolution, forward and backward."""
    convolution = torch.nn.Conv2d(channels, channels, 3, padding=1).to(device, dtype)
    images = torch.randn(batch, channels, side, side, dtype=dtype, device=device, requires_grad=True)
    gradient = torch.randn_like(images)
    seconds = []
    for _ in range(12):
        start = finished()
        convolution(images).backward(gradient)
        seconds.append(finished() - start)
    return 3 * 2 * 9 * channels**2 * side**2 * batch / statistics.median(seconds[2:])


def in_turn(ours: Callable[[], float], theirs: Callable[[], float]) -> list[tuple[float, float]]:
    return [(ours(), theirs()) for _ in range(PAIRS + 1)][1:]


def report(name: str, pairs: list[tuple[float, float]], batch_size: int) -> None:
    ratios = [theirs / ours for ours, theirs in pairs]
    rates = [statistics.median(batch_size / pair[which] for pair in pairs) for which in (0, 1)]
    print(f"ours {rates[0]:.0f} images/s, {name} {rates[1]:.0f} images/s, ", end="")
    print(f"ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f}, {PAIRS} pairs)")


def main(batch_size: int) -> None:
    config = LDMTrainConfig(
        widths=(128, 128),
        layers_per_block=2,
        batch_size=batch_size,
        optimizer="adamw",
        weight_decay=0.0,
        max_steps=STEPS,
        log_every_steps=20,
        validate_every_steps=10_000,
        save_every_steps=10_000,
    )
    training = load_split(config.dataset, "train")
    images, labels = training.images[:IMAGES], training.labels[:IMAGES]
    accelerator = make_accelerator(config, Path())
    codec = LatentCodec(load_vae(config.vae_folder).to(accelerator.device))
    posterior = encode_posterior(codec, images)
    small = posterior[torch.arange(8)]
    arguments = (config, codec.vae, posterior, labels, small, labels[:8])
    config = replace(config, precision=precision_of(accelerator))  # measured once
    print(f"Python {platform.python_version()}, torch {torch.__version__}, diffusers {diffusers.__version__}", end=", ")
    print(
        f"accelerate {accelerate.__version__}, {torch.get_num_threads()} threads on {accelerator.device.type}, "
        f"batch {config.batch_size}",
        end=", ",
    )
    print(f"our loop in {config.precision}")
    widths = (config.batch_size, config.widths[0], codec.vae.config.sample_size // 4)
    rates = {
        str(dtype): convolution_rate(dtype, accelerator.device, *widths) for dtype in (torch.float32, torch.bfloat16)
    }
    print(", ".join(f"{name} convolution {rate / 1e9:.0f} GFLOP/s" for name, rate in rates.items()))
    pairs = in_turn(
        lambda: our_loop(DenoiserTask(*arguments), config),
        lambda: plain_loop(config.network_for(codec.vae).build(), posterior.mean, labels, config),
    )
    report("plain loop", pairs, config.batch_size)
    reached = (
        flops_per_image(DenoiserTask(*arguments)) * config.batch_size / statistics.median(ours for ours, _ in pairs)
    )
    shares = ", ".join(f"{reached / rate:.0%} of the {name} rate" for name, rate in rates.items())
    print(f"{reached / 1e9:.0f} GFLOP/s: {shares}")
    pairs = in_turn(
        lambda: our_loop(DenoiserTask(*arguments), config),
        lambda: our_loop(EncodingTask(*arguments, codec=codec, images=images), config),
    )
    report("encoding every batch", pairs, config.batch_size)


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 256)
