"""What the training scripts share: the dataset options, the command line, and the way from a task to a checkpoint."""

import json
import shlex
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import diffusers
import torch
import tyro
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from ldm_explorer.checkpoints import read_log, update_metrics, write_text
from ldm_explorer.data import DataError, DatasetSpec, dataset_spec
from ldm_explorer.film import FilmFrame, cut_film, is_milestone, write_frame
from ldm_explorer.run_state import latest_state, read_progress
from ldm_explorer.training import FitConfig, Task, TrainLog, check_batch_divides, fit, make_accelerator, prepare_run_dir

INTERRUPTED = 130
"""The exit status of a run that Ctrl-C or SIGTERM stopped: 128 + SIGINT, as shells have it."""

Config = TypeVar("Config", bound=FitConfig)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The dataset options."""

    dataset: str = "fashion_mnist"
    data_dir: Path | None = None
    """Folder with the dataset's own files; by default they are found on the system or downloaded."""

    @property
    def spec(self) -> DatasetSpec:
        return dataset_spec(self.dataset)


def start(config: Config, name: str) -> tuple[Accelerator, Path]:
    """Claim the run folder (by default runs/<dataset>/<name>) and print the options, before any work is done."""
    run_dir = config.out or Path("runs") / config.dataset / name
    accelerator = make_accelerator(config, run_dir)
    check_batch_divides(config, accelerator)
    if accelerator.is_main_process:
        prepare_run_dir(config, run_dir)
    accelerator.wait_for_everyone()
    for option, value in asdict(config).items():
        accelerator.print(f"{option:24} {value}")
    return accelerator, run_dir


def train(
    task: Task,
    config: Config,
    accelerator: Accelerator,
    run_dir: Path,
    export: Callable[[nn.Module, Path], dict[str, Any]],
    sample: Callable[[nn.Module], Tensor] | None = None,
) -> None:
    """Train a task, then export the averaged model into the run folder.

    `export(averaged model, folder)` writes the weights and returns figures for metrics.json.
    `sample(averaged model)` generates the images `(B, C, side, side) uint8` of a frame of the run's film.
    """
    parameters = sum(p.numel() for p in task.model.parameters())
    accelerator.print(
        f"{parameters / 1e6:.2f} M parameters, {task.num_examples} examples, {accelerator.num_processes} process(es) "
        f"on {accelerator.device.type} with {torch.get_num_threads()} thread(s), "
        f"precision {accelerator.mixed_precision}"
    )
    averaged = run(task, config, accelerator, run_dir, sample)
    if averaged is None:
        sys.exit(INTERRUPTED)
    if accelerator.is_main_process:
        figures = export(averaged.cpu().eval(), run_dir)
        cost = training_cost(task, run_dir) | {"precision": accelerator.mixed_precision}
        update_metrics(run_dir, "training", cost | {"parameters": parameters} | figures)
        write_text(run_dir / "README.md", run_card(run_dir.name, config, cost, parameters))
        print(f"\nwrote {run_dir}")


def run(
    task: Task,
    config: FitConfig,
    accelerator: Accelerator,
    run_dir: Path,
    sample: Callable[[nn.Module], Tensor] | None = None,
) -> nn.Module | None:
    """Drive `fit` from a terminal: tqdm, train_log.jsonl, film, tracker. Returns the averaged model.

    Ctrl-C or SIGTERM finishes the step at hand, saves the state and returns None; a second one kills.
    """
    state = latest_state(run_dir) if config.resume else None
    log = TrainLog(run_dir / "train_log.jsonl", state, accelerator)
    if accelerator.is_main_process:
        cut_film(run_dir, read_progress(state).step if state else 0)
    if config.tracker:
        accelerator.init_trackers("ldm-explorer", config=json.loads(json.dumps(asdict(config), default=str)))
    interrupted = False

    def stop(signum, frame):
        nonlocal interrupted
        interrupted = True
        signal.signal(signum, signal.SIG_DFL if signum == signal.SIGTERM else signal.default_int_handler)

    handlers = {signum: signal.signal(signum, stop) for signum in (signal.SIGINT, signal.SIGTERM)}
    steps = fit(task, config, accelerator, run_dir)
    progress = tqdm(unit="img", unit_scale=True, disable=not accelerator.is_local_main_process, dynamic_ncols=True)
    try:
        for step, averaged in steps:
            if progress.n == 0:
                progress.initial = progress.n = step.images - config.batch_size
            progress.total = step.total_steps and step.total_steps * config.batch_size
            progress.update(step.images - progress.n)
            if record := log.add(step, config.log_every_steps):
                progress.set_postfix(loss=f"{record['loss']:.4f}", refresh=False)
                if config.tracker:
                    accelerator.log({k: v for k, v in record.items() if not isinstance(v, list)}, step=step.step)
            if sample and accelerator.is_main_process and is_milestone(step.step, step.total_steps):
                write_frame(run_dir, FilmFrame(step.step, sample(averaged)))
            if step.step == step.total_steps:
                return averaged
            if _on_any_process(interrupted, accelerator):
                steps.close()
                accelerator.print(f"\nstopped after step {step.step}: go on with the same command and --resume")
                return None
    finally:
        progress.close()
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        if config.tracker:
            accelerator.end_training()


def _on_any_process(flag: bool, accelerator: Accelerator) -> bool:
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor(float(flag), device=accelerator.device), "sum") > 0)


def training_cost(task: Task, run_dir: Path) -> dict[str, Any]:
    """Images seen, CPU time and FLOPs (forward and backward, counted on one batch) of a finished run."""
    last = read_log(run_dir / "train_log.jsonl")[-1]
    model, batch = task.model.cpu(), task.batch(torch.arange(4), torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as counter:
        task.loss(model, batch)["loss"].backward()
    return {
        "command": command_line(sys.argv),
        "steps": last["step"],
        "images": last["images"],
        "cpu_minutes": round(last["cpu_seconds"] / 60, 1),
        "gflops_per_image": round(counter.get_total_flops() / 4 / 1e9, 4),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
    }


OPTIONS_WITHOUT_EFFECT = {"--resume": 1, "--out": 2, "--threads": 2, "--data-dir": 2, "--tracker": 2}
"""Options, and how many words they take, that change where and how a run works but not what comes out."""


def command_line(arguments: list[str]) -> str:
    """The command that repeats a run: its script and the options that change its result."""
    words, kept = list(arguments[1:]), []
    while words:
        option, equals, _ = words[0].partition("=")
        taken = OPTIONS_WITHOUT_EFFECT.get(option)
        kept += words[:1] if taken is None else []
        words = words[1 if equals or taken is None else taken :]
    return shlex.join(["accelerate", "launch", f"train/{Path(arguments[0]).name}", *kept])


def run_card(name: str, config: Config, cost: dict[str, Any], parameters: int) -> str:
    """A README for the checkpoint folder: what it is, the command that made it, what it cost."""
    return f"""---
license: mit
library_name: diffusers
tags: [ldm-explorer, latent-diffusion]
datasets: [{config.dataset}]
---
# {name}

`{cost["command"]}`

Trained on {config.dataset}: {parameters / 1e6:.2f} M parameters, {cost["images"]:,} images in {cost["steps"]:,} steps,
{cost["cpu_minutes"]} CPU-minutes, {cost["gflops_per_image"]} GFLOPs per image and step. The weights are the moving
average of training, in fp16. Options are in `train_config.json`, the loss in `train_log.jsonl`, figures in
`metrics.json`.
"""


def main_of(config_class: type[Config], main: Callable[[Config], None]) -> None:
    """Parse the command line into the config and run; a refused option ends in one sentence, exit status 2."""
    try:
        main(tyro.cli(config_class))
    except (ValueError, FileExistsError, FileNotFoundError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
