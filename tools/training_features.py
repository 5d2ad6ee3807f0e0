"""Write what the package knows of a dataset's training images: the first principal components of their pixels."""

import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from ldm_explorer.data import crop, dataset_spec, load_split
from ldm_explorer.examples import SHIPPED_IMAGES
from ldm_explorer.explore.nearest_training import BASIS_FILE, FEATURE_FILES, describe_training


def main(dataset: str = "fashion_mnist", images: Path = SHIPPED_IMAGES) -> None:
    folder = images / dataset
    if os.path.lexists(folder / BASIS_FILE):
        sys.exit(f"error: {folder / BASIS_FILE} exists already: delete it first")
    splits = [load_split(dataset, split) for split in ("train", "validation")]  # in this order the files' own
    pixels = crop(torch.cat([split.images for split in splits]), dataset_spec(dataset))
    basis, parts = describe_training(pixels, torch.cat([split.labels for split in splits]))
    folder.mkdir(parents=True, exist_ok=True)
    save_file(basis, folder / BASIS_FILE)
    for name, part in zip(FEATURE_FILES, parts, strict=True):
        save_file(part, folder / name)


if __name__ == "__main__":
    main()
