"""The one training loop. A `Task` says what a batch and a loss are; `fit` does everything else, one `Step` at a time.

Data order, noise, timesteps and label dropout of step k come from a generator seeded by (seed, k) for the whole
global batch and are then sliced by rank, so they depend neither on interruptions nor on the number of processes.
"""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import torch
from accelerate import Accelerator, PartialState
from accelerate.tracking import get_available_trackers
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ldm_explorer.checkpoints import read_log, write_json, write_text
from ldm_explorer.run_state import Progress, latest_state, load_state, read_progress, save_state

STEPS_TO_TIME_A_BUDGET = 50
EMA_RAMPUP_RATIO = 0.05
ADAM_BETAS = (0.9, 0.99)
_SEED_STRIDE = 1_000_003


class Task(Protocol):
    """What `fit` trains. Tensors of `batch` have the global batch as first dimension and live on the CPU."""

    model: nn.Module
    num_examples: int

    def batch(self, indices: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The inputs of one step, all its randomness included, for examples `indices (B,)`."""

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Scalars of one forward pass; the one named "loss" is minimised."""

    def validate(self, model: nn.Module) -> dict[str, Any]:
        """Figures of the averaged model on held-out data with fixed noise; must hold "loss"."""


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """The options that every training shares. Give at most one budget: steps, epochs or minutes."""

    DEFAULT_MINUTES: ClassVar[float] = 30

    out: Path | None = None
    """Folder of the run: state while it trains, then the checkpoint. Default: runs/<dataset>/<name>."""
    resume: bool = False
    """Go on from the last saved state, if there is one."""
    max_steps: int | None = None
    max_epochs: float | None = None
    max_minutes: float | None = None
    """Wall-clock budget; becomes a number of steps once the first 50 are timed. Used when no budget is given."""
    batch_size: int = 128
    """Images per step, over all processes."""
    learning_rate: float = 1e-3
    """Peak of AdamW's learning rate: linear warm-up, then linear decay to 0."""
    lr_warmup_steps: int = 200
    weight_decay: float = 0.0
    grad_clip_norm: float = 1.0
    ema_halflife_images: int = 100_000
    """Half-life of the weight average; shorter at the start (Karras et al. 2022, EDM, ramp-up ratio 0.05)."""
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 autocast where the processor computes in it, else fp32."""
    threads: int | None = None
    """CPU threads per process. Default: the cores there are, shared by the processes on this machine."""
    log_every_steps: int = 20
    validate_every_steps: int = 500
    save_every_steps: int = 500
    tracker: str | None = None
    """An Accelerate tracker by name (tensorboard, trackio, wandb, ...) beside train_log.jsonl."""

    def __post_init__(self) -> None:
        budgets = [self.max_steps, self.max_epochs, self.max_minutes]
        if sum(budget is not None for budget in budgets) > 1:
            raise ValueError("give one budget, not several: --max-steps, --max-epochs or --max-minutes")
        if budgets == [None, None, None]:
            object.__setattr__(self, "max_minutes", self.DEFAULT_MINUTES)
        positive = ("max_steps", "max_epochs", "max_minutes", "batch_size", "learning_rate", "grad_clip_norm")
        positive += ("threads", "log_every_steps", "validate_every_steps", "save_every_steps", "ema_halflife_images")
        for name in positive:
            if (value := getattr(self, name)) is not None and value <= 0:
                raise ValueError(f"--{name.replace('_', '-')} is {value}: it has to be above 0")
        if self.lr_warmup_steps < 0:
            raise ValueError(f"--lr-warmup-steps is {self.lr_warmup_steps}: it cannot be negative")


@dataclass(frozen=True)
class Step:
    """One optimizer step, after it was taken. `metrics` are detached scalars: loss, grad_norm and the task's own."""

    step: int  # steps taken, from 1
    total_steps: int | None  # None until a budget in minutes is timed
    images: int  # images seen, over all processes
    learning_rate: float
    metrics: dict[str, Tensor]
    validation: dict[str, Any] | None
    cpu_seconds: float  # of this process, over all its resumes


def bf16_is_native(device: torch.device) -> bool:
    """Whether the device multiplies bf16 in hardware (on CPUs: AVX512-BF16 or AMX)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def make_accelerator(config: FitConfig, out: Path) -> Accelerator:
    """An Accelerator with the precision resolved and, on a CPU, all cores in use (`accelerate launch` leaves one)."""
    if config.tracker and config.tracker not in [str(name) for name in get_available_trackers()]:
        raise ValueError(f"--tracker {config.tracker} is not installed: pip install {config.tracker}")
    device = PartialState().device
    bf16 = config.precision == "bf16" or (config.precision == "auto" and bf16_is_native(device))
    accelerator = Accelerator(mixed_precision="bf16" if bf16 else "no", log_with=config.tracker, project_dir=str(out))
    if device.type == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        local_processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        torch.set_num_threads(config.threads or max(1, cores // local_processes))
    return accelerator


def check_batch_divides(config: FitConfig, accelerator: Accelerator) -> None:
    """Raises `ValueError` when the global batch cannot be shared out evenly."""
    if config.batch_size % accelerator.num_processes:
        raise ValueError(f"batch size {config.batch_size} does not divide over {accelerator.num_processes} processes")


def budget_in_steps(config: FitConfig, num_examples: int, seconds_per_step: float | None) -> int | None:
    """The budget as a number of steps; None for a budget in minutes as long as no step was timed."""
    if config.max_steps is not None:
        return config.max_steps
    if config.max_epochs is not None:
        return max(1, round(config.max_epochs * num_examples / config.batch_size))
    return None if seconds_per_step is None else max(1, round(config.max_minutes * 60 / seconds_per_step))


def learning_rate_at(step: int, total_steps: int | None, config: FitConfig) -> float:
    """Linear warm-up, then linear decay that would reach 0 one step after the last; `step` counts from 0."""
    warmup = min(1.0, (step + 1) / config.lr_warmup_steps) if config.lr_warmup_steps else 1.0
    decay = 1.0 if total_steps is None else max(0.0, 1 - step / total_steps)
    return config.learning_rate * warmup * decay


def batch_indices(step: int, num_examples: int, config: FitConfig) -> Tensor:
    """The examples of a step `(B,)`: consecutive slices of one permutation per epoch."""
    first = step * config.batch_size
    positions = torch.arange(first, first + config.batch_size)
    indices = torch.empty_like(positions)
    for epoch in range(first // num_examples, (first + config.batch_size - 1) // num_examples + 1):
        generator = torch.Generator().manual_seed(config.seed * _SEED_STRIDE + epoch)
        inside = positions // num_examples == epoch
        indices[inside] = torch.randperm(num_examples, generator=generator)[positions[inside] % num_examples]
    return indices


def _step_generator(step: int, seed: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed + 1) * _SEED_STRIDE * 1000 + step)


def _ema_update(config: FitConfig):
    """The averaging of AveragedModel: half-life in images, at most 5 % of the images seen so far."""

    def update(averaged: list[Tensor], current: list[Tensor], num_averaged: Tensor) -> None:
        images = int(num_averaged) * config.batch_size
        halflife = min(config.ema_halflife_images, EMA_RAMPUP_RATIO * images)
        torch._foreach_lerp_(averaged, current, 1 - 0.5 ** (config.batch_size / max(halflife, 1e-8)))

    return update


class _Loop:
    """Everything that changes from step to step."""

    def __init__(self, task: Task, config: FitConfig, accelerator: Accelerator, run_dir: Path):
        self.task, self.config, self.accelerator, self.run_dir = task, config, accelerator, run_dir
        self.ema = AveragedModel(task.model.to(accelerator.device), multi_avg_fn=_ema_update(config))
        self.ema.requires_grad_(False)
        optimizer = torch.optim.AdamW(
            task.model.parameters(), config.learning_rate, ADAM_BETAS, weight_decay=config.weight_decay, fused=True
        )
        progress = Progress(total_steps=budget_in_steps(config, task.num_examples, None))
        if config.resume and (state := latest_state(run_dir)):
            progress = load_state(state, task.model, self.ema, optimizer)
        self.model, self.optimizer = accelerator.prepare(task.model, optimizer)
        self.step, self.total_steps = progress.step, progress.total_steps
        self.first_step = self.saved_step = progress.step
        self.started = time.monotonic()
        self.cpu_seconds_before = progress.cpu_seconds - time.process_time()

    @property
    def finished(self) -> bool:
        return self.step == self.total_steps

    def advance(self) -> Step:
        """Take one step; validate and save where it is time to."""
        config, accelerator = self.config, self.accelerator
        learning_rate = learning_rate_at(self.step, self.total_steps, config)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        losses = self.task.loss(self.model, self._batch())
        accelerator.backward(losses["loss"])
        grad_norm = accelerator.clip_grad_norm_(self.model.parameters(), config.grad_clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update_parameters(accelerator.unwrap_model(self.model))
        self.step += 1
        self._time_the_budget()
        validation = None
        if self.finished or self.step % config.validate_every_steps == 0:
            with torch.no_grad():
                validation = self.task.validate(self.ema.module)
        if self.finished or self.step % config.save_every_steps == 0:
            self.save()
        metrics = {name: value.detach() for name, value in losses.items()} | {"grad_norm": grad_norm}
        return self.describe(learning_rate, metrics, validation)

    def describe(self, learning_rate: float, metrics: dict[str, Tensor], validation: dict[str, Any] | None) -> Step:
        images = self.step * self.config.batch_size
        return Step(self.step, self.total_steps, images, learning_rate, metrics, validation, self._cpu_seconds())

    def save(self) -> None:
        """Save the state, once per step, on the main process."""
        if self.saved_step != self.step and self.accelerator.is_main_process:
            progress = Progress(self.step, self.total_steps, round(self._cpu_seconds(), 2))
            model = self.accelerator.unwrap_model(self.model)
            save_state(self.run_dir, progress, model, self.ema, self.optimizer)
        self.saved_step = self.step

    def _batch(self) -> dict[str, Tensor]:
        """This process's part of the global batch, on its device."""
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        indices = batch_indices(self.step, self.task.num_examples, self.config)
        batch = self.task.batch(indices, _step_generator(self.step, self.config.seed))
        return {name: value[rank::world].to(self.accelerator.device) for name, value in batch.items()}

    def _time_the_budget(self) -> None:
        if self.total_steps is None and self.step - self.first_step == STEPS_TO_TIME_A_BUDGET:
            seconds = torch.tensor(time.monotonic() - self.started, device=self.accelerator.device)
            seconds_per_step = float(self.accelerator.reduce(seconds, "mean")) / STEPS_TO_TIME_A_BUDGET
            self.total_steps = max(self.step, budget_in_steps(self.config, self.task.num_examples, seconds_per_step))

    def _cpu_seconds(self) -> float:
        return self.cpu_seconds_before + time.process_time()


def fit(task: Task, config: FitConfig, accelerator: Accelerator, run_dir: Path) -> Iterator[tuple[Step, nn.Module]]:
    """Train; yields every step together with the averaged model, which the caller must not change.

    The state is saved every `save_every_steps`, at the end, and when the generator is closed early.
    With `config.resume` the run goes on from the newest state in `run_dir`; a run that was trained to its end yields
    its last step once more, without metrics.
    """
    check_batch_divides(config, accelerator)
    loop = _Loop(task, config, accelerator, run_dir)
    try:
        if loop.finished:
            yield loop.describe(0.0, {}, None), loop.ema.module
        while not loop.finished:
            yield loop.advance(), loop.ema.module
    except GeneratorExit:
        loop.save()
        raise


PLACE_FIELDS = {"out", "resume", "data_dir", "tracker"}
"""Options that say where and how a run works; they are not stored with it."""

RESUMABLE_FIELDS = {"threads", "log_every_steps", "save_every_steps"}
"""Stored options that may differ when a run is resumed."""


def prepare_run_dir(config: FitConfig, run_dir: Path) -> None:
    """Create the run's folder and its train_config.json.

    Raises `FileExistsError` when it holds a run already, unless `config.resume`; `ValueError` when the options
    differ from those the run was started with.
    """
    path = run_dir / "train_config.json"
    options = {name: value for name, value in asdict(config).items() if name not in PLACE_FIELDS}
    options = json.loads(json.dumps(options, default=str))
    if not path.exists() or not ((run_dir / "train_log.jsonl").exists() or latest_state(run_dir)):
        run_dir.mkdir(parents=True, exist_ok=True)
        write_json(path, options)
        return
    if not config.resume:
        raise FileExistsError(f"{run_dir} already holds a run: go on with --resume, or give another --out")
    before = json.loads(path.read_text())
    for name, value in options.items():
        if name not in RESUMABLE_FIELDS and before.get(name) != value:
            raise ValueError(
                f"{run_dir} was started with {name} = {before.get(name)}, not {value}: "
                "resume with the same options, or give another --out"
            )


class TrainLog:
    """train_log.jsonl: one line per log interval with the means since the last; cut back to the state on resume."""

    def __init__(self, path: Path, state: Path | None, accelerator: Accelerator):
        self.path, self.pending, self.active = path, [], accelerator.is_main_process
        if not self.active:
            return
        step = read_progress(state).step if state else 0
        kept = [record for record in read_log(path) if record["step"] <= step]
        write_text(path, "".join(json.dumps(record) + "\n" for record in kept))

    def add(self, step: Step, every_steps: int) -> dict[str, Any] | None:
        """Take a step in; returns the record that was written, if one was due."""
        if not step.metrics:
            return None
        self.pending.append(step)
        due = step.validation or step.step == step.total_steps or step.step % every_steps == 0
        return self._flush() if due else None

    def _flush(self) -> dict[str, Any]:
        last = self.pending[-1]
        means = {
            name: float(torch.stack([step.metrics[name].float() for step in self.pending]).mean())
            for name in last.metrics
        }
        record = {"step": last.step, "images": last.images, "learning_rate": last.learning_rate} | means
        record |= {"cpu_seconds": round(last.cpu_seconds, 1)}
        record |= {f"validation_{name}": value for name, value in (last.validation or {}).items()}
        self.pending = []
        if self.active:
            with self.path.open("a") as file:
                file.write(json.dumps(record) + "\n")
        return record
