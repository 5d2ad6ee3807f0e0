"""Drive a training from a terminal: what it says, a progress bar, and Ctrl-C."""

import signal
import sys
from contextlib import closing
from dataclasses import asdict

import torch
from accelerate import Accelerator
from accelerate.utils import DynamoBackend
from tqdm import tqdm

from ldm_explorer.run_folder import RunFolder
from ldm_explorer.training.command_line import Interrupted, command_line
from ldm_explorer.training.failures import ProcessLost, way_on
from ldm_explorer.training.loop import Step
from ldm_explorer.training.processes import precision_of
from ldm_explorer.training.push import how_again
from ldm_explorer.training.run import Run, Training, begin
from ldm_explorer.training.run_card import what_it_learned
from ldm_explorer.training.step_graph import is_recorded

STOP_SIGNALS = ("SIGINT", "SIGTERM", "SIGBREAK")
"""What asks a process to end: Ctrl-C everywhere, TERM on POSIX, Ctrl-Break on Windows alone."""


def drive(training: Training) -> None:
    """Train from a terminal, until the checkpoint is written.

    Raises what `run.train` does, and `Interrupted` where Ctrl-C or SIGTERM stopped it and anything is kept.
    """
    with begin(training, command_line(sys.argv)) as run:
        for option, value in asdict(run.config).items():
            run.accelerator.print(f"{option:24} {value}")
        if (pictures := run.config.pictures) is not None:
            run.accelerator.print(pictures.summary)
        try:
            run.accelerator.print(f"\nloading the images{', and encoding them' * run.config.ENCODES}")
            if run.first_step:
                run.accelerator.print(f"going on from step {run.first_step:,}")
            run.prepare()
            run.accelerator.print(_summary(run))
            finished = watch(run)
            if finished:
                run.accelerator.print("\nmeasuring what it has learned, and writing the checkpoint")
                run.export()
        except KeyboardInterrupt as error:
            raise _interrupted(run, error) from None
        if not finished:
            raise Interrupted
        if run.accelerator.is_main_process:
            print(f"wrote {run.folder}\n{what_it_learned(run.folder)}".rstrip())
            _push(run)


def _push(run: Run) -> None:
    try:
        address = run.push()
    except KeyboardInterrupt:
        raise Interrupted(f"stopped: {how_again(run.folder, str(run.config.push_to_hub))}") from None
    if address is not None:
        print(f"pushed it to {address}")


def _summary(run: Run) -> str:
    compiler = run.accelerator.state.dynamo_plugin.backend
    compiled = "" if compiler == DynamoBackend.NO else f", compiled by {compiler.value.lower()}"
    recorded = ", steps recorded as a CUDA graph" if is_recorded(run.config, run.accelerator) else ""
    return (
        f"{run.num_parameters / 1e6:.2f} M parameters, {run.task.num_examples} examples, "
        f"{run.accelerator.num_processes} process(es) on {run.accelerator.device.type} with {torch.get_num_threads()} "
        f"thread(s), precision {precision_of(run.accelerator)}{compiled}{recorded}"
    )


def _interrupted(run: Run, error: KeyboardInterrupt) -> KeyboardInterrupt:
    """What is said of a run that was stopped where it does not see to it itself, by the main process."""
    if not run.accelerator.is_main_process:
        return Interrupted()
    return Interrupted(f"stopped: {way_on(run.folder)}") if RunFolder(run.folder).names else error


def watch(run: Run) -> bool:
    """Step through a run with a progress bar; returns whether it came to its end.

    Ctrl-C or SIGTERM finishes the step at hand and saves the state; a second one kills. Raises `TrainingFailed`.
    """
    with _Bar(run) as bar, _Interrupt() as interrupt, closing(run.steps()) as steps:
        for step in steps:
            bar.show(step)
            finished = step.step == step.total_steps
            if not finished and interrupt.agreed(run.accelerator, step):
                break
    if not finished:
        run.accelerator.print(f"\nstopped after step {step.step}: {way_on(run.folder)}")
    return finished


class _Bar:
    """The progress bar of a run, on the main process."""

    def __init__(self, run: Run):
        self.images_per_step, self.is_shown = run.config.images_per_step, run.accelerator.is_main_process
        self.progress = tqdm(
            unit="img",
            unit_scale=True,
            initial=run.first_step * self.images_per_step,
            disable=not self.is_shown,
            dynamic_ncols=True,
        )

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_) -> None:
        self.progress.close()

    def show(self, step: Step) -> None:
        if not self.is_shown:
            return
        if step.notice:
            self.progress.write(step.notice)
        self.progress.total = step.total_steps and step.total_steps * self.images_per_step
        self.progress.update(step.images - self.progress.n)
        if step.record:
            self.progress.set_postfix(loss=f"{step.record['loss']:.4f}", refresh=False)


class _Interrupt:
    """Ctrl-C and its like as a flag; the second one does what it would have done."""

    def __enter__(self) -> "_Interrupt":
        self.happened = False
        known = [getattr(signal, name) for name in STOP_SIGNALS if hasattr(signal, name)]
        self.handlers = {signum: signal.signal(signum, self._note) for signum in known}
        return self

    def __exit__(self, failure: type[BaseException] | None, *_) -> None:
        for signum, handler in self.handlers.items():
            # One that lost another process still has to say so, while torchrun asks it to end.
            if signum == signal.SIGINT or not (failure and issubclass(failure, ProcessLost)):
                signal.signal(signum, handler)

    def _note(self, signum, _frame) -> None:
        self.happened = True
        signal.signal(signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL)

    def agreed(self, accelerator: Accelerator, step: Step) -> bool:
        """Whether it happened to any process; several of them ask each other where a record is due."""
        if accelerator.num_processes == 1:
            return self.happened
        if step.record is None:
            return False
        return bool(accelerator.reduce(torch.tensor(float(self.happened), device=accelerator.device), "sum") > 0)
