"""The state of a run between two steps: model, average, optimizer and progress, as safetensors and JSON."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from ldm_explorer.checkpoints import atomic_folder, write_json


@dataclass(frozen=True)
class Progress:
    step: int = 0  # steps taken
    total_steps: int | None = None  # None until a budget in minutes is timed
    cpu_seconds: float = 0.0  # of the main process, over all resumes


def latest_state(run_dir: Path) -> Path | None:
    """The newest whole state folder of a run."""
    return max(run_dir.glob("state-*"), default=None)


def read_progress(state: Path) -> Progress:
    return Progress(**json.loads((state / "progress.json").read_text()))


def save_state(run_dir: Path, progress: Progress, model: nn.Module, ema: nn.Module, optimizer: Optimizer) -> None:
    """Write `state-<step>` whole or not at all, then delete the older ones."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"ema.{name}": value for name, value in ema.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{slot}": value for slot, value in slots.items()}
    previous = set(run_dir.glob("state-*"))
    final = run_dir / f"state-{progress.step:09d}"
    with atomic_folder(final) as folder:
        whole = {name: value.detach().contiguous().cpu() for name, value in tensors.items()}
        save_file(whole, folder / "state.safetensors")
        write_json(folder / "progress.json", asdict(progress))
    for old in previous - {final}:
        shutil.rmtree(old)


def load_state(state: Path, model: nn.Module, ema: nn.Module, optimizer: Optimizer) -> Progress:
    """Put a saved state back in place."""
    tensors = load_file(state / "state.safetensors")

    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

    model.load_state_dict(part("model."))
    ema.load_state_dict(part("ema."))
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in part("optimizer.").items():
        index, slot = name.split(".")
        slots.setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    return read_progress(state)
