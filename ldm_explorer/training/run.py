"""A run: one training in a folder of its own, from the claim on the folder to the checkpoint in it.

From Python, `for step in train(AutoencoderTraining(VAETrainConfig(max_steps=1000))): ...` is all of it.
"""

import errno
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn

from ldm_explorer.claims import claim
from ldm_explorer.data import DATASETS
from ldm_explorer.files import shown
from ldm_explorer.film import is_milestone
from ldm_explorer.run_files import update_metrics
from ldm_explorer.run_folder import FolderRefused, RunFolder
from ldm_explorer.run_layout import CARD_FILE, CONFIG_FILE, LOG_FILE, METRICS_FILE, SAMPLES_FILE, SPEC_FILE
from ldm_explorer.training.dataset import TrainConfig, keep_examples
from ldm_explorer.training.failures import cannot_write, explained
from ldm_explorer.training.launcher import told_options
from ldm_explorer.training.loop import Step, Task, fit
from ldm_explorer.training.processes import make_accelerator, precision_of
from ldm_explorer.training.push import check_name, push
from ldm_explorer.training.records import Records
from ldm_explorer.training.run_card import run_card, sample_grid, training_cost
from ldm_explorer.training.run_state import (
    RESUMABLE_FIELDS,
    check_copy,
    check_options,
    latest_state,
    read_progress,
    store_options,
)

RUN_FILES = (CONFIG_FILE, LOG_FILE, METRICS_FILE, CARD_FILE)
"""What every training writes, besides the weights."""


class RunTask(Task, Protocol):
    """A task that also draws the film of its run and writes its checkpoint, given the network that it trained."""

    def sample(self, model: Any) -> Tensor | None:
        """The images `(B, C, side, side) uint8` of a frame by the averaged model; None where there is no film."""

    def export(self, model: Any, folder: Path) -> dict[str, Any]:
        """Write the averaged model, which is on the CPU, into the run folder; returns measures for metrics.json."""


@runtime_checkable
class Training(Protocol):
    """One kind of training, with its options, before a folder is claimed and data is loaded."""

    @property
    def config(self) -> TrainConfig: ...

    @property
    def name(self) -> str:
        """The run's name where no other folder is given: runs/<dataset>/<name>."""

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the files that the run will write, besides `RUN_FILES`."""

    def make_task(self, accelerator: Accelerator, folder: Path) -> RunTask:
        """Load the data and build the network; a run folder may be given what is known from the start."""


NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class RefusedByMainProcess(FolderRefused):
    """The run folder cannot be taken, for what the error of the main process says."""


@dataclass
class Run:
    """A training that holds its folder: `prepare`, then take the `steps`, then `export`."""

    training: Training
    accelerator: Accelerator
    folder: Path
    command: str | None = None  # that repeats it, for those who ask how a checkpoint was made
    told: dict[str, Any] = field(default_factory=dict)  # options that Accelerate's launcher was told
    config: TrainConfig = field(init=False)
    task: RunTask = field(init=False, repr=False)  # once it is prepared
    averaged: nn.Module = field(init=False, repr=False)  # once a step was taken

    def __post_init__(self) -> None:
        self.config = replace(self.training.config, **self.told) if self.told else self.training.config

    @property
    def first_step(self) -> int:
        """The step that it goes on from, 0 for a new run."""
        state = latest_state(self.folder) if self.config.resume else None
        return read_progress(state).step if state else 0

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.task.model.parameters())

    def prepare(self) -> None:
        """Load the data, build the network, and write what shows the run to others while it goes on.

        Raises `TrainingFailed` for a disk without room for it, and what `Training.make_task` does.
        """
        try:
            self.task = self.training.make_task(self.accelerator, self.folder)
            if self.accelerator.is_main_process:
                store_options(self.config, self.folder)
                keep_examples(self.config, self.folder)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise cannot_write(self.folder, error) from error

    def steps(self) -> Generator[Step, None, None]:
        """Train; each step is logged, and filmed where a frame is due, before it is yielded.

        Closed early, it saves the state that `config.resume` goes on from. Raises `TrainingFailed` for what a training
        cannot get over, with one sentence on what is left of it.
        """
        with (
            explained(self.config, self.accelerator, self.folder),
            Records(self.config, self.accelerator, self.folder, self.first_step) as records,
        ):
            steps = fit(self.task, self.config, self.accelerator, self.folder)
            try:
                for step, self.averaged in steps:
                    if self.accelerator.is_main_process:
                        self._record(step, records)
                    yield step
            except GeneratorExit:
                steps.close()
                raise
            except BaseException as error:
                with suppress(BaseException):
                    steps.throw(error)  # close() would save a step that was not recorded
                raise

    def _record(self, step: Step, records: Records) -> None:
        records.add(step)
        if is_milestone(step.step, step.total_steps) and (images := self.task.sample(self.averaged)) is not None:
            records.film(step, images)

    def export(self) -> None:
        """Write the averaged model as a checkpoint, with its cost and its card, on the main process.

        Raises `TrainingFailed` where that cannot be written.
        """
        if not self.accelerator.is_main_process:
            return
        try:
            measures = self.task.export(self.averaged.cpu().eval(), self.folder)
            cost = training_cost(self.task, self.folder, self.command) | {"precision": precision_of(self.accelerator)}
            update_metrics(self.folder, "training", cost | {"parameters": self.num_parameters} | measures)
            if (grid := sample_grid(self.folder, self.config.spec.channels)) is not None:
                RunFolder(self.folder).write_bytes(SAMPLES_FILE, grid)
            RunFolder(self.folder).write_text(CARD_FILE, run_card(self.folder))
        except OSError as error:
            raise cannot_write(self.folder, error) from error

    def push(self) -> str | None:
        """Upload the finished run where that is asked for, by the main process; returns the repository's address.

        Raises `PushFailed`.
        """
        if self.config.push_to_hub is None or not self.accelerator.is_main_process:
            return None
        return push(self.folder, self.config.push_to_hub)


@contextmanager
def begin(training: Training, command: str | None = None) -> Iterator[Run]:
    """Hold the folder of a run, `config.out` or by default runs/<dataset>/<name>, before any work is done.

    Raises what `told_options`, `make_accelerator`, `claim`, `check_copy`, `RunFolder.check`, `check_options` and
    `push.check_name` do, and `FolderRefused` for a run folder in the dataset's own.
    """
    told = told_options(training.config)
    config = replace(training.config, **told) if told else training.config
    folder = config.out or Path("runs") / config.dataset_name / training.name
    accelerator = make_accelerator(config, folder)
    with ExitStack() as held:
        refusal = _claim(config, folder, training.files, held) if accelerator.is_main_process else None
        if broadcast_object_list([refusal is not None])[0]:
            raise refusal or RefusedByMainProcess(f"{folder} cannot be taken: the main process says why")
        yield Run(training, accelerator, folder, command and " ".join([command, *_as_options(told)]), told)


def train(training: Training) -> Iterator[Step]:
    """Train into a folder of its own, one step at a time; after the last one the checkpoint lies there.

    Raises what `begin`, `Training.make_task`, `Run.steps`, `Run.export` and `Run.push` do, and `TypeError` for what is
    no training.
    """
    if not isinstance(training, Training):
        raise TypeError(
            f"{shown(training)} is no training: give AutoencoderTraining(config) or DenoiserTraining(config)"
        )
    with begin(training) as run:
        run.prepare()
        yield from run.steps()
        run.export()
        run.push()


def _as_options(told: dict[str, Any]) -> list[str]:
    """What of it changes the result, as on a command line."""
    return [f"--{name.replace('_', '-')} {value}" for name, value in told.items() if name not in RESUMABLE_FIELDS]


def _claim(config: TrainConfig, folder: Path, files: Iterable[str], held: ExitStack) -> Exception | None:
    try:
        if config.push_to_hub is not None:
            check_name(config.push_to_hub)
        _check_outside_dataset(config, folder)
        run = held.enter_context(claim(folder))
        check_copy(folder)
        run.check([*RUN_FILES, *files, *(() if config.dataset in DATASETS else (SPEC_FILE,))])
        check_options(config, folder)
    except FolderRefused as error:
        return error
    except OSError as error:
        return cannot_write(folder, error)
    except Exception as error:
        return error
    return None


def _check_outside_dataset(config: TrainConfig, folder: Path) -> None:
    """Raise `FolderRefused` for a place among the images: a run's pictures would be trained on, too."""
    if config.folder is not None and folder.resolve().is_relative_to(config.folder):
        raise FolderRefused(
            f"{folder} lies in {config.folder}, and what is in there is trained on: give an --out elsewhere"
        )
