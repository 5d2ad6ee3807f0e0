import gzip
import struct
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch

from ldm_explorer import data
from ldm_explorer.data import (
    DATASETS,
    crop,
    dataset_spec,
    load_cifar10,
    load_mnist_like,
    load_split,
    pad,
    to_model,
    to_uint8,
)
from ldm_explorer.idx import read_idx
from ldm_explorer.image_folder import DataError


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_test_split(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(images))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(labels))


CONTENT = np.arange(3 * 5 * 4, dtype=np.uint8).reshape(3, 5, 4)
WHOLE = idx_bytes(CONTENT)
GZIPPED = gzip.compress(WHOLE, mtime=0)


@pytest.mark.parametrize(("suffix", "content"), [("", WHOLE), (".gz", GZIPPED)], ids=["plain", "gzipped"])
def test_idx_files_are_read_plain_and_gzipped(tmp_path, suffix, content):
    path = tmp_path / f"images-idx3-ubyte{suffix}"
    path.write_bytes(content)
    assert np.array_equal(read_idx(path), CONTENT)


@pytest.mark.parametrize(
    ("name", "content"),
    {
        "empty": b"",
        "header-cut": WHOLE[:9],
        "cut": WHOLE[:-1],
        "too-long": WHOLE + b"\0",
        "wrong-magic": b"PNG" + WHOLE[3:],
        "floats": WHOLE[:2] + b"\x0d" + WHOLE[3:],
        "empty.gz": b"",
        "cut.gz": GZIPPED[:-12],
        "not-gzipped.gz": WHOLE,
        "stream-damaged.gz": GZIPPED[:10] + b"\xff" * 8 + GZIPPED[18:],
        "holds-a-cut-file.gz": gzip.compress(WHOLE[:-1]),
    }.items(),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_damaged_idx_file_is_refused_by_name(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=name):
        read_idx(path)


def test_a_folder_that_lacks_a_file_is_refused(tmp_path):
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(WHOLE)
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte"):
        load_mnist_like("FashionMNIST", tmp_path, "test")


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.zeros((12, 28, 28), np.uint8), np.zeros(12, np.uint8)),
        (np.zeros((10_000, 14, 14), np.uint8), np.zeros(10_000, np.uint8)),
        (np.zeros((10_000, 28, 28), np.uint8), np.zeros(9_999, np.uint8)),
        (np.zeros((10_000, 28, 28), np.uint8), np.full(10_000, 10, np.uint8)),
    ],
    ids=["too few", "wrong side", "labels missing", "an eleventh class"],
)
def test_files_of_another_dataset_are_refused(tmp_path, images, labels):
    write_test_split(tmp_path, images, labels)
    with pytest.raises(DataError, match="does not hold FashionMNIST"):
        load_mnist_like("FashionMNIST", tmp_path, "test")


def test_a_folder_that_is_given_is_the_one_read(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (10_000, 28, 28), np.uint8)
    labels = (np.arange(10_000) % 10).astype(np.uint8)
    write_test_split(tmp_path, images, labels)
    split = load_split("fashion_mnist", "test", tmp_path)
    assert torch.equal(crop(split.images, dataset_spec("fashion_mnist")), torch.tensor(images)[:, None])
    assert torch.equal(split.labels, torch.tensor(labels).long())


@pytest.mark.parametrize("error", [URLError("no route"), RuntimeError("Error downloading"), ConnectionResetError()])
def test_no_files_and_no_network_is_one_error_that_says_what_to_do(tmp_path, monkeypatch, error):
    def download(*_, **__):
        raise error

    monkeypatch.setattr(data, "FASHION_MNIST_SYSTEM_DIR", tmp_path / "nothing")
    monkeypatch.setattr(data.datasets, "FashionMNIST", download)
    with pytest.raises(DataError, match=r"network.*dataset-fashion-mnist.*--data-dir"):
        load_split("fashion_mnist", "test")


def cifar10_batch(seed: int) -> bytes:
    generator = np.random.default_rng(seed)
    records = generator.integers(0, 256, (10_000, 3073), np.uint8)
    records[:, 0] = np.arange(10_000) % 10
    return records.tobytes()


def test_cifar10_is_read_from_its_binary_version_plane_by_plane(tmp_path):
    for number in range(1, 6):
        (tmp_path / f"data_batch_{number}.bin").write_bytes(cifar10_batch(number))
    (tmp_path / "test_batch.bin").write_bytes(cifar10_batch(6))
    splits = {split: load_split("cifar10", split, tmp_path) for split in ("train", "validation", "test")}
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 45_000,
        "validation": 5_000,
        "test": 10_000,
    }
    record = np.frombuffer(cifar10_batch(5)[-3073:], np.uint8)
    assert splits["validation"].labels[-1] == record[0] == 9
    red, _, blue = splits["validation"].images[-1].numpy()
    assert np.array_equal(red.ravel(), record[1:1025])
    assert np.array_equal(blue.ravel(), record[2049:])


@pytest.mark.parametrize(
    "content", [None, b"", b"\x00" * 3073, b"\x0a" * 30_730_000], ids=["missing", "empty", "short", "label"]
)
def test_what_is_no_cifar10_is_refused_by_name(tmp_path, content):
    if content is not None:
        (tmp_path / "test_batch.bin").write_bytes(content)
    with pytest.raises(DataError, match=r"test_batch\.bin"):
        load_cifar10(tmp_path, "test")


def test_the_side_of_a_registered_dataset_is_its_own():
    with pytest.raises(ValueError, match="--image-side is 64: the images of mnist have side 28"):
        load_split("mnist", "test", image_side=64)


def test_downloads_go_to_the_cache_folder(tmp_path, monkeypatch):
    def download(root, **_):
        raise OSError(str(root))

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(data, "FASHION_MNIST_SYSTEM_DIR", tmp_path / "nothing")
    monkeypatch.setattr(data.datasets, "FashionMNIST", download)
    with pytest.raises(DataError) as refusal:
        load_split("fashion_mnist", "test")
    assert str(refusal.value.__cause__) == str(tmp_path / "ldm-explorer")


def test_an_unknown_dataset_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="fashion_mnist"):
        load_split("imagenet", "test")


def test_real_splits_are_disjoint_slices_in_the_original_order(fashion_mnist_dir):
    spec = dataset_spec("fashion_mnist")
    splits = {name: load_split("fashion_mnist", name, fashion_mnist_dir) for name in ("train", "validation", "test")}
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 50_000,
        "validation": 10_000,
        "test": 10_000,
    }
    for part, names in (("train", ("train", "validation")), ("t10k", ("test",))):
        images = read_idx(fashion_mnist_dir / f"{part}-images-idx3-ubyte.gz")
        labels = read_idx(fashion_mnist_dir / f"{part}-labels-idx1-ubyte.gz")
        ours = torch.cat([crop(splits[name].images, spec) for name in names])
        assert torch.equal(ours, torch.tensor(images)[:, None])
        assert torch.equal(torch.cat([splits[name].labels for name in names]), torch.tensor(labels).long())
    assert torch.bincount(splits["test"].labels).tolist() == [1000] * spec.num_classes
    assert splits["train"].images.shape[1:] == (spec.channels, spec.model_side, spec.model_side)


@pytest.mark.parametrize("spec", [dataset.spec for dataset in DATASETS.values()], ids=DATASETS)
def test_padding_frames_the_image_with_background_and_crop_undoes_it(spec):
    images = torch.randint(1, 256, (3, spec.channels, spec.side, spec.side), dtype=torch.uint8)
    padded = pad(images, spec)
    assert padded.shape == (3, spec.channels, spec.model_side, spec.model_side)
    assert torch.equal(crop(padded, spec), images)
    frame = torch.ones_like(padded, dtype=torch.bool)
    crop(frame, spec)[:] = False
    assert (padded[frame] == spec.background).all()


@pytest.mark.parametrize("spec", [dataset.spec for dataset in DATASETS.values()], ids=DATASETS)
def test_the_null_class_is_no_real_class(spec):
    assert spec.null_class == spec.num_classes == len(set(spec.class_names))


def test_all_256_grey_levels_survive_the_way_to_the_model_and_back():
    greys = torch.arange(256, dtype=torch.uint8)
    pixels = to_model(greys)
    assert (pixels.dtype, pixels[0].item(), pixels[255].item()) == (torch.float32, -1, 1)
    assert torch.equal(to_uint8(pixels), greys)
    assert torch.equal(greys, torch.arange(256, dtype=torch.uint8))


def test_to_uint8_clamps_and_rounds_to_the_nearest():
    assert to_uint8(torch.tensor([-3.0, -1 + 0.4 / 127.5, -1 + 0.6 / 127.5, 3.0])).tolist() == [0, 0, 1, 255]
