"""Where everything lies in the folder of a run, and what a folder is by what lies there."""

import re
from pathlib import Path

from ldm_explorer.run_folder import RunFolder

CONFIG_FILE = "train_config.json"
LOG_FILE = "train_log.jsonl"
METRICS_FILE = "metrics.json"
CARD_FILE, SAMPLES_FILE = "README.md", "samples.png"
SPEC_FILE = "dataset.json"
STATISTICS_FILE = "latents.safetensors"
EXAMPLES, FILM = "images", "film"
"""The subfolders of pictures."""

PIPELINE_FILE, CODE_FILE = "model_index.json", "pipeline.py"
"""What diffusers loads a pipeline by: its parts, and the code that ties them, which nothing of ours runs."""
SCHEDULER, SCHEDULER_CONFIG = "scheduler", "scheduler_config.json"
SCHEDULER_FILE = f"{SCHEDULER}/{SCHEDULER_CONFIG}"
VAE, UNET, TRANSFORMER, CLASSIFIER = "vae", "unet", "transformer", "features"
"""The subfolders of networks."""
UNET_EMA = "unet_ema"
"""Where diffusers' example scripts save averaged weights on their way."""
NETWORK_CONFIG = "config.json"
CLASSIFIER_RUN = "features"
"""The folder beside the other runs of a dataset that holds the classifier of its images."""

PROGRESS_FILE, TENSORS_FILE = "progress.json", "state.safetensors"
"""The files of a state, in a subfolder of its own; progress.json is written last."""
STATE_PREFIX = "state-"
STATE = re.compile(rf"{STATE_PREFIX}([0-9]{{9,12}})/({re.escape(PROGRESS_FILE)}|{re.escape(TENSORS_FILE)})")
"""The names of those files."""


def config_of(part: str) -> str:
    """The config of a network."""
    return f"{part}/{NETWORK_CONFIG}"


def state_folder(step: int) -> str:
    """The subfolder of the state that is saved after a step."""
    return f"{STATE_PREFIX}{step:09d}"


def step_of(state: Path) -> int:
    """The step after which a state was saved."""
    return int(state.name.removeprefix(STATE_PREFIX))


def holds_classifier(run: RunFolder) -> bool:
    """Whether a folder is that of a classifier (train/features.py). Raises `CheckpointError` as `RunFolder.has`."""
    return run.has(config_of(CLASSIFIER))


def holds_run(run: RunFolder) -> bool:
    """Whether a folder is a run, whole or not, or holds a model of somebody else's. Raises as `RunFolder.has`."""
    return any(
        map(run.has, (CONFIG_FILE, PIPELINE_FILE, *map(config_of, (VAE, UNET, TRANSFORMER, UNET_EMA, CLASSIFIER))))
    )
