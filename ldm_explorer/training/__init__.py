"""Training: the options that every run shares, the one loop, its guard, a run in its folder, and what that keeps."""

from ldm_explorer.training.config import FitConfig, OptimizerName
from ldm_explorer.training.dataset import TrainConfig
from ldm_explorer.training.guard import Diverged, TrainingFailed
from ldm_explorer.training.loop import Step, Task, fit
from ldm_explorer.training.processes import make_accelerator, precision_of, process_state, use_cores
from ldm_explorer.training.run import train
from ldm_explorer.training.run_state import (
    CONFIG_FILE,
    LOG_FILE,
    PLACE_FIELDS,
    TrainLog,
    check_copy,
    check_options,
    latest_state,
    load_weights,
    read_progress,
    store_options,
)

__all__ = [
    "CONFIG_FILE",
    "LOG_FILE",
    "PLACE_FIELDS",
    "Diverged",
    "FitConfig",
    "OptimizerName",
    "Step",
    "Task",
    "TrainConfig",
    "TrainLog",
    "TrainingFailed",
    "check_copy",
    "check_options",
    "fit",
    "latest_state",
    "load_weights",
    "make_accelerator",
    "precision_of",
    "process_state",
    "read_progress",
    "store_options",
    "train",
    "use_cores",
]
