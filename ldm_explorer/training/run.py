"""What the training scripts share: the dataset options, the command line, and the way from a task to a checkpoint."""

import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import diffusers
import torch
import tyro
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn

from ldm_explorer.checkpoints import read_log, update_metrics, write_spec
from ldm_explorer.claims import claim
from ldm_explorer.data import DATASETS, FOLDER_PREFIX, DatasetSpec, ImageSet, find_dataset, load_split
from ldm_explorer.examples import write_examples
from ldm_explorer.explore.images import SHIPPED_IMAGES
from ldm_explorer.image_folder import DataError, Split
from ldm_explorer.models import count_flops
from ldm_explorer.run_folder import FolderRefused, RunFolder
from ldm_explorer.run_layout import CARD_FILE, CONFIG_FILE, LOG_FILE, METRICS_FILE, SPEC_FILE
from ldm_explorer.training import (
    PLACE_FIELDS,
    FitConfig,
    Task,
    TrainingFailed,
    check_copy,
    check_options,
    make_accelerator,
    precision_of,
    process_state,
    store_options,
)
from train.run import cannot_write, run, way_on

INTERRUPTED = 130
"""The exit status of a run that Ctrl-C or SIGTERM stopped: 128 + SIGINT, as shells have it."""

REFUSED = 2

SECONDS_FOR_RANK_0 = 3

RUN_FILES = (CONFIG_FILE, LOG_FILE, METRICS_FILE, CARD_FILE)
"""What every training writes, besides the weights."""

Config = TypeVar("Config", bound=FitConfig)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The dataset options."""

    dataset: str = "fashion_mnist"
    """fashion_mnist, mnist, kmnist, cifar10, or folder:PATH (subfolders are classes)."""
    image_side: int | None = None
    """Side to which the images of a folder are cropped and scaled. Default: 64."""
    data_dir: Path | None = None
    """Folder with the dataset's own files; by default they are found on the system or downloaded."""

    @property
    def spec(self) -> DatasetSpec:
        return find_dataset(self.dataset, self.image_side).spec

    @property
    def folder(self) -> Path | None:
        """Where the images lie, if the dataset is a folder."""
        path = self.dataset.removeprefix(FOLDER_PREFIX)
        return None if path == self.dataset else Path(path).expanduser().resolve()

    @property
    def dataset_name(self) -> str:
        """The dataset's name, or that of its folder."""
        return self.dataset if self.folder is None else self.folder.name

    def load(self, split: Split) -> ImageSet:
        """One split; of several processes on a machine one downloads and the others find it."""
        with process_state().local_main_process_first():
            return load_split(self.dataset, split, self.data_dir, self.image_side)


@contextmanager
def start(config: Config, name: str, files: Iterable[str]) -> Iterator[tuple[Accelerator, Path]]:
    """Hold the run folder (by default runs/<dataset>/<name>) and print the options, before any work is done.

    `files` are the names that the run will write besides `RUN_FILES`. Raises what `claim`, `check_copy`,
    `RunFolder.check` and `check_options` do, and `FolderRefused` for a run folder in the dataset's own. Ctrl-C where
    the training does not see to it itself ends in a sentence on what is kept.
    """
    run_dir = config.out or Path("runs") / config.dataset_name / name
    accelerator = make_accelerator(config, run_dir)
    with ExitStack() as held:
        refusal = _claim(config, run_dir, files, held) if accelerator.is_main_process else None
        if broadcast_object_list([refusal is not None])[0]:
            if refusal is None:
                sys.exit(REFUSED)  # the main process says why
            raise refusal
        for option, value in asdict(config).items():
            accelerator.print(f"{option:24} {value}")
        try:
            yield accelerator, run_dir
        except KeyboardInterrupt:
            if accelerator.is_main_process:
                if not RunFolder(run_dir).names:
                    raise
                print(f"stopped: {way_on(run_dir)}", file=sys.stderr, flush=True)
            sys.exit(INTERRUPTED)


def _claim(config: Config, run_dir: Path, files: Iterable[str], held: ExitStack) -> Exception | None:
    try:
        _check_outside_dataset(config, run_dir)
        run = held.enter_context(claim(run_dir))
        check_copy(run_dir)
        run.check([*RUN_FILES, *files, *(() if config.dataset in DATASETS else (SPEC_FILE,))])
        check_options(config, run_dir)
    except Exception as error:
        return error
    return None


def _check_outside_dataset(config: Config, run_dir: Path) -> None:
    """Raise `FolderRefused` for a place among the images: a run's pictures would be trained on, too."""
    if config.folder is not None and run_dir.resolve().is_relative_to(config.folder):
        raise FolderRefused(
            f"{run_dir} lies in {config.folder}, and what is in there is trained on: give an --out elsewhere"
        )


def train(
    task: Task,
    config: Config,
    accelerator: Accelerator,
    run_dir: Path,
    export: Callable[[nn.Module, Path], dict[str, Any]],
    sample: Callable[[nn.Module], Tensor] | None = None,
) -> None:
    """Train a task, then export the averaged model into the run folder.

    `export(averaged model, folder)` writes the weights and returns figures for metrics.json.
    `sample(averaged model)` generates the images `(B, C, side, side) uint8` of a frame of the run's film.
    """
    parameters = sum(p.numel() for p in task.model.parameters())
    accelerator.print(
        f"{parameters / 1e6:.2f} M parameters, {task.num_examples} examples, {accelerator.num_processes} process(es) "
        f"on {accelerator.device.type} with {torch.get_num_threads()} thread(s), "
        f"precision {precision_of(accelerator)}"
    )
    if accelerator.is_main_process:
        store_options(config, run_dir)
        keep_examples(config, run_dir)  # now: a run can be looked at while it goes on
    averaged = run(task, config, accelerator, run_dir, sample)
    if averaged is None:
        sys.exit(INTERRUPTED)
    if not accelerator.is_main_process:
        return
    try:
        figures = export(averaged.cpu().eval(), run_dir)
        cost = training_cost(task, run_dir) | {"precision": precision_of(accelerator)}
        update_metrics(run_dir, "training", cost | {"parameters": parameters} | figures)
        RunFolder(run_dir).write_text(CARD_FILE, run_card(run_dir.name, config, cost, parameters))
    except OSError as error:
        raise cannot_write(run_dir, error) from error
    print(f"\nwrote {run_dir}")


def flops_per_image(task: Task) -> float:
    """Forward and backward, counted on one small batch."""
    size = min(4, task.num_examples)
    model, batch = task.model.cpu(), task.batch(torch.arange(size), torch.Generator().manual_seed(0))
    return count_flops(lambda: task.loss(model, batch)["loss"].backward()) / size


def training_cost(task: Task, run_dir: Path) -> dict[str, Any]:
    """Images seen, CPU time and FLOPs of a finished run."""
    last = read_log(run_dir / LOG_FILE)[-1]
    return {
        "command": command_line(sys.argv),
        "steps": last["step"],
        "images": last["images"],
        "cpu_minutes": round(last["cpu_seconds"] / 60, 1),
        "gflops_per_image": round(flops_per_image(task) / 1e9, 4),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
    }


def keep_examples(config: Config, run_dir: Path) -> None:
    """What the app needs to show a run on a dataset that it does not carry: test images, and what is known of them."""
    if config.dataset not in DATASETS:
        write_spec(run_dir, config.spec)
    if not (SHIPPED_IMAGES / config.dataset).is_dir():
        test = load_split(config.dataset, "test", config.data_dir, config.image_side)
        write_examples(run_dir, test, config.spec)


def command_line(arguments: list[str]) -> str:
    """The command that repeats a run: its script and the options that change its result."""
    words, kept = list(arguments[1:]), []
    while words:
        option, equals, _ = words[0].partition("=")
        name = option[2:].replace("-", "_") if option.startswith("--") else ""
        without_effect = name in PLACE_FIELDS | {"threads"}
        kept += [] if without_effect else words[:1]
        words = words[2 if without_effect and not equals and name != "resume" else 1 :]
    return shlex.join(["accelerate", "launch", f"train/{Path(arguments[0]).name}", *kept])


def run_card(name: str, config: Config, cost: dict[str, Any], parameters: int) -> str:
    """A README for the checkpoint folder: what it is, the command that made it, what it cost."""
    return f"""---
license: mit
library_name: diffusers
tags: [ldm-explorer, latent-diffusion]
datasets: [{config.dataset_name}]
---
# {name}

`{cost["command"]}`

Trained on {config.dataset_name}: {parameters / 1e6:.2f} M parameters, {cost["images"]:,} images in
{cost["steps"]:,} steps, {cost["cpu_minutes"]} CPU-minutes, {cost["gflops_per_image"]} GFLOPs per image and step. The
weights are the moving average of training, in fp16. Options are in `train_config.json`, the loss in `train_log.jsonl`,
figures in `metrics.json`.
"""


def main_of(config_class: type[Config], main: Callable[[Config], None]) -> None:
    """Parse the command line into the config and run.

    A refused option or a training that failed ends in one sentence, said once; exit status 2 or 1. Ctrl-C where a
    training does not see to it itself ends in one too, with 130.
    """
    try:
        main(tyro.cli(config_class))
    except KeyboardInterrupt:
        if issubclass(config_class, FitConfig):  # `start` sees to one that wrote anything
            said = "stopped before anything was written"
        elif "resume" in config_class.__dataclass_fields__:
            said = "stopped: the same command with --resume goes on from what was kept"
        else:
            said = "stopped: the same command begins again"
        print(said, file=sys.stderr, flush=True)
        sys.exit(INTERRUPTED)
    except (ValueError, OSError, DataError, TrainingFailed) as error:
        if os.environ.get("RANK", "0") != "0":
            time.sleep(SECONDS_FOR_RANK_0)  # where all fail alike its message is enough, and the launcher ends the rest
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(1 if isinstance(error, TrainingFailed) else REFUSED)
