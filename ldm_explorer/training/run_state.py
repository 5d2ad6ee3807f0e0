"""What a run keeps on disk while it trains: its options, its log, and its state between two steps.

A state is model, average, optimizer and progress, as safetensors and JSON.
"""

import json
import shutil
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from ldm_explorer.checkpoints import atomic_folder, first_line, read_json, read_log, write_json, write_text

PLACE_FIELDS = {"out", "resume", "data_dir", "tracker"}
"""Options that say where and how a run works; they are not stored with it."""

RESUMABLE_FIELDS = {"threads", "log_every_steps", "save_every_steps", "on_divergence"}
"""Stored options that may differ when a run is resumed."""


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
    precision: str | None = None  # "fp32" or "bf16", as the run began


def latest_state(run_dir: Path) -> Path | None:
    """The newest whole state folder of a run."""
    return max(run_dir.glob("state-*"), default=None)


def read_progress(state: Path) -> Progress:
    """Raises `ValueError` when the state is not whole."""
    try:
        return Progress(**json.loads((state / "progress.json").read_text()))
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
    for left_by_a_kill in run_dir.glob(".state-*"):
        shutil.rmtree(left_by_a_kill)
    previous = set(run_dir.glob("state-*"))
    final = run_dir / f"state-{progress.step:09d}"
    with atomic_folder(final) as folder:
        whole = {name: value.detach().contiguous().cpu() for name, value in tensors.items()}
        try:
            save_file(whole, folder / "state.safetensors")
        except SafetensorError as error:  # a full disk, for one
            raise OSError(str(error)) from error
        write_json(folder / "progress.json", asdict(progress))
    for old in previous - {final}:
        shutil.rmtree(old)


def load_state(state: Path, model: nn.Module, ema: nn.Module, optimizer: Optimizer) -> Progress:
    """Put a saved state back in place. Raises `ValueError` when it is not whole or of another network."""
    progress = read_progress(state)
    try:
        tensors = load_file(state / "state.safetensors")
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
        model.load_state_dict(_part(load_file(state / "state.safetensors"), prefix))
    except (FileNotFoundError, SafetensorError, RuntimeError) as error:
        raise _unusable(state, error) from error


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def prepare_run_dir(config: Any, run_dir: Path) -> None:
    """Create the run's folder and its train_config.json from a config dataclass.

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
    defaults = {option.name: json.loads(json.dumps(option.default, default=str)) for option in fields(config)}
    before = defaults | read_json(path)  # an option that came later had its default
    for name, value in options.items():
        if name not in RESUMABLE_FIELDS and before[name] != value:
            raise ValueError(
                f"{run_dir} was started with {name} = {before[name]}, not {value}: "
                "resume with the same options, or give another --out"
            )


class TrainLog:
    """train_log.jsonl: one line per record, each step once, in order."""

    def __init__(self, path: Path, step: int):
        """Cut back to the step that the run goes on from."""
        self.path = path
        self.go_back_to(step)

    def add(self, record: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def go_back_to(self, step: int) -> None:
        """Drop what is later than a step."""
        kept = [record for record in read_log(self.path) if record["step"] <= step]
        write_text(self.path, "".join(json.dumps(record) + "\n" for record in kept))
