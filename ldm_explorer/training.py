"""The one training loop. A `Task` says what a batch and a loss are; `fit` does everything else, one `Step` at a time.

Data order, noise, timesteps and label dropout of step k come from a generator seeded by (seed, k) for the whole
global batch and are then sliced by rank, so they depend neither on interruptions nor on the number of processes.
"""

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import torch
from accelerate import Accelerator, PartialState
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from ldm_explorer.checkpoints import atomic_folder, write_json, write_text

STEPS_TO_TIME_A_BUDGET = 50
EMA_RAMPUP_RATIO = 0.05
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
    device = PartialState().device
    bf16 = config.precision == "bf16" or (config.precision == "auto" and bf16_is_native(device))
    accelerator = Accelerator(mixed_precision="bf16" if bf16 else "no", log_with=config.tracker, project_dir=str(out))
    if device.type == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        local_processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        torch.set_num_threads(config.threads or max(1, cores // local_processes))
    return accelerator


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


def fit(task: Task, config: FitConfig, accelerator: Accelerator, run_dir: Path) -> Iterator[tuple[Step, nn.Module]]:
    """Train; yields every step together with the averaged model, which the caller must not change.

    The state is saved every `save_every_steps`, at the end, and when the generator is closed early.
    With `config.resume` the run goes on from the newest state in `run_dir`.
    """
    if config.batch_size % accelerator.num_processes:
        raise ValueError(f"batch size {config.batch_size} does not divide over {accelerator.num_processes} processes")
    device, rank, world = accelerator.device, accelerator.process_index, accelerator.num_processes
    ema = AveragedModel(task.model.to(device), multi_avg_fn=_ema_update(config)).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        task.model.parameters(),
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=(0.9, 0.99),
        fused=True,
    )
    done, total_steps, earlier_cpu_seconds = 0, budget_in_steps(config, task.num_examples, None), 0.0
    if config.resume and (state := latest_state(run_dir)):
        done, total_steps, earlier_cpu_seconds = _load_state(state, task.model, ema, optimizer)
    model, optimizer = accelerator.prepare(task.model, optimizer)
    parameters = list(model.parameters())
    started_cpu, started = time.process_time(), time.monotonic()
    saved, first = done, done
    if done == total_steps:  # trained before, perhaps not exported
        yield Step(done, total_steps, done * config.batch_size, 0.0, {}, None, earlier_cpu_seconds), ema.module
    try:
        while total_steps is None or done < total_steps:
            learning_rate = learning_rate_at(done, total_steps, config)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            batch = task.batch(batch_indices(done, task.num_examples, config), _step_generator(done, config.seed))
            batch = {name: value[rank::world].to(device) for name, value in batch.items()}
            losses = task.loss(model, batch)
            accelerator.backward(losses["loss"])
            grad_norm = accelerator.clip_grad_norm_(parameters, config.grad_clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            ema.update_parameters(accelerator.unwrap_model(model))
            done += 1
            if total_steps is None and done - first == STEPS_TO_TIME_A_BUDGET:
                seconds_per_step = (time.monotonic() - started) / STEPS_TO_TIME_A_BUDGET
                total_steps = max(done, budget_in_steps(config, task.num_examples, seconds_per_step))
            validation = None
            if done == total_steps or done % config.validate_every_steps == 0:
                with torch.no_grad():
                    validation = task.validate(ema.module)
            cpu_seconds = earlier_cpu_seconds + time.process_time() - started_cpu
            if done == total_steps or done % config.save_every_steps == 0:
                _save_state(run_dir, accelerator, model, ema, optimizer, done, total_steps, cpu_seconds)
                saved = done
            metrics = {name: value.detach() for name, value in losses.items()} | {"grad_norm": grad_norm}
            yield (
                Step(done, total_steps, done * config.batch_size, learning_rate, metrics, validation, cpu_seconds),
                ema.module,
            )
    except GeneratorExit:
        if saved != done:
            cpu_seconds = earlier_cpu_seconds + time.process_time() - started_cpu
            _save_state(run_dir, accelerator, model, ema, optimizer, done, total_steps, cpu_seconds)
        raise


def latest_state(run_dir: Path) -> Path | None:
    """The newest whole state folder of a run."""
    return max(run_dir.glob("state-*"), default=None)


def _save_state(run_dir, accelerator, model, ema, optimizer, done, total_steps, cpu_seconds) -> None:
    """Write `state-<step>` whole or not at all, then delete the older ones. Everything is safetensors or JSON."""
    if not accelerator.is_main_process:
        return
    tensors = {f"model.{k}": v for k, v in accelerator.unwrap_model(model).state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in ema.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{slot}": value for slot, value in slots.items()}
    previous = list(run_dir.glob("state-*"))
    final = run_dir / f"state-{done:09d}"
    with atomic_folder(final) as folder:
        save_file({k: v.detach().contiguous().cpu() for k, v in tensors.items()}, folder / "state.safetensors")
        write_json(
            folder / "progress.json", {"step": done, "total_steps": total_steps, "cpu_seconds": round(cpu_seconds, 2)}
        )
    for old in previous:
        if old != final:
            shutil.rmtree(old)


def _load_state(folder: Path, model, ema, optimizer) -> tuple[int, int | None, float]:
    tensors = load_file(folder / "state.safetensors")

    def part(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    model.load_state_dict(part("model."))
    ema.load_state_dict(part("ema."))
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in part("optimizer.").items():
        index, slot = name.split(".")
        slots.setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    progress = json.loads((folder / "progress.json").read_text())
    return progress["step"], progress["total_steps"], progress["cpu_seconds"]


RESUMABLE_FIELDS = {"out", "resume", "tracker", "threads", "log_every_steps", "save_every_steps"}
"""The options that may differ when a run is resumed."""


def prepare_run_dir(config: FitConfig, run_dir: Path) -> None:
    """Create the run's folder and its train_config.json.

    Raises `FileExistsError` when it holds a run already, unless `config.resume`; `ValueError` when the options
    differ from those the run was started with.
    """
    path = run_dir / "train_config.json"
    options = json.loads(json.dumps(asdict(config), default=str))
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


def run(task: Task, config: FitConfig, accelerator: Accelerator, run_dir: Path) -> nn.Module | None:
    """Drive `fit` from a terminal: tqdm, train_log.jsonl, tracker. Returns the averaged model.

    Ctrl-C or SIGTERM finishes the step at hand, saves the state and returns None; a second one kills.
    """
    log = _Log(run_dir / "train_log.jsonl", latest_state(run_dir) if config.resume else None, accelerator)
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
            if step.step == step.total_steps:
                return averaged
            if interrupted:
                steps.close()
                accelerator.print(f"\nstopped after step {step.step}: go on with the same command and --resume")
                return None
    finally:
        progress.close()
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        if config.tracker:
            accelerator.end_training()


class _Log:
    """train_log.jsonl: one line per log interval with the means since the last; cut back to the state on resume."""

    def __init__(self, path: Path, state: Path | None, accelerator: Accelerator):
        self.path, self.pending, self.active = path, [], accelerator.is_main_process
        if not self.active:
            return
        step = json.loads((state / "progress.json").read_text())["step"] if state else 0
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
        write_text(path, "".join(line + "\n" for line in kept))

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
