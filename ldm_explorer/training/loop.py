"""The one training loop. A `Task` says what a batch and a loss are; `fit` does everything else, one `Step` at a time.

Data order, noise, timesteps and label dropout of step k come from a generator seeded by (seed, k) for the whole
global batch and are then sliced by rank and pass, so they depend neither on interruptions nor on the number of
processes or of passes.
"""

import math
import time
from collections.abc import Generator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ldm_explorer.training.averaging import WeightAverage
from ldm_explorer.training.clock import Clock
from ldm_explorer.training.config import FitConfig, batch_indices, budget_in_steps, learning_rate_at, step_generator
from ldm_explorer.training.guard import Diverged, LossHistory
from ldm_explorer.training.optimizers import make_optimizer, set_learning_rate
from ldm_explorer.training.processes import attention_kernels, moved, on_gpu, precision_of
from ldm_explorer.training.run_state import Progress, drop_other_states, latest_state, load_state, save_state
from ldm_explorer.training.step_graph import Compute, Parts, RecordedStep, is_recorded

MIN_LR_SCALE = 1 / 32


class Task(Protocol):
    """What `fit` trains. Tensors of `batch` have the global batch as first dimension and live on the CPU."""

    @property
    def model(self) -> nn.Module: ...

    @property
    def num_examples(self) -> int: ...

    def batch(self, indices: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The inputs of one step, all its randomness included, for examples `indices (B,)`."""

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Scalars of one forward pass; the one named "loss" is minimised.

        All that changes from step to step has to come with the batch: on a GPU this is called at the first steps only,
        and what it did is repeated.
        """

    def validate(self, model: nn.Module) -> dict[str, Any]:
        """Measures of the averaged model on held-out data with fixed noise; must hold "loss"."""


@dataclass(frozen=True)
class Step:
    """One optimizer step, after it was taken."""

    step: int  # steps taken, from 1
    total_steps: int | None  # None until a budget in minutes is timed; it may shrink later
    images: int  # images seen, over all processes
    record: dict[str, Any] | None = None  # the line for the log where one is due: means since the last, validation
    notice: str | None = None  # a sentence for whoever watches: the run went back to an earlier step


class _Loop:
    """Everything that changes from step to step."""

    def __init__(self, task: Task, config: FitConfig, accelerator: Accelerator, run_dir: Path):
        self.task, self.config, self.accelerator, self.run_dir = task, config, accelerator, run_dir
        model = task.model.to(accelerator.device)
        self.ema = WeightAverage(model, config.ema_halflife_images, config.images_per_step)
        self.optimizer: Any = make_optimizer(config, model, capturable=on_gpu(accelerator))
        self.unchecked: list[
            tuple[float, dict[str, Tensor]]
        ] = []  # learning rate; this process's metrics, on its device
        self.cpu_seconds_started = time.process_time()
        self.saved_step: int | None = None
        progress = Progress(total_steps=budget_in_steps(config, task.num_examples))
        if config.resume and (state := latest_state(run_dir)):
            progress = self._load(state)
            if progress.num_examples not in (None, task.num_examples):
                raise ValueError(
                    f"{run_dir} was trained on {progress.num_examples} images and there are {task.num_examples} now: "
                    "bring back the images it began with, or start again with another --out"
                )
            self.saved_step = progress.step
            if accelerator.is_main_process:
                drop_other_states(run_dir, state.name)
        self._start_from(progress)
        self.cpu_seconds_before = self.cpu_seconds
        self.model, self.optimizer = accelerator.prepare(task.model, self.optimizer)
        self.compute = self._make_compute()
        self.clock = Clock(60 * (config.max_minutes or math.inf), progress.seconds, self._agree)
        if config.on_divergence == "rollback":
            self.save()

    def _start_from(self, progress: Progress) -> None:
        self.step, self.total_steps, self.cpu_seconds = progress.step, progress.total_steps, progress.cpu_seconds
        self.history, self.lr_scale = LossHistory(progress.smoothed_loss, progress.lowest_loss), progress.lr_scale
        self.since_record = list(progress.since_record)

    def _load(self, state: Path) -> Progress:
        progress = load_state(state, self.task.model, self.ema, self.optimizer)
        if self.accelerator.scaler is not None and progress.loss_scale:
            self.accelerator.scaler.load_state_dict(progress.loss_scale)
        return progress

    def _make_compute(self) -> Compute:
        return RecordedStep(self._compute) if is_recorded(self.config, self.accelerator) else self._compute

    @property
    def finished(self) -> bool:
        return self.step == self.total_steps

    @property
    def _save_is_due(self) -> bool:
        return self.finished or self.step % self.config.save_every_steps == 0

    @property
    def _validation_is_due(self) -> bool:
        return self.finished or self.step % self.config.validate_every_steps == 0

    @property
    def _record_is_due(self) -> bool:
        return self._validation_is_due or self.step % self.config.log_every_steps == 0

    def save_if_due(self) -> None:
        if self._save_is_due:
            self.save()

    def advance(self) -> Step:
        """Take one step; check, validate and record where it is time to."""
        self.clock.begin_step()
        learning_rate = self._take_step()
        try:
            self._check_if_due()  # while the clock runs: only here does a step wait until a GPU has done it
            if self.config.max_minutes is not None:
                self.total_steps = self.clock.end_step(self.step, self.total_steps)
                self._check_if_due()
        except Diverged as error:
            return self._roll_back(error)
        return self.describe(self._record(learning_rate) if self._record_is_due else None)

    def describe(self, record: dict[str, Any] | None = None, notice: str | None = None) -> Step:
        return Step(self.step, self.total_steps, self.step * self.config.images_per_step, record, notice)

    def save(self) -> None:
        """Save the state, once per step, on the main process."""
        if self.saved_step != self.step and self.accelerator.is_main_process:
            progress = Progress(
                self.step,
                self.total_steps,
                round(self.cpu_seconds, 2),
                self.history.smoothed,
                self.history.lowest,
                self.lr_scale,
                tuple(self.since_record),
                self.task.num_examples,
                precision_of(self.accelerator),
                self.clock.spent,
                self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else {},
            )
            # The network itself, not what Accelerate makes of it: a compiled one names its weights otherwise.
            save_state(self.run_dir, progress, self.task.model, self.ema, self.optimizer)
        self.saved_step = self.step

    def close(self) -> None:
        """Save where the run stands, unless what happened since the last check must not be kept.

        Other processes may be gone: nothing here waits for them.
        """
        with suppress(Diverged):
            if self.unchecked:
                self._check(alone=True)
            self.save()

    def _take_step(self) -> float:
        spent = self.clock.spent / self.clock.allowed
        learning_rate = learning_rate_at(self.step, self.total_steps, self.config, spent) * self.lr_scale
        set_learning_rate(self.optimizer, learning_rate)
        metrics = self.compute(self._parts())
        self.ema.update_parameters(self.task.model)
        self.step += 1
        self.unchecked.append((learning_rate, metrics))
        return learning_rate

    def _compute(self, parts: Parts) -> dict[str, Tensor]:
        """Change the weights by the parts of a step's batch; returns its metrics, which nothing has waited for."""
        try:
            metrics = self._add_up_gradients(parts)
            metrics["grad_norm"] = self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.grad_clip_norm)
            self.optimizer.step()
        finally:
            self.optimizer.zero_grad()  # also of a recording that breaks off
        if self.accelerator.scaler is not None:
            metrics["skipped"] = torch.tensor(float(self.optimizer.step_was_skipped), device=self.accelerator.device)
        return metrics

    def _add_up_gradients(self, parts: Parts) -> dict[str, Tensor]:
        """Go forward and backward over the parts of a step's batch; returns the means of their metrics."""
        rows = []
        for number, part in enumerate(parts, start=1):
            exchanged = number == len(parts)  # between processes, once a step
            with nullcontext() if exchanged else self.accelerator.no_sync(self.model):
                with attention_kernels(self.accelerator):
                    rows.append(self.task.loss(self.model, part))
                self.accelerator.backward(rows[-1]["loss"] / len(parts))
        return {name: torch.stack([row[name].detach() for row in rows]).mean(0) for name in rows[0]}

    def _parts(self) -> Parts:
        """This process's share of the step's batch, in as many parts as gradients are added up of, on its device."""
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        indices = batch_indices(self.step, self.task.num_examples, self.config)
        batch = self.task.batch(indices, step_generator(self.step, self.config.seed))
        count = self.config.gradient_accumulation_steps
        shares = {name: value[rank::world].chunk(count) for name, value in batch.items()}
        device = self.accelerator.device
        return [{name: moved(share[part], device) for name, share in shares.items()} for part in range(count)]

    def _check_if_due(self) -> None:
        if self.unchecked and (self._record_is_due or self._save_is_due):
            self._check()

    def _check(self, alone: bool = False) -> None:
        """Bring the metrics of all processes together and look at each step since the last check."""
        seconds = time.process_time() - self.cpu_seconds_started
        rows = torch.stack([torch.stack([v.float() for v in metrics.values()]) for _, metrics in self.unchecked])
        if not alone:
            rows = self.accelerator.reduce(rows, "mean")
            seconds = float(self.accelerator.reduce(torch.tensor(seconds, device=rows.device), "sum"))
        self.cpu_seconds = self.cpu_seconds_before + seconds
        first = self.step - len(rows) + 1
        for step, ((learning_rate, metrics), row) in enumerate(
            zip(self.unchecked, rows.tolist(), strict=True), start=first
        ):
            values = dict(zip(metrics, row, strict=True))
            if values.get("skipped") and self.accelerator.scaler.get_scale() >= 1:
                del values["grad_norm"]  # it overflowed, and the step was skipped: the scale is being found
            self.history = self.history.after(step, values["loss"], values.get("grad_norm", 0.0), learning_rate)
            self.since_record.append(values)
        self.unchecked = []

    def _record(self, learning_rate: float) -> dict[str, Any]:
        rows, self.since_record = self.since_record, []
        record = {"step": self.step, "images": self.step * self.config.images_per_step, "learning_rate": learning_rate}
        for name in dict.fromkeys(name for row in rows for name in row):
            values = [row[name] for row in rows if name in row]
            record[name] = sum(values) / len(values)
        record["cpu_seconds"] = round(self.cpu_seconds, 1)
        if self._validation_is_due and self.accelerator.is_main_process:
            with torch.no_grad():
                measures = self.task.validate(self.ema.module)
            record |= {f"validation_{name}": value for name, value in measures.items()}
        return record

    def _roll_back(self, error: Diverged) -> Step:
        """Go back to the last saved state with half the learning rate; raises `Diverged` where that is not to be."""
        state, lr_scale = latest_state(self.run_dir), self.lr_scale / 2
        if self.config.on_divergence != "rollback" or state is None or lr_scale < MIN_LR_SCALE:
            raise error
        total_steps = self.total_steps
        self._start_from(self._load(state))
        self.lr_scale, self.unchecked, self.total_steps = lr_scale, [], total_steps
        self.compute = self._make_compute()  # the optimizer's state lies elsewhere now
        return self.describe(notice=f"{error}; back to step {self.step} with {lr_scale:g} of the learning rate")

    def _agree(self, seconds: list[float]) -> list[float]:
        """The means over all processes: they have to end in the same step."""
        if self.accelerator.num_processes == 1:
            return seconds  # a tensor would wait for a GPU
        return self.accelerator.reduce(torch.tensor(seconds, device=self.accelerator.device), "mean").tolist()


def fit(
    task: Task, config: FitConfig, accelerator: Accelerator, run_dir: Path
) -> Generator[tuple[Step, nn.Module], None, None]:
    """Train; yields every step together with the averaged model, which the caller must not change.

    The state is saved every `save_every_steps`, at the end, and when the generator is closed early.
    With `config.resume` the run goes on from the newest state in `run_dir`; a run that was trained to its end yields
    its last step once more, without a record. Raises `Diverged` where the loss or the gradient goes wrong; the last
    saved state is then whole. With `on_divergence="rollback"` the step of that state is yielded again, with a notice.
    """
    loop = _Loop(task, config, accelerator, run_dir)
    try:
        if loop.finished:
            yield loop.describe(), loop.ema.module
        while not loop.finished:
            yield loop.advance(), loop.ema.module
            loop.save_if_due()  # not before the step was seen: a state must not be ahead of the log
    except GeneratorExit:
        loop.close()
        raise
    finally:
        del loop.compute  # with it, in a circle, the loop would keep a graph's memory
