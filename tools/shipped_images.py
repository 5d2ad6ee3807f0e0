"""Write the labelled test images that the app shows without a dataset: the first ten of each class, as PNG."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torchvision.transforms.functional import to_pil_image

from ldm_explorer.data import crop, dataset_spec, load_split
from ldm_explorer.explore.images import SHIPPED_IMAGES

PER_CLASS = 10


def main(dataset: str = "fashion_mnist") -> None:
    spec, test = dataset_spec(dataset), load_split(dataset, "test")
    images = crop(test.images, spec)
    for label in range(spec.num_classes):
        folder = SHIPPED_IMAGES / dataset / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        for index in (test.labels == label).nonzero().flatten().tolist()[:PER_CLASS]:
            to_pil_image(images[index]).save(folder / f"{index:05d}.png", optimize=True)


if __name__ == "__main__":
    main()
