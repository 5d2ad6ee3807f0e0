"""Write the labelled test images that the app shows without a dataset: the first ten of each class, as PNG."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ldm_explorer.data import dataset_spec, load_split
from ldm_explorer.examples import write_examples
from ldm_explorer.explore.images import SHIPPED_IMAGES


def main(dataset: str = "fashion_mnist") -> None:
    write_examples(SHIPPED_IMAGES / dataset, load_split(dataset, "test"), dataset_spec(dataset))


if __name__ == "__main__":
    main()
