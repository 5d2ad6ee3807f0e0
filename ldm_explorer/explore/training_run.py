"""What did training learn? The folder of a run, finished or still going, read as it is at this moment."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from ldm_explorer.amplitudes import Amplitudes
from ldm_explorer.checkpoints import Checkpoint, check_name, read_checkpoint
from ldm_explorer.data import DATASETS
from ldm_explorer.diagnosis.reading import LossReading, floors_of, reading_of
from ldm_explorer.diagnosis.statistics import read_statistics
from ldm_explorer.discovery import find_run_folders
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.training_film import Milestone, read_milestones, training_film
from ldm_explorer.files import CheckpointError, first_line, unique_name
from ldm_explorer.film import FRAMES
from ldm_explorer.prediction import PredictionType
from ldm_explorer.run_files import (
    LogRecord,
    RunConfig,
    read_run_config,
    read_spec,
    read_total_steps,
    read_whole_log,
    trained_schedule,
)
from ldm_explorer.run_folder import RunFolder
from ldm_explorer.run_layout import CONFIG_FILE, LOG_FILE, STATISTICS_FILE, holds_classifier
from ldm_explorer.schedules import DEFAULT_NUM_TIMESTEPS

VALIDATION: Final = "validation_loss"
PER_BIN: Final = "validation_loss_per_bin"
"""The validation loss in equal bins over 0..T-1."""

Stamp = tuple[int | tuple[int, int], ...]


@dataclass(frozen=True)
class Run:
    """A folder that a training writes to, or has written."""

    name: str
    folder: Path
    checkpoint: Checkpoint | None = field(compare=False)  # None as long as the run has no weights
    color_index: int  # its place in the list of runs: it keeps its colour whatever stands beside it
    in_library: bool  # whether the other rooms know it

    @property
    def finished(self) -> bool:
        return self.checkpoint is not None

    @property
    def label(self) -> str:
        return self.name if self.finished else f"{self.name} (unfinished)"

    def stamp(self) -> Stamp:
        """Changes when there is something new to read."""
        files = [self.folder / name for name in (LOG_FILE, CONFIG_FILE, STATISTICS_FILE)]
        try:
            written = [(file.stat().st_mtime_ns, file.stat().st_size) for file in files if file.is_file()]
            return (*written, len(list(self.folder.glob(FRAMES))), self.finished)
        except OSError:  # whoever reads it then is told why not
            return ()


@dataclass(frozen=True)
class Curve:
    """One measure of a log over training."""

    images: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class RunReport:
    """What the folder of a run tells: its log, its film, and what its loss would be if the network knew less."""

    run: Run
    config: RunConfig
    records: tuple[LogRecord, ...]  # the lines of its log, in order; at least one
    film: tuple[Milestone, ...]
    prediction_type: PredictionType | None  # None for an autoencoder
    floors: dict[str, Tensor]  # `(T,)` each; {} where none can be had
    why_no_floors: str
    eigenvalues: Tensor | None  # `(D,)` of the covariance of its latents, where that was kept

    @property
    def is_autoencoder(self) -> bool:
        return "kl_per_value" in self.records[-1]

    @property
    def is_student(self) -> bool:
        return "validation_teacher_loss" in self.fields

    def records_with(self, field: str) -> tuple[LogRecord, ...]:
        """The records that hold a field; validation comes now and then, and per timestep for a denoiser alone."""
        return tuple(record for record in self.records if field in record)

    @property
    def fields(self) -> set[str]:
        """What its log tells anything of."""
        return {field for record in self.records for field in record}

    @property
    def reading(self) -> LossReading | None:
        """The loss beside its floors; None without floors, and before the first validation."""
        if self.prediction_type is None or not self.floors or PER_BIN not in self.fields:
            return None
        return reading_of(self.records, self.prediction_type, self.floors)

    @property
    def mean_floors(self) -> dict[str, float]:
        """Each floor averaged over all timesteps."""
        return {name: float(floor.mean()) for name, floor in self.floors.items()}

    @property
    def gaussian_floor(self) -> str | None:
        """The name of the floor of what knows the covariance, of the class where the network learns classes."""
        return next((name for name in ("gaussian_per_class", "gaussian") if name in self.floors), None)

    @property
    def num_timesteps(self) -> int:
        return len(self.floors.get("white", ())) or self.config.get("num_timesteps") or DEFAULT_NUM_TIMESTEPS

    @property
    def moments(self) -> tuple[int, ...]:
        """The steps to look at: the film's, else the validations'."""
        return tuple(shot.step for shot in self.film) or tuple(
            record["step"] for record in self.records_with(VALIDATION)
        )

    @property
    def total_steps(self) -> int | None:
        """The steps of its budget; None as long as a budget in minutes is not timed."""
        if self.run.finished:
            return self.records[-1]["step"]
        return self.config.get("max_steps") or read_total_steps(self.run.folder)

    def curve(self, field: str) -> Curve:
        """One field of the log; "loss" is without the weights that training may have given the timesteps."""
        if field == "loss" and "mse" in self.records[-1] and not self.is_autoencoder:
            field = "mse"
        records = self.records_with(field)
        return Curve(tuple(record["images"] for record in records), _logged_values(records, field))

    def images_at(self, step: int) -> int:
        """Images seen after a step."""
        return step * self.records[-1]["images"] // self.records[-1]["step"]

    def nearest_validation(self, images: int, field: str = VALIDATION) -> LogRecord | None:
        """The record with that field that is nearest to a number of images seen."""
        return min(self.records_with(field), key=lambda record: abs(record["images"] - images), default=None)


def span_of(report: RunReport) -> tuple[int, int]:
    """Images seen at the first moment of a run's film or the first line of its log, and at the last one."""
    images = [record["images"] for record in report.records]
    images += [max(1, report.images_at(shot.step)) for shot in report.film]
    return min(images), max(max(images), 2 * min(images))


def _logged_values(records: Iterable[Mapping[str, Any]], field: str) -> tuple[float, ...]:
    """A field that is a number, of records that all hold it."""
    return tuple(record[field] for record in records)


def find_runs(library: Library) -> dict[str, Run]:
    """Every run by name: the checkpoints of the library, and what is found now below its folders beside them."""
    checkpoints = library.checkpoints.items()
    runs = {name: Run(name, item.folder, item, index, True) for index, (name, item) in enumerate(checkpoints)}
    known = {run.folder for run in runs.values()}
    for root in library.roots:
        for folder in _run_folders(root):
            if folder not in known and _is_run(folder):
                name = unique_name(folder.name, runs)
                runs[name] = Run(name, folder, _whole(folder), len(runs), False)
    return runs


def _run_folders(root: Path) -> list[Path]:
    try:
        return find_run_folders(root)
    except (CheckpointError, OSError):  # the folder is gone, or one in it went while it was looked through
        return []


def _is_run(folder: Path) -> bool:
    """Whether a training writes there, or has written; not where nobody may look, or the name is no text."""
    try:
        check_name(folder)
        return (folder / CONFIG_FILE).is_file() and not holds_classifier(RunFolder(folder))
    except (CheckpointError, OSError):
        return False


def _whole(folder: Path) -> Checkpoint | None:
    try:
        return read_checkpoint(folder)
    except Exception:  # whatever its files make a reader raise, its log may still be read
        return None


def known_run(library: Library, runs: Mapping[str, Run], name: str) -> Run | None:
    """One of these runs, or a checkpoint that was opened; None where it is not there."""
    opened = library.opened.get(name)
    if name in runs or opened is None:
        return runs.get(name)
    return Run(opened.name, opened.folder, opened, len(runs), True)


def get_run(library: Library, name: str) -> Run:
    """Raises `ValueError` for a run that is not there, or not there any more."""
    runs = find_runs(library)
    run = known_run(library, runs, name)
    if run is None:
        raise ValueError(f"no run {name!r}: it was moved or deleted, or never was; choose one of {', '.join(runs)}")
    if not run.folder.is_dir():
        raise ValueError(f"the folder of {name} is gone ({run.folder}): choose another run")
    return run


def read_run(library: Library, name: str) -> RunReport:
    """Read a run as it is now. Raises `ValueError` for a run that is gone, and for a log that is empty or damaged."""
    run = get_run(library, name)
    try:
        return _read(run, run.stamp())
    except OSError as error:
        raise ValueError(f"the folder of {name} cannot be read: {first_line(error)}") from error


@lru_cache(maxsize=16)
def _read(run: Run, _stamp: Stamp) -> RunReport:
    config = read_run_config(run.folder)
    records = _records(run)
    statistics, why_no_floors = None, ""
    try:
        statistics = read_statistics(run.folder)
    except CheckpointError as error:
        why_no_floors = str(error)
    denoiser, floors = _denoiser(run, config), {}
    if config.get("teacher"):
        why_no_floors = "a student's loss is its distance to its teacher"
    elif statistics and denoiser:
        floors = floors_of(statistics, *denoiser, conditional=statistics.class_eigenvalues is not None)
    return RunReport(
        run,
        config,
        records,
        _film(run, config),
        prediction_type=denoiser[0] if denoiser else None,
        floors=floors,
        why_no_floors=why_no_floors or f"the run kept no {STATISTICS_FILE}, which `python train/latents.py` writes",
        eigenvalues=statistics.eigenvalues if statistics else None,
    )


def _records(run: Run) -> tuple[LogRecord, ...]:
    records = read_whole_log(run.folder / LOG_FILE)
    if not records and run.finished and not (run.folder / LOG_FILE).exists():
        raise ValueError(f"{run.name} has no {LOG_FILE}, in which a training of ours writes its losses")
    if not records:
        wait = "its training was not logged" if run.finished else "the first line comes after a few steps"
        raise ValueError(f"{run.name} has no line in its {LOG_FILE}: {wait}")
    return records


def _denoiser(run: Run, config: RunConfig) -> tuple[PredictionType, Amplitudes] | None:
    """What it was trained to predict, and the amplitudes `(T,)` it was trained along; None for an autoencoder."""
    prediction_type = config.get("prediction")
    if not prediction_type:
        if run.checkpoint is None or not run.checkpoint.has_denoiser:
            return None
        denoiser = run.checkpoint.denoiser
        return denoiser.prediction_type, denoiser.schedule.amplitudes
    return prediction_type, trained_schedule(config).amplitudes


def _film(run: Run, config: RunConfig) -> tuple[Milestone, ...]:
    """The film so far; of images of which nothing is known yet, in colour and without titles."""
    if run.checkpoint is not None:
        return training_film(run.checkpoint)
    known = DATASETS.get(config.get("dataset", ""))
    spec = read_spec(run.folder) or (known.spec if known else None)
    return read_milestones(run.folder, spec, bool(config.get("class_labels", True)))
