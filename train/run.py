"""Drive a training from a terminal: progress bar, log, film, tracker, Ctrl-C, and one sentence for what goes wrong."""

import json
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from ldm_explorer.checkpoints import first_line
from ldm_explorer.film import FilmFrame, cut_film, is_milestone, write_frame
from ldm_explorer.run_folder import FolderRefused, RunFolder
from ldm_explorer.training import (
    Diverged,
    FitConfig,
    Step,
    Task,
    TrainingFailed,
    TrainLog,
    fit,
    latest_state,
    read_progress,
)


def run(
    task: Task,
    config: FitConfig,
    accelerator: Accelerator,
    run_dir: Path,
    sample: Callable[[nn.Module], Tensor] | None = None,
) -> nn.Module | None:
    """Drive `fit` from a terminal: tqdm, train_log.jsonl, film, tracker. Returns the averaged model.

    Ctrl-C or SIGTERM finishes the step at hand, saves the state and returns None; a second one kills. Raises
    `TrainingFailed` for what a training cannot get over, with one sentence on what is left of it.
    """
    try:
        with _Watcher(config, accelerator, run_dir, sample) as watcher, _Interrupt() as interrupt:
            steps = fit(task, config, accelerator, run_dir)
            try:
                for step, averaged in steps:
                    watcher.see(step, averaged)
                    finished = step.step == step.total_steps
                    if finished or interrupt.agreed(accelerator, step):
                        steps.close()
                        break
            except BaseException as error:
                with suppress(BaseException):
                    steps.throw(error)  # close() would save a step that was not seen
                raise
        if finished:
            return averaged
        accelerator.print(f"\nstopped after step {step.step}: {way_on(run_dir)}")
        return None
    except Diverged as error:
        rollback = f"{way_on(run_dir, ' --on-divergence rollback')}, or " if config.on_divergence == "stop" else ""
        raise TrainingFailed(
            f"{error}; {rollback}start again with a lower --learning-rate and another --out"
        ) from error
    except OSError as error:
        raise cannot_write(run_dir, error) from error
    except RuntimeError as error:
        if accelerator.num_processes == 1 or not _is_lost_connection(error):
            raise
        raise TrainingFailed(f"another process of this run is gone: {way_on(run_dir)} ({first_line(error)})") from error


def cannot_write(run_dir: Path, error: OSError) -> TrainingFailed:
    """One sentence for what the file system or `RunFolder` refused, and how the run goes on from what is kept."""
    if isinstance(error, FolderRefused):
        if RunFolder(run_dir).lost_its_mark:  # and with it what is known of states
            return TrainingFailed(str(error))
        return TrainingFailed(f"{error}, then {way_on(run_dir)}")
    return TrainingFailed(f"cannot write to {run_dir}: {error}; mend that and {way_on(run_dir)}")


def way_on(run_dir: Path, option: str = "") -> str:
    """How the command that was stopped goes on."""
    state = latest_state(run_dir)
    if state is None:
        return f"begin again with the same command and --resume{option}, for no state was saved yet"
    return f"go on from step {read_progress(state).step} with the same command and --resume{option}"


def _is_lost_connection(error: RuntimeError) -> bool:
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error) or "NCCL" in str(error)


class _Watcher:
    """Shows and keeps what a training tells, on the main process."""

    def __init__(self, config: FitConfig, accelerator: Accelerator, run_dir: Path, sample: Callable | None):
        self.config, self.accelerator, self.run_dir, self.sample = config, accelerator, run_dir, sample
        state = latest_state(run_dir) if config.resume else None
        step = read_progress(state).step if state else 0
        if accelerator.is_main_process:
            self.log = TrainLog(run_dir, step)
            cut_film(run_dir, step)
        self.progress = tqdm(
            unit="img",
            unit_scale=True,
            initial=step * config.batch_size,
            disable=not accelerator.is_main_process,
            dynamic_ncols=True,
        )

    def __enter__(self) -> "_Watcher":
        if self.config.tracker:
            options = json.loads(json.dumps(asdict(self.config), default=str))
            self.accelerator.init_trackers("ldm-explorer", config=options)
        return self

    def __exit__(self, *_) -> None:
        self.progress.close()
        self.accelerator.end_training()

    def see(self, step: Step, averaged: nn.Module) -> None:
        if not self.accelerator.is_main_process:
            return
        if step.notice:
            self.progress.write(step.notice)
            self.log.go_back_to(step.step)
            cut_film(self.run_dir, step.step)
        self.progress.total = step.total_steps and step.total_steps * self.config.batch_size
        self.progress.update(step.images - self.progress.n)
        if step.record:
            self.log.add(step.record)
            self.progress.set_postfix(loss=f"{step.record['loss']:.4f}", refresh=False)
            if self.config.tracker:
                figures = {name: value for name, value in step.record.items() if not isinstance(value, list)}
                self.accelerator.log(figures, step=step.step)
        if self.sample and is_milestone(step.step, step.total_steps):
            write_frame(self.run_dir, FilmFrame(step.step, self.sample(averaged)))


class _Interrupt:
    """Ctrl-C and SIGTERM as a flag; the second one does what it would have done."""

    def __enter__(self) -> "_Interrupt":
        self.happened = False
        self.handlers = {signum: signal.signal(signum, self._note) for signum in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_) -> None:
        for signum, handler in self.handlers.items():
            signal.signal(signum, handler)

    def _note(self, signum, _frame) -> None:
        self.happened = True
        signal.signal(signum, signal.SIG_DFL if signum == signal.SIGTERM else signal.default_int_handler)

    def agreed(self, accelerator: Accelerator, step: Step) -> bool:
        """Whether it happened to any process; several of them ask each other where a record is due."""
        if accelerator.num_processes == 1:
            return self.happened
        if step.record is None:
            return False
        return bool(accelerator.reduce(torch.tensor(float(self.happened), device=accelerator.device), "sum") > 0)
