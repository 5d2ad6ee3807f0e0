"""Samples that lie in a folder meet the same ruler as those of a checkpoint."""

import pytest
import torch
from helpers import draw_shapes
from torchvision.io import write_png

from ldm_explorer.data import crop, dataset_spec
from ldm_explorer.evaluation.features import FeatureNet
from ldm_explorer.evaluation.ruler import Ruler
from ldm_explorer.image_folder import DataError, read_samples
from train.evaluate import EvaluateConfig, Evaluation, is_samples

SPEC = dataset_spec("fashion_mnist")


@pytest.fixture
def ruler(shapes, other_shapes):
    torch.manual_seed(0)
    network = FeatureNet(1, 10, widths=(8, 16)).eval()
    return Ruler(SPEC, network, shapes, other_shapes, draw_shapes(120, seed=2), num_images=50)


@pytest.fixture
def folder(shapes, tmp_path):
    """120 training images as PNG, in a subfolder per class."""
    images, labels = crop(shapes.images, SPEC)[:120], shapes.labels[:120]
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = tmp_path / "samples" / SPEC.class_names[label]
        place.mkdir(parents=True, exist_ok=True)
        write_png(image, str(place / f"{index}.png"))
    return tmp_path / "samples"


def test_a_folder_of_pictures_gives_the_figures_of_its_images(ruler, folder, shapes, monkeypatch):
    evaluation = Evaluation(EvaluateConfig(checkpoints=(folder,), threads=1))
    monkeypatch.setattr(evaluation, "ruler", lambda *_: ruler)
    figures = evaluation.measure_samples(folder)["generation"]
    order = sorted(range(120), key=lambda i: (SPEC.class_names[shapes.labels[i]], f"{i}.png"))
    images, labels = crop(shapes.images, SPEC)[order], shapes.labels[order]
    expected = ruler.samples(images, labels, ruler.distances_to_known(ruler.images))
    for name, value in expected.items():
        assert figures[name] == pytest.approx(value, rel=1e-4)
    assert figures["num_images"] == 120
    assert figures["copying_ratio"] == 0, "they are training images"
    assert figures["copying_near_share"] == 1


def test_a_test_split_too_small_for_distances_is_refused(shapes, other_shapes):
    with pytest.raises(ValueError, match="50 test images: distances in 64 features need more"):
        Ruler(SPEC, FeatureNet(1, 10, widths=(8, 16)), shapes, other_shapes, other_shapes, num_images=50)


def test_folders_of_pictures_are_told_from_runs(folder, ldm_folder, vae_folder, tmp_path):
    assert is_samples(folder)
    assert not any(is_samples(place) for place in (ldm_folder, vae_folder, tmp_path / "nothing"))


def test_a_picture_of_another_size_or_none_is_refused(folder):
    write_png(torch.zeros(1, 32, 32, dtype=torch.uint8), str(folder / "Bag" / "large.png"))
    with pytest.raises(DataError, match=r"large.png has 32x32 pixels: give samples of 28x28"):
        read_samples(folder, 28, 1)
    (folder / "Bag" / "large.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"large.png is no picture"):
        read_samples(folder, 28, 1)
