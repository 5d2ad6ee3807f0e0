"""Datasets of Hugging Face's library, written to disk by it."""

import sys

import datasets
import numpy as np
import pytest
from PIL import Image

from ldm_explorer.data import find_dataset, find_pictures, load_split
from ldm_explorer.image_folder import DataError, read_some_images
from ldm_explorer.pictures.hugging_face import list_hugging_face, read_hugging_face

NAMES = ["cat", "dog"]


def pictures(count: int, seed: int = 0) -> list[Image.Image]:
    random = np.random.default_rng(seed)
    return [Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)) for _ in range(count)]


def rows(count: int, seed: int = 0, **columns) -> datasets.Dataset:
    features = {"text": datasets.Value("string"), "photo": datasets.Image(), "kind": datasets.ClassLabel(names=NAMES)}
    values = {"photo": pictures(count, seed), "kind": [number % 2 for number in range(count)], "text": ["x"] * count}
    return datasets.Dataset.from_dict(values | columns, features=datasets.Features(features))


@pytest.fixture
def saved(tmp_path):
    """Writes a dataset, and gives the reference to it."""

    def save(dataset: datasets.Dataset | datasets.DatasetDict) -> str:
        dataset.save_to_disk(str(tmp_path / "saved"))
        return str(tmp_path / "saved")

    return save


def test_pictures_and_labels_are_found_by_the_types_of_their_columns(saved):
    found = read_hugging_face(saved(rows(40)), 8)
    assert found.class_names == ("cat", "dog")
    numbers = [int(name.removeprefix("train/")) for name in found.names]
    assert sorted(numbers) == list(range(40))
    assert found.labels.tolist() == [number % 2 for number in numbers]
    drawn = pictures(40)
    for number, image in zip(numbers, found.images, strict=True):
        assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(drawn[number]))
    assert "pictures are those of the column photo, labels those of kind" in found.summary


def test_its_splits_are_the_splits_and_one_that_is_missing_is_a_part_of_training(saved):
    parts = {"train": rows(60), "test": rows(10, seed=1), "extra": rows(5, seed=2)}
    name = f"hf:{saved(datasets.DatasetDict(parts))}"
    assert find_dataset(name, 8).spec.class_names == ("cat", "dog")
    sizes = {split: len(load_split(name, split, image_side=8)) for split in ("train", "validation", "test")}
    assert sizes["test"] == 10
    assert sizes["train"] + sizes["validation"] == 60
    assert 0 < sizes["validation"] < 15
    assert find_pictures(name, 8).left_out == {"of extra, which is no split that is known": 5}


def test_rows_without_label_or_picture_are_left_out_and_counted(saved):
    odd = rows(42, kind=[-1, None, *[0] * 40], photo=[*pictures(2), None, *pictures(39)])
    found = read_hugging_face(saved(odd), 8)
    assert len(found.images) == 39
    assert found.left_out == {"without label": 2, "that cannot be read": 1}


def test_the_same_pictures_in_a_folder_are_the_same(saved, tmp_path):
    found = read_hugging_face(saved(rows(40)), 16)
    for number, image in enumerate(pictures(40)):
        path = tmp_path / "folder" / NAMES[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    folder = read_some_images(tmp_path / "folder", 16)
    by_number = {name.split("/")[1]: image for name, image in zip(found.names, found.images, strict=True)}
    for name, image in zip(folder.names, folder.images, strict=True):
        assert image.equal(by_number[name.split("/")[1].removesuffix(".png")])


def test_what_is_no_dataset_of_pictures_is_refused_in_one_sentence(saved, tmp_path, monkeypatch):
    text = saved(datasets.Dataset.from_dict({"text": ["a", "b"]}))
    with pytest.raises(DataError, match=r"has no column of pictures: its columns are text \(Value\)"):
        list_hugging_face(text)
    with pytest.raises(DataError, match="is no folder that a dataset was saved to"):
        list_hugging_face(str(tmp_path))
    with pytest.raises(DataError, match="cannot be loaded"):
        list_hugging_face("nobody/nothing@main")
    (tmp_path / "saved" / "state.json").write_text("{")
    with pytest.raises(DataError, match="cannot be loaded"):
        list_hugging_face(text)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="needs Hugging Face's library, which is not installed: pip install"):
        list_hugging_face(text)
