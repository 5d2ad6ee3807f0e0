"""What a run folder's files hold, typed: the one place where train_config.json, dataset.json, scheduler_config.json and
train_log.jsonl are read, and metrics.json is updated. Networks are read in
network_files.py, pictures in film.py and examples.py.

Each reader returns checked values, or raises `CheckpointError` that names file, field, what stands there and what
should. Fields that no type names are kept as they are, and nothing may rely on them.
"""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from ldm_explorer.data import MAX_SIDE, DatasetSpec
from ldm_explorer.files import CheckpointError, first_line, printable, read_bytes, read_json, read_typed, why_invalid
from ldm_explorer.prediction import PredictionType
from ldm_explorer.run_folder import RunFolder
from ldm_explorer.run_layout import (
    CONFIG_FILE,
    METRICS_FILE,
    PIPELINE_FILE,
    PROGRESS_FILE,
    SCHEDULER_CONFIG,
    SCHEDULER_FILE,
    SPEC_FILE,
    STATE,
    STATE_PREFIX,
    step_of,
)
from ldm_explorer.schedules import DEFAULT_NUM_TIMESTEPS, MAX_NUM_TIMESTEPS, Schedule, schedule_named

MAX_LOG_BYTES = 16_000_000
MAX_RECORDS = 100_000

MAX_NUMBER = 1e30

STRICT = ConfigDict(strict=True, extra="allow")
Count = Annotated[int, Field(ge=1, le=10**12)]
Timesteps = Annotated[int, Field(ge=2, le=MAX_NUM_TIMESTEPS)]
Name = Annotated[str, Field(max_length=1000)]
ClassName = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")]
Finite = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Positive = Annotated[float, Field(ge=1e-6, le=1e6, allow_inf_nan=False)]
Number = Annotated[float, Field(gt=-MAX_NUMBER, lt=MAX_NUMBER, allow_inf_nan=False)]
Beta = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


@with_config(STRICT)
class RunConfig(TypedDict, total=False):
    """train_config.json: the options of a training that others ask about."""

    dataset: Name
    image_side: int | None
    max_steps: Count | None
    grad_clip_norm: float
    kl_weight: Finite | None
    vae: Name | None
    normalise_latents: bool
    network: Name
    schedule: Name | None
    prediction: PredictionType | None
    num_timesteps: Timesteps | None
    zero_terminal_snr: bool | None
    class_labels: bool | None
    teacher: Name | None
    evaluations: Count | None
    license: Name


@with_config(STRICT)
class LogRecord(TypedDict, total=False):
    """One line of train_log.jsonl; a training that falls apart logs NaN and infinity."""

    step: Count
    images: Count
    learning_rate: float
    loss: float
    mse: float
    kl_per_value: float
    grad_norm: float
    cpu_seconds: float
    accuracy: float
    validation_loss: float
    validation_loss_per_bin: Annotated[list[float], Field(min_length=1, max_length=1000, fail_fast=True)]
    validation_psnr_db: float
    validation_kl_per_value: float
    validation_accuracy: float
    validation_teacher_loss: float


@with_config(STRICT)
class Progress(TypedDict, total=False):
    """progress.json of a state that a training saved."""

    total_steps: Count | None


@with_config(STRICT)
class PipelineIndex(TypedDict, total=False):
    """model_index.json: how the denoiser is sampled where nobody says otherwise."""

    sampler: Name
    num_inference_steps: Count


@with_config(STRICT)
class StoredSpec(TypedDict):
    """dataset.json."""

    channels: Literal[1, 3]
    side: Annotated[int, Field(ge=1, le=MAX_SIDE)]
    model_side: Annotated[int, Field(ge=1, le=MAX_SIDE)]
    class_names: Annotated[list[ClassName], Field(max_length=1000, fail_fast=True)]
    background: Annotated[int, Field(ge=0, le=255)]


@with_config(STRICT)
class BetasConfig(TypedDict, total=False):
    """scheduler_config.json of diffusers' schedulers over betas: what their DDPMScheduler takes."""

    _class_name: Name
    num_train_timesteps: Timesteps
    beta_start: Beta
    beta_end: Beta
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace"]
    trained_betas: Annotated[list[Beta], Field(min_length=2, max_length=MAX_NUM_TIMESTEPS, fail_fast=True)] | None
    variance_type: Name | None
    clip_sample: bool
    prediction_type: Name
    thresholding: bool
    dynamic_thresholding_ratio: Beta
    clip_sample_range: Positive
    sample_max_value: Positive
    timestep_spacing: Literal["linspace", "leading", "trailing"]
    steps_offset: Annotated[int, Field(ge=0, le=1)]
    rescale_betas_zero_snr: bool


@with_config(STRICT)
class SchedulerConfig(BetasConfig, total=False):
    """With what those along a flow store."""

    use_flow_sigmas: bool
    shift: Positive
    flow_shift: Positive | None
    use_dynamic_shifting: bool
    invert_sigmas: bool
    stochastic_sampling: bool
    use_karras_sigmas: bool | None
    use_exponential_sigmas: bool | None
    use_beta_sigmas: bool | None


_RUN, _RECORD, _PROGRESS = TypeAdapter(RunConfig), TypeAdapter(LogRecord), TypeAdapter(Progress)
_SPEC, _SCHEDULER, _INDEX = TypeAdapter(StoredSpec), TypeAdapter(SchedulerConfig), TypeAdapter(PipelineIndex)


def update_metrics(folder: Path, section: str, measures: dict[str, Any]) -> None:
    """Replace one section of metrics.json ("training", "evaluation", "evaluation_quick") and keep the others."""
    RunFolder(folder).write_json(METRICS_FILE, read_json(folder / METRICS_FILE) | {section: measures})


def read_run_config(folder: Path) -> RunConfig:
    """train_config.json, {} where there is none."""
    return read_typed(folder / CONFIG_FILE, _RUN) or {}


def trained_schedule(config: RunConfig) -> Schedule:
    """The schedule that a denoiser was trained along. Raises `ValueError` for a config that names none."""
    return schedule_named(
        config.get("schedule") or "",
        config.get("num_timesteps") or DEFAULT_NUM_TIMESTEPS,
        zero_terminal_snr=bool(config.get("zero_terminal_snr")),
    )


def read_total_steps(folder: Path) -> int | None:
    """How many steps a run will have, by the newest state that it saved; None where that is not known."""
    files = RunFolder(folder).find(f"{STATE_PREFIX}*/{PROGRESS_FILE}", STATE)
    saved = (path for path in files if path.name == PROGRESS_FILE)
    newest = max(saved, key=lambda path: step_of(path.parent), default=None)
    return (read_typed(newest, _PROGRESS) or {}).get("total_steps") if newest else None


def write_spec(folder: Path, spec: DatasetSpec) -> None:
    """Write `dataset.json`: what is to be known about the images of a dataset that others do not have."""
    RunFolder(folder).write_json(SPEC_FILE, asdict(spec))


def read_spec(folder: Path) -> DatasetSpec | None:
    """dataset.json, None where there is none: the images are those of a dataset that everybody has."""
    stored = read_typed(folder / SPEC_FILE, _SPEC)
    if stored is None:
        return None
    spec = DatasetSpec(
        channels=stored["channels"],
        side=stored["side"],
        model_side=stored["model_side"],
        class_names=tuple(stored["class_names"]),
        background=stored["background"],
    )
    if spec.side > spec.model_side:
        raise CheckpointError(
            f"{printable(folder / SPEC_FILE)}: side is {spec.side}, more than the model_side of {spec.model_side}"
        )
    return spec


def read_pipeline_index(folder: Path) -> PipelineIndex:
    """model_index.json of a denoiser of ours, {} where there is none."""
    return read_typed(folder / PIPELINE_FILE, _INDEX) or {}


def read_scheduler_config(folder: Path) -> SchedulerConfig:
    """scheduler_config.json of a checkpoint, {} where there is none.

    It lies in scheduler/, or beside a UNet that lies in the folder itself, as in the first models of diffusers.
    """
    return read_typed(folder / SCHEDULER_FILE, _SCHEDULER) or read_typed(folder / SCHEDULER_CONFIG, _SCHEDULER) or {}


def read_log(path: Path, max_bytes: int | None = None) -> list[LogRecord]:
    """The lines of a train_log.jsonl; a last line cut short, by a crash or because it is being written, is left out.

    Where it may have no more than `max_bytes`, fields that no type names are left out. Raises `CheckpointError` when
    another line is damaged, or the log is longer.
    """
    records = _read_lines(path, max_bytes)
    return list(records) if max_bytes is None else [_known(record) for record in records]


def _known(record: LogRecord) -> LogRecord:
    return cast(LogRecord, {name: value for name, value in record.items() if name in LogRecord.__annotations__})


def _read_lines(path: Path, max_bytes: int | None) -> Iterator[LogRecord]:
    try:
        lines = read_bytes(path, max_bytes).splitlines()
    except FileNotFoundError:
        return
    except OSError as error:
        raise CheckpointError(f"{printable(path)} cannot be read: {first_line(error)}") from error
    if lines and not lines[-1].endswith(b"}"):
        lines.pop()
    for number, line in enumerate(lines, start=1):
        yield _read_line(path, number, line)


def _read_line(path: Path, number: int, line: bytes) -> LogRecord:
    try:
        return _RECORD.validate_json(line)
    except ValidationError as error:
        why = why_invalid(error)
        where = f"{printable(path)} is damaged in line {number}{'' if why.startswith(':') else ', which'}"
        raise CheckpointError(f"{where}{why}: fix that line or take it out") from error


def read_whole_log(path: Path) -> tuple[LogRecord, ...]:
    """A log as a plot needs it: every record has step, images and loss, none goes back, all bins are as many.

    Raises `CheckpointError` for another one, and for one of more lines than can be drawn.
    """
    last: LogRecord = {"step": 1, "images": 1}
    bins, values, kept = None, 0, []
    for number, record in enumerate(_read_lines(path, MAX_LOG_BYTES), start=1):
        where, per_bin = f"record {number} of {printable(path)}", record.get("validation_loss_per_bin")
        if not record.keys() >= {"step", "images", "loss"}:
            raise CheckpointError(f"{where} lacks step, images or loss: it is no log of train/")
        if record["step"] < last["step"] or record["images"] < last["images"]:
            raise CheckpointError(
                f"{where} goes back from step {last['step']:,} to {record['step']:,}: two trainings wrote this log, "
                "take out the lines of one"
            )
        if per_bin and ("validation_loss" not in record or len(per_bin) != (bins or len(per_bin))):
            raise CheckpointError(f"{where} has a validation_loss_per_bin unlike those before it: take it out")
        last, bins, values = record, len(per_bin) if per_bin else bins, values + len(per_bin or ())
        if number > MAX_RECORDS or values > MAX_RECORDS * 10:
            raise CheckpointError(f"{where} is more than can be drawn, {MAX_RECORDS:,} lines: log less often")
        kept.append(_known(record))
    return tuple(kept)


def is_number(value: object) -> bool:
    """Whether something in a metrics.json is a measured number: finite, and no larger than any measure is."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MAX_NUMBER
