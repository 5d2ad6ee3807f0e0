"""What stops a training, in one sentence, and how the run goes on from what is kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator

from ldm_explorer.files import first_line
from ldm_explorer.run_folder import FolderRefused, RunFolder
from ldm_explorer.training.config import FitConfig
from ldm_explorer.training.guard import Diverged, TrainingFailed
from ldm_explorer.training.run_state import latest_state, read_progress


class ProcessLost(TrainingFailed):
    """A training of several processes one of which is gone."""


@contextmanager
def explained(config: FitConfig, accelerator: Accelerator, run_dir: Path) -> Iterator[None]:
    """Raise `TrainingFailed` for what a training cannot get over, with one sentence on what is left of it."""
    try:
        yield
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
        raise ProcessLost(f"another process of this run is gone: {way_on(run_dir)} ({first_line(error)})") from error


def cannot_write(run_dir: Path, error: OSError) -> TrainingFailed:
    """One sentence for what the file system or `RunFolder` refused, and how the run goes on from what is kept."""
    if isinstance(error, FolderRefused):
        if RunFolder(run_dir).lost_its_mark:  # and with it what is known of states
            return TrainingFailed(str(error))
        return TrainingFailed(f"{error}, then {way_on(run_dir)}")
    return TrainingFailed(f"cannot write to {run_dir}: {error}; fix that and {way_on(run_dir)}")


def way_on(run_dir: Path, option: str = "") -> str:
    """How the command that was stopped goes on."""
    state = latest_state(run_dir)
    if state is None:
        return f"begin again with the same command and --resume{option}, for no state was saved yet"
    return f"go on from step {read_progress(state).step} with the same command and --resume{option}"


def _is_lost_connection(error: RuntimeError) -> bool:
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error) or "NCCL" in str(error)
