"""On a GPU: runs whose steps are recorded as a CUDA graph beside the same runs launched kernel by kernel.

For each of our networks, in fp32 and bf16: how far apart the weights end, in parts of how far the run moved them, and
how far apart two runs are that were both launched; the same of a run that is stopped half-way and goes on the other
way. It ends in an error where steps were not recorded, or where the CPU waits for the GPU between lines of a log.
`python benchmarks/graphs.py`
"""

import logging
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from accelerate.state import AcceleratorState
from torch import Tensor

from ldm_explorer.checkpoints import load_vae
from ldm_explorer.data import ImageSet, load_split
from ldm_explorer.latents import LatentCodec, encode_posterior
from ldm_explorer.training import FitConfig, fit, make_accelerator
from ldm_explorer.training.loop import Task
from ldm_explorer.training.step_graph import WARMUP_STEPS
from ldm_explorer.training.tasks.autoencoder import AutoencoderTask, VAETrainConfig
from ldm_explorer.training.tasks.classifier import ClassifierTask, ClassifierTrainConfig
from ldm_explorer.training.tasks.denoiser import DenoiserTask, LDMTrainConfig

STEPS, LINE, IMAGES = 40, 10, 2048
COMMON = {"max_steps": STEPS, "batch_size": 64, "log_every_steps": LINE, "validate_every_steps": STEPS}
DENOISERS = {
    "unet": LDMTrainConfig(**COMMON),
    "unet by adamw, importance": LDMTrainConfig(optimizer="adamw", timesteps="importance", **COMMON),
    "transformer of a flow": LDMTrainConfig(network="transformer", schedule="flow", **COMMON),
}


def kinds() -> Iterator[tuple[str, Callable[[], Task]]]:
    data = load_split("fashion_mnist", "train")
    images = ImageSet(data.images[:IMAGES], data.labels[:IMAGES])
    for name, config in DENOISERS.items():
        codec = LatentCodec(load_vae(config.vae_folder).cuda())
        posterior = encode_posterior(codec, images.images)
        known = posterior, images.labels, posterior[torch.arange(64)], images.labels[:64]
        yield name, lambda config=config, codec=codec, known=known: DenoiserTask(config, codec.vae, *known)
    yield "autoencoder", lambda: AutoencoderTask(VAETrainConfig(**COMMON), images, images)
    yield "classifier", lambda: ClassifierTask(ClassifierTrainConfig(**COMMON), images, images, images)


def weights(task: Task, config: FitConfig, folder: str, stop_after: int | None = None) -> Tensor:
    """All weights in one vector, after the run or the part of it."""
    AcceleratorState._reset_state(reset_partial_state=True)
    loss, computed = task.loss, []

    def counted(*arguments) -> dict[str, Tensor]:
        computed.append(None)
        return loss(*arguments)

    task.loss = counted
    run = fit(task, config, make_accelerator(config, Path(folder)), Path(folder))
    for taken, (step, _) in enumerate(run, start=1):
        begun, line_is_next = taken > WARMUP_STEPS, (step.step + 1) % LINE == 0
        torch.cuda.set_sync_debug_mode("error" if begun and not line_is_next and step.step != stop_after else "default")
        if step.step == stop_after:
            run.close()
    torch.cuda.set_sync_debug_mode("default")
    if config.cuda_graph and len(computed) != WARMUP_STEPS + 1:
        raise SystemExit("the steps were not recorded: the warning says why")
    return torch.cat([parameter.detach().flatten() for parameter in task.model.parameters()])


def compare(name: str, make: Callable[[], Task], config: FitConfig) -> None:
    def whole(cuda_graph: bool) -> Tensor:
        with tempfile.TemporaryDirectory() as folder:
            return weights(make(), replace(config, cuda_graph=cuda_graph), folder)

    def in_parts(first: bool) -> Tensor:
        with tempfile.TemporaryDirectory() as folder:
            weights(make(), replace(config, cuda_graph=first), folder, stop_after=STEPS // 2)
            return weights(make(), replace(config, cuda_graph=not first, resume=True), folder)

    launched = whole(False)
    start = torch.cat([parameter.detach().flatten() for parameter in make().model.parameters()]).to(launched.device)
    others = {"launched again": whole(False), "recorded": whole(True)}
    others |= {"recorded, then launched": in_parts(True), "launched, then recorded": in_parts(False)}
    apart = {which: (other - launched).norm() / (launched - start).norm() for which, other in others.items()}
    print(
        f"{name}, {config.precision}:", ", ".join(f"{which} {value:.1e}" for which, value in apart.items()), flush=True
    )


def main() -> None:
    logging.basicConfig(level=logging.WARNING)
    torch.backends.cudnn.deterministic = True
    for name, make in kinds():
        for precision in ("fp32", "bf16"):
            compare(name, make, replace(make().config, precision=precision))


if __name__ == "__main__":
    main()
