"""Training: the options that every run shares, the one loop, its guard, and what a run keeps on disk."""

from ldm_explorer.training.config import FitConfig, OptimizerName
from ldm_explorer.training.guard import Diverged, TrainingFailed
from ldm_explorer.training.loop import Step, Task, fit
from ldm_explorer.training.processes import make_accelerator, precision_of, process_state, use_cores
from ldm_explorer.training.run_state import (
    PLACE_FIELDS,
    TrainLog,
    latest_state,
    load_weights,
    prepare_run_dir,
    read_progress,
)

__all__ = [
    "PLACE_FIELDS",
    "Diverged",
    "FitConfig",
    "OptimizerName",
    "Step",
    "Task",
    "TrainLog",
    "TrainingFailed",
    "fit",
    "latest_state",
    "load_weights",
    "make_accelerator",
    "precision_of",
    "prepare_run_dir",
    "process_state",
    "read_progress",
    "use_cores",
]
