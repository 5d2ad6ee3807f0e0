"""What a run keeps on disk while it trains: its options, its log, and its state between two steps.

A state is model, average, optimizer and progress, as safetensors and JSON.
"""

import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from ldm_explorer.files import first_line, read_json
from ldm_explorer.run_files import read_log
from ldm_explorer.run_folder import FolderRefused, RunFolder
from ldm_explorer.run_layout import (
    CONFIG_FILE,
    LOG_FILE,
    METRICS_FILE,
    PROGRESS_FILE,
    STATE,
    STATE_PREFIX,
    TENSORS_FILE,
    state_folder,
    step_of,
)

PLACE_FIELDS = {"out", "resume", "data_dir", "tracker", "push_to_hub", "memory_map"}
"""Options that say where and how a run works; they are not stored with it."""

RESUMABLE_FIELDS = {"threads", "cuda_graph", "log_every_steps", "save_every_steps", "on_divergence", "license"}
"""Stored options that may differ when a run is resumed."""


PLACES = "places"
"""The field of train_config.json that says what lay where an option names a place."""


@dataclass(frozen=True)
class Progress:
    step: int = 0  # steps taken
    total_steps: int | None = None  # None until a budget in minutes is timed
    cpu_seconds: float = 0.0  # of all processes, over all resumes
    smoothed_loss: float | None = None
    lowest_loss: float | None = None
    lr_scale: float = 1.0  # halved by every rollback
    since_record: tuple[dict[str, float], ...] = ()  # metrics of the steps that are not in the log yet
    num_examples: int | None = None
    precision: str | None = None  # "fp32", "bf16" or "fp16", as the run began
    seconds: float = 0.0  # of a budget in minutes
    loss_scale: dict[str, float] = field(default_factory=dict)  # the state of fp16's GradScaler


def latest_state(run_dir: Path) -> Path | None:
    """The newest whole state that the run saved; what others put beside it does not count, whatever its name."""
    states = filter(None, map(STATE.fullmatch, RunFolder(run_dir).names))
    whole = [state for state in states if state[2] == PROGRESS_FILE and (run_dir / state[0]).is_file()]
    return (run_dir / max(whole, key=lambda state: int(state[1]))[0]).parent if whole else None


def check_copy(run_dir: Path) -> None:
    """Raise `FolderRefused` for a log or a later state in a run folder that is not on the list of what the run wrote.

    In a copy that was made while the run went on, the list may be older than the files.
    """
    names, newest = RunFolder(run_dir).names, latest_state(run_dir)
    step = 0 if newest is None else step_of(newest)
    for path in (*sorted(run_dir.glob(f"{STATE_PREFIX}*/*"), reverse=True), run_dir / LOG_FILE):
        name = path.relative_to(run_dir).as_posix()
        found = STATE.fullmatch(name)
        is_ours = name == LOG_FILE or (found and int(found[1]) > step)
        if is_ours and name not in names and os.path.lexists(path):
            raise FolderRefused(
                f"{path} is not on the list of what this run wrote: the folder is an incomplete copy, or the file is "
                "somebody else's; copy the folder again once the run has stopped, or move the file away"
            )


def read_progress(state: Path) -> Progress:
    """Raises `ValueError` when the state is not whole."""
    try:
        return Progress(**json.loads((state / PROGRESS_FILE).read_text()))
    except (FileNotFoundError, ValueError, TypeError) as error:
        raise _unusable(state, error) from error


def _unusable(state: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{state} cannot be loaded, it is damaged or of another network ({first_line(error)}): "
        "start again with another --out, or in this one without that state"
    )


def save_state(run_dir: Path, progress: Progress, model: nn.Module, ema: nn.Module, optimizer: Optimizer) -> None:
    """Write `state-<step>` whole or not at all, then delete the older ones."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"ema.{name}": value for name, value in ema.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{slot}": value for slot, value in slots.items()}
    run, name = RunFolder(run_dir), state_folder(progress.step)
    with run.replacing(name, last=PROGRESS_FILE) as folder:
        whole = {name: value.detach().contiguous().cpu() for name, value in tensors.items()}
        try:
            save_file(whole, folder / TENSORS_FILE)
        except SafetensorError as error:  # a full disk, for one
            raise OSError(str(error)) from error
        (folder / PROGRESS_FILE).write_text(json.dumps(asdict(progress), indent=2))
    drop_other_states(run_dir, name)


def drop_other_states(run_dir: Path, kept: str) -> None:
    """Delete what the run saved of all states but one: a kill may have come in between."""
    run = RunFolder(run_dir)
    run.remove(file for file in run.names if STATE.fullmatch(file) and not file.startswith(f"{kept}/"))


def load_state(state: Path, model: nn.Module, ema: nn.Module, optimizer: Optimizer) -> Progress:
    """Put a saved state back in place. Raises `ValueError` when it is not whole or of another network."""
    progress = read_progress(state)
    try:
        tensors = load_file(state / TENSORS_FILE)
        model.load_state_dict(_part(tensors, "model."))
        ema.load_state_dict(_part(tensors, "ema."))
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in _part(tensors, "optimizer.").items():
            index, slot = name.split(".")
            slots.setdefault(int(index), {})[slot] = value
        optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    except torch.OutOfMemoryError:
        raise
    except (FileNotFoundError, SafetensorError, RuntimeError, ValueError, KeyError) as error:
        raise _unusable(state, error) from error
    return progress


def load_weights(state: Path, model: nn.Module, which: Literal["last", "average"]) -> None:
    """Put the weights of a state, or their average, into a model. Raises `ValueError` when they do not fit."""
    prefix = {"last": "model.", "average": "ema.module."}[which]  # AveragedModel wraps what it averages
    try:
        model.load_state_dict(_part(load_file(state / TENSORS_FILE), prefix))
    except (FileNotFoundError, SafetensorError, RuntimeError) as error:
        raise _unusable(state, error) from error


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def check_options(config: Any, run_dir: Path) -> None:
    """See that a run can begin in a folder, or go on there, with the options of a config dataclass.

    Raises `FolderRefused` when it holds a run already, unless `config.resume`, or one without its options, or a
    finished one without its state; `ValueError` when the options differ from those the run was started with. Those that
    name a place may differ, where the same lies there.
    """
    if not _holds_run(run_dir):
        return
    if not config.resume:
        raise FolderRefused(f"{run_dir} already holds a run: go on with --resume, or give another --out")
    if not (run_dir / CONFIG_FILE).exists():
        RunFolder(run_dir).adopt([CONFIG_FILE])  # whoever puts it back is not to be told that it is somebody else's
        raise FolderRefused(
            f"{run_dir} holds a run without its {CONFIG_FILE}, so whether these are the options it was started with "
            "cannot be checked: put that file back, or give another --out"
        )
    if latest_state(run_dir) is None and (run_dir / METRICS_FILE).exists():
        raise FolderRefused(
            f"{run_dir} holds a finished run without its state, and would be trained again from the start: give "
            f"another --out, or, if that is wanted, delete its {METRICS_FILE}"
        )
    defaults = {option.name: json.loads(json.dumps(option.default, default=str)) for option in fields(config)}
    before = defaults | read_json(run_dir / CONFIG_FILE)  # an option that came later had its default
    there_before, there = before.get(PLACES) or {}, config.places
    for name, value in _stored_options(config).items():
        if name in there_before and name in there:
            if there_before[name] != there[name]:
                raise ValueError(
                    f"{run_dir} was started with {there_before[name]} ({name} = {before[name]}), and {value} is "
                    f"{there[name]}: bring back what it began with, or give another --out"
                )
        elif name not in RESUMABLE_FIELDS | {PLACES} and name in before and before[name] != value:
            raise ValueError(
                f"{run_dir} was started with {name} = {before[name]}, not {value}: "
                "resume with the same options, or give another --out"
            )


def store_options(config: Any, run_dir: Path) -> None:
    """Write train_config.json from a config dataclass; into a folder that holds a run only what has moved since."""
    options, before = _stored_options(config), read_json(run_dir / CONFIG_FILE) if _holds_run(run_dir) else None
    if before is None:
        RunFolder(run_dir).write_json(CONFIG_FILE, options)
    elif moved := {name: options[name] for name in config.places if before.get(name) != options[name]}:
        RunFolder(run_dir).write_json(CONFIG_FILE, before | moved)


def _holds_run(run_dir: Path) -> bool:
    """Whether a training logged a line or saved a state there, or was finished: both may have been deleted since."""
    return any((run_dir / name).exists() for name in (LOG_FILE, METRICS_FILE)) or latest_state(run_dir) is not None


def _stored_options(config: Any) -> dict[str, Any]:
    options = {name: value for name, value in asdict(config).items() if name not in PLACE_FIELDS} | config.follows
    return json.loads(json.dumps(options | ({PLACES: config.places} if config.places else {}), default=str))


class TrainLog:
    """The train_log.jsonl of a run: one line per record, each step once, in order."""

    def __init__(self, run_dir: Path, step: int):
        """Cut back to the step that the run goes on from."""
        self.run = RunFolder(run_dir)
        self.go_back_to(step)

    def add(self, record: dict[str, Any]) -> None:
        self.run.append_text(LOG_FILE, json.dumps(record) + "\n")

    def go_back_to(self, step: int) -> None:
        """Drop what is later than a step."""
        kept = [record for record in read_log(self.run.path / LOG_FILE) if record["step"] <= step]
        self.run.write_text(LOG_FILE, "".join(json.dumps(record) + "\n" for record in kept))
