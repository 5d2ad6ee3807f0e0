"""The images that a training is given: the dataset options, and what a run keeps of the images for others to see."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from ldm_explorer.data import (
    DATASETS,
    FOLDER_PREFIX,
    HUGGING_FACE_PREFIX,
    DatasetSpec,
    ImageSet,
    find_dataset,
    find_pictures,
    load_split,
)
from ldm_explorer.examples import SHIPPED_IMAGES, write_examples
from ldm_explorer.pictures.collection import MemoryMap, Pictures
from ldm_explorer.pictures.layout import Split
from ldm_explorer.run_files import write_spec
from ldm_explorer.training.config import FitConfig
from ldm_explorer.training.processes import process_state

DATASET_HELP = (
    f"{', '.join(DATASETS)}, folder:PATH (subfolders are classes), or hf:NAME, a dataset of Hugging Face's library: "
    "owner/name[:config][@revision], or the folder that it was saved to."
)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The dataset options."""

    dataset: Annotated[str, tyro.conf.arg(help=DATASET_HELP)] = "fashion_mnist"
    image_side: int | None = None
    """Side to which the images of folder:PATH or hf:NAME are cropped and scaled. Default: 64."""
    memory_map: MemoryMap = "auto"
    """Whether these images are read from a file in the cache, which holds them decoded, in place of memory. auto: where
    they would take over half of the memory, or the file is there."""
    data_dir: Path | None = None
    """Folder with the dataset's own files; by default they are found on the system or downloaded."""

    @property
    def spec(self) -> DatasetSpec:
        return find_dataset(self.dataset, self.image_side, self.memory_map).spec

    @property
    def pictures(self) -> Pictures | None:
        """What is known of the images where they are pictures of the user's own."""
        return find_pictures(self.dataset, self.image_side, self.memory_map)

    @property
    def folder(self) -> Path | None:
        """Where the images lie, if the dataset is a folder."""
        if self.dataset.startswith(FOLDER_PREFIX):
            return Path(self.dataset.removeprefix(FOLDER_PREFIX)).expanduser().resolve()
        saved = Path(self.dataset.removeprefix(HUGGING_FACE_PREFIX)).expanduser().resolve()
        return saved if self.dataset.startswith(HUGGING_FACE_PREFIX) and saved.is_dir() else None

    @property
    def places(self) -> dict[str, str]:
        return {} if self.pictures is None else {"dataset": self.pictures.identity}

    @property
    def dataset_name(self) -> str:
        """The dataset's name, or that of its folder; it can be a folder's itself."""
        if self.folder is not None:
            return self.folder.name
        return re.sub(r"[^\w.-]+", "-", self.dataset.removeprefix(HUGGING_FACE_PREFIX))

    def load(self, split: Split) -> ImageSet:
        """One split; of several processes on a machine one downloads and the others find it."""
        with process_state().local_main_process_first():
            return load_split(self.dataset, split, self.data_dir, self.image_side, self.memory_map)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(DataConfig, FitConfig):
    """The options of every training on a dataset."""

    ENCODES: ClassVar[bool] = False
    """Whether it trains on latents."""


def keep_examples(config: DataConfig, run_dir: Path) -> None:
    """What the app needs to show a run on a dataset that it does not carry: test images, and what is known of them."""
    if config.dataset not in DATASETS:
        write_spec(run_dir, config.spec)
    if not (SHIPPED_IMAGES / config.dataset).is_dir():
        test = load_split(config.dataset, "test", config.data_dir, config.image_side, config.memory_map)
        write_examples(run_dir, test, config.spec)
