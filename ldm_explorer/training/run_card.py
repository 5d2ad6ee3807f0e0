"""What a finished run says of itself: what its training cost, and the README of its folder."""

from pathlib import Path
from typing import Any

import diffusers
import torch

from ldm_explorer.models import count_flops
from ldm_explorer.run_files import read_log
from ldm_explorer.run_layout import CONFIG_FILE, LOG_FILE, METRICS_FILE
from ldm_explorer.training.dataset import DataConfig
from ldm_explorer.training.loop import Task


def flops_per_image(task: Task) -> float:
    """Forward and backward, counted on one small batch."""
    size = min(4, task.num_examples)
    model, batch = task.model.cpu(), task.batch(torch.arange(size), torch.Generator().manual_seed(0))
    return count_flops(lambda: task.loss(model, batch)["loss"].backward()) / size


def training_cost(task: Task, run_dir: Path, command: str | None) -> dict[str, Any]:
    """Images seen, CPU time and FLOPs of a finished run, and the command that repeats it, if it was one."""
    last = read_log(run_dir / LOG_FILE)[-1]
    return ({"command": command} if command else {}) | {
        "steps": last["step"],
        "images": last["images"],
        "cpu_minutes": round(last["cpu_seconds"] / 60, 1),
        "gflops_per_image": round(flops_per_image(task) / 1e9, 4),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
    }


def run_card(name: str, config: DataConfig, cost: dict[str, Any], parameters: int) -> str:
    """A README for the checkpoint folder: what it is, the command that made it, what it cost."""
    command = f"`{cost['command']}`\n\n" if "command" in cost else ""
    return f"""---
license: mit
library_name: diffusers
tags: [ldm-explorer, latent-diffusion]
datasets: [{config.dataset_name}]
---
# {name}

{command}Trained on {config.dataset_name}: {parameters / 1e6:.2f} M parameters, {cost["images"]:,} images in
{cost["steps"]:,} steps, {cost["cpu_minutes"]} CPU-minutes, {cost["gflops_per_image"]} GFLOPs per image and step. The
weights are the moving average of training, in fp16. Options are in `{CONFIG_FILE}`, the loss in `{LOG_FILE}`,
measures in `{METRICS_FILE}`.
"""
