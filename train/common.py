"""What the training scripts share: the dataset options, the command line, and the way from a task to a checkpoint."""

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import torch
import tyro
from torch import nn

from ldm_explorer.data import DataError, DatasetSpec, dataset_spec
from ldm_explorer.training import FitConfig, Task, make_accelerator, prepare_run_dir, run

Config = TypeVar("Config", bound=FitConfig)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The dataset options."""

    dataset: str = "fashion_mnist"
    data_dir: Path | None = None
    """Folder with the dataset's own files; by default they are found on the system or downloaded."""

    @property
    def spec(self) -> DatasetSpec:
        return dataset_spec(self.dataset)


def train(task: Task, config, name: str, export: Callable[[nn.Module, Path], None]) -> None:
    """Train a task into its run folder (by default runs/<dataset>/<name>), then export the averaged model there."""
    run_dir = config.out or Path("runs") / config.dataset / name
    accelerator = make_accelerator(config, run_dir)
    if accelerator.is_main_process:
        prepare_run_dir(config, run_dir)
    accelerator.wait_for_everyone()
    for name, value in asdict(config).items():
        accelerator.print(f"{name:24} {value}")
    parameters = sum(p.numel() for p in task.model.parameters())
    accelerator.print(
        f"{parameters / 1e6:.2f} M parameters, {task.num_examples} examples, {accelerator.num_processes} process(es) "
        f"on {accelerator.device.type} with {torch.get_num_threads()} thread(s), "
        f"precision {accelerator.mixed_precision}"
    )
    averaged = run(task, config, accelerator, run_dir)
    if averaged is not None and accelerator.is_main_process:
        export(averaged.cpu(), run_dir)
        print(f"\nwrote {run_dir}")


def main_of(config_class: type[Config], main: Callable[[Config], None]) -> None:
    """Parse the command line into the config and run; a refused option ends in one sentence, exit status 2."""
    try:
        main(tyro.cli(config_class))
    except (ValueError, FileExistsError, FileNotFoundError, DataError) as error:
        sys.exit(f"error: {error}")
