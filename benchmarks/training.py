"""Our training loop against a plain diffusers + Accelerate one: images per second and peak memory, same network, same
batch.

The plain loop: a DataLoader over the same latents, fp32, DDPMScheduler.add_noise and get_velocity, AdamW, clipping,
diffusers' EMAModel. Both train in turn; medians and spread over the pairs, after one that does not count. Beside it
stand our loop without a CUDA graph, where there is a GPU, what encoding every batch would cost in place of encoding
once, and the share of the machine's measured convolution and matrix rates that our loop reaches.
`python benchmarks/training.py [BATCH] [--network transformer] [--optimizer muon]`, 256 images by default; ours alone
with --no-plain --no-encoding.
"""

import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import accelerate
import diffusers
import torch
import tyro
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from ldm_explorer.checkpoints import load_vae
from ldm_explorer.data import load_split, to_model
from ldm_explorer.latents import LatentCodec, encode_posterior
from ldm_explorer.samplers import make_scheduler
from ldm_explorer.training import fit, make_accelerator, precision_of
from ldm_explorer.training.run_card import flops_per_image
from ldm_explorer.training.step_graph import beside, record
from ldm_explorer.training.tasks.denoiser import DenoiserTask, LDMTrainConfig

IMAGES = 8192
ON_GPU = torch.cuda.is_available()
BEFORE, STEPS = (20, 121) if ON_GPU else (4, 24)
"""What is timed begins after so many steps, for a GPU's are recorded in them, and ends before the last, which also
validates and saves."""


class Timing(NamedTuple):
    seconds: float
    """Of a step."""
    peak_bytes: int
    """Of the GPU's memory, else of the process so far."""


@dataclass
class EncodingTask(DenoiserTask):
    """As the parent, but every batch goes through the encoder."""

    codec: LatentCodec | None = None
    images: Tensor | None = None

    def batch(self, indices: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        self.posterior.mean[indices] = self.codec.encode(to_model(self.images[indices])).cpu()
        return super().batch(indices, generator)


def our_loop(task: DenoiserTask, config: LDMTrainConfig) -> Timing:
    AcceleratorState._reset_state(reset_partial_state=True)
    times = _begin()
    with tempfile.TemporaryDirectory() as folder:
        for step, _ in fit(task, config, make_accelerator(config, Path(folder)), Path(folder)):
            if step.step in (BEFORE, STEPS - 1):
                times.append(finished())
    return _end(times)


def plain_loop(network: nn.Module, latents: Tensor, labels: Tensor, config: LDMTrainConfig) -> Timing:
    AcceleratorState._reset_state(reset_partial_state=True)
    times = _begin()
    accelerator = Accelerator(mixed_precision="no")
    scheduler = make_scheduler(config.noise_schedule, config.prediction)
    optimizer = torch.optim.AdamW(network.parameters(), config.learning_rate)
    loader = DataLoader(TensorDataset(latents, labels), config.batch_size, shuffle=True, drop_last=True)
    network, optimizer, loader = accelerator.prepare(network, optimizer, loader)
    ema, step = EMAModel(network.parameters(), decay=0.999), 0
    while step < STEPS:
        for z0, label in loader:
            eps = torch.randn_like(z0)
            timesteps = torch.randint(0, config.num_timesteps, (len(z0),), device=z0.device)
            prediction = network(scheduler.add_noise(z0, eps, timesteps), timesteps, label, return_dict=False)[0]
            loss = F.mse_loss(prediction, scheduler.get_velocity(z0, eps, timesteps))
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(network.parameters(), config.grad_clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            ema.step(network.parameters())
            step += 1
            if step in (BEFORE, STEPS - 1):
                times.append(finished())
    return _end(times)


def _begin() -> list[float]:
    if ON_GPU:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return []


def _end(times: list[float]) -> Timing:
    status = Path("/proc/self/status").read_text()
    peak = torch.cuda.max_memory_reserved() if ON_GPU else 1024 * int(status.split("VmHWM:")[1].split()[0])
    return Timing((times[1] - times[0]) / (STEPS - 1 - BEFORE), peak)


def finished() -> float:
    """The time when what was asked of the device is done."""
    if ON_GPU:
        torch.cuda.synchronize()
    return time.perf_counter()


def rates(config: LDMTrainConfig, device: torch.device) -> dict[str, float]:
    """FLOP/s, forward and backward, of the network's commonest layer: a 3x3 convolution of its first width, or the
    matrix of a transformer's first feed-forward layer over all tokens of a batch."""
    side, of = 8, {}
    for dtype in (torch.float32, torch.bfloat16):
        if config.network == "unet":
            width = config.widths[0]
            layer, shape, flops = nn.Conv2d(width, width, 3, padding=1), (width, side, side), 9 * width**2 * side**2
        else:
            tokens = (side // config.patch_size) ** 2
            layer, shape = nn.Linear(config.width, 4 * config.width), (tokens, config.width)
            flops = 4 * config.width**2 * tokens
        inputs = torch.randn(config.batch_size, *shape, dtype=dtype, device=device, requires_grad=True)
        seconds = layer_seconds(layer.to(device, dtype), inputs)
        kind = "convolution" if config.network == "unet" else "matrix"
        of[f"{dtype} {kind}".removeprefix("torch.")] = 3 * 2 * flops * config.batch_size / seconds
    return of


def layer_seconds(layer: nn.Module, inputs: Tensor) -> float:
    """Forward and backward: the median of ten; of a GPU without what launching kernels takes."""
    gradient = torch.randn_like(layer(inputs))

    def work(_parts=()) -> dict[str, Tensor]:
        for _ in range(20 if ON_GPU else 1):
            torch.autograd.grad(layer(inputs), [inputs, *layer.parameters()], gradient)
        return {}

    if ON_GPU:
        with beside():
            work()
        replay, _ = record(work, [])
    seconds = []
    for _ in range(12):
        start = finished()
        (replay if ON_GPU else work)()
        seconds.append((finished() - start) / (20 if ON_GPU else 1))
    return statistics.median(seconds[2:])


def report(name: str, pairs: list[tuple[Timing, Timing]], batch_size: int) -> None:
    ratios = [theirs.seconds / ours.seconds for ours, theirs in pairs]
    rates = [statistics.median(batch_size / pair[which].seconds for pair in pairs) for which in (0, 1)]
    print(f"ours {rates[0]:.0f} images/s, {name} {rates[1]:.0f} images/s, ", end="")
    print(
        f"ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f}, {len(pairs)} pairs)",
        end="",
    )
    peaks = [max(pair[which].peak_bytes for pair in pairs) / 1e6 for which in (0, 1)]
    print(f", peak memory {peaks[0]:.0f} and {peaks[1]:.0f} MB" if ON_GPU else "")


def options(batch_size: int, network: str, optimizer: str) -> LDMTrainConfig:
    return LDMTrainConfig(
        **({"widths": (128, 128), "layers_per_block": 2} if network == "unet" else {"network": network}),
        batch_size=batch_size,
        optimizer=optimizer,
        weight_decay=0.0,
        max_steps=STEPS,
        log_every_steps=20,
        validate_every_steps=10_000,
        save_every_steps=10_000,
    )


def conditions(config: LDMTrainConfig) -> str:
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, diffusers {diffusers.__version__}"
    where = torch.cuda.get_device_name() if ON_GPU else f"{torch.get_num_threads()} threads on the CPU"
    what = f"{config.network}, {config.optimizer}, batch {config.batch_size}, our loop in {config.precision}"
    return f"{versions}, accelerate {accelerate.__version__}, {where}, {what}"


def main(
    batch_size: Annotated[int, tyro.conf.Positional] = 256,
    /,
    network: Literal["unet", "transformer"] = "unet",
    optimizer: Literal["adamw", "muon"] = "adamw",
    plain: bool = True,
    encoding: bool = True,
    pairs: int = 5,
) -> None:
    config = options(batch_size, network, optimizer)
    training = load_split(config.dataset, "train")
    images, labels = training.images[:IMAGES], training.labels[:IMAGES]
    accelerator = make_accelerator(config, Path())
    codec = LatentCodec(load_vae(config.vae_folder).to(accelerator.device))
    posterior = encode_posterior(codec, images)
    small = posterior[torch.arange(8)]
    arguments = (config, codec.vae, posterior, labels, small, labels[:8])
    config = replace(config, precision=precision_of(accelerator))  # measured once
    print(conditions(config))

    def ours(config: LDMTrainConfig = config) -> Timing:
        return our_loop(DenoiserTask(*arguments), config)

    def theirs() -> Timing:
        return plain_loop(config.network_for(codec.vae).build(), posterior.mean, labels, config)

    def encoding_all() -> Timing:
        return our_loop(EncodingTask(*arguments, codec=codec, images=images), config)

    def against(name: str, other: Callable[[], Timing]) -> None:
        report(name, [(ours(), other()) for _ in range(pairs + 1)][1:], batch_size)

    timings = [ours() for _ in range(pairs + 1)][1:]
    rate = batch_size / statistics.median(timing.seconds for timing in timings)
    reached = flops_per_image(DenoiserTask(*arguments)) * rate
    print(f"ours {rate:.0f} images/s, {reached / 1e9:.0f} GFLOP/s, peak memory {timings[0].peak_bytes / 1e6:.0f} MB")
    for layer, possible in rates(config, accelerator.device).items():
        print(f"{reached / possible:.0%} of the {layer} rate, {possible / 1e9:.0f} GFLOP/s")
    if plain:
        against("plain loop", theirs)
    if ON_GPU:
        against("without a graph", lambda: ours(replace(config, cuda_graph=False)))
    if encoding:
        against("encoding every batch", encoding_all)


if __name__ == "__main__":
    tyro.cli(main)
