"""Write the labelled test images that the app shows without a dataset: the first ten of each class, as PNG."""

import os
import sys
from pathlib import Path

from ldm_explorer.data import dataset_spec, load_split
from ldm_explorer.examples import SHIPPED_IMAGES, draw_examples


def main(dataset: str = "fashion_mnist", images: Path = SHIPPED_IMAGES) -> None:
    if os.path.lexists(images / dataset):
        sys.exit(f"error: {images / dataset} exists already: delete it first")
    draw_examples(images / dataset, load_split(dataset, "test"), dataset_spec(dataset))


if __name__ == "__main__":
    main()
