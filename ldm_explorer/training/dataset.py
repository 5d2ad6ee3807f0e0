"""The images that a training is given: the dataset options, and what a run keeps of the images for others to see."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ldm_explorer.checkpoints import write_spec
from ldm_explorer.data import DATASETS, FOLDER_PREFIX, DatasetSpec, ImageSet, find_dataset, load_split
from ldm_explorer.examples import SHIPPED_IMAGES, write_examples
from ldm_explorer.image_folder import Split
from ldm_explorer.training.config import FitConfig
from ldm_explorer.training.processes import process_state

DATASET_HELP = f"{', '.join(DATASETS)}, or folder:PATH (subfolders are classes)."


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The dataset options."""

    dataset: Annotated[str, tyro.conf.arg(help=DATASET_HELP)] = "fashion_mnist"
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


@dataclass(frozen=True, kw_only=True)
class TrainConfig(DataConfig, FitConfig):
    """The options of every training on a dataset."""


def keep_examples(config: DataConfig, run_dir: Path) -> None:
    """What the app needs to show a run on a dataset that it does not carry: test images, and what is known of them."""
    if config.dataset not in DATASETS:
        write_spec(run_dir, config.spec)
    if not (SHIPPED_IMAGES / config.dataset).is_dir():
        test = load_split(config.dataset, "test", config.data_dir, config.image_side)
        write_examples(run_dir, test, config.spec)
