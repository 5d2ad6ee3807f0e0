"""The training image that lies nearest to a sample, and whether that is as near as a copy would be."""

import re
from dataclasses import replace

import pytest
import torch

from ldm_explorer.checkpoints import read_checkpoint
from ldm_explorer.data import crop, dataset_spec, load_split, to_uint8, training_images_here
from ldm_explorer.evaluation.copying import measure_copying, nearest_distance
from ldm_explorer.evaluation.reconstruction import reconstruct
from ldm_explorer.explore import nearest_training as module
from ldm_explorer.explore.images import example_images
from ldm_explorer.explore.nearest_training import (
    NUM_COMPONENTS,
    Copies,
    Nearest,
    TrainingImages,
    describe_training,
    find_copies,
    training_images,
)
from ldm_explorer.ui.nearest_training import NO_PIXELS, nearest_shown, words

SPEC = dataset_spec("fashion_mnist")
COPIED = [0, 17, 59_999]


@pytest.fixture(scope="module")
def known(fashion_mnist_dir) -> TrainingImages:  # noqa: ARG001 (the pixels are there)
    found = training_images("fashion_mnist")
    assert found is not None
    assert found.pixels is not None
    return found


@pytest.fixture(scope="module")
def ldm(ldm_folder):
    return read_checkpoint(ldm_folder)


def without_pixels(known: TrainingImages) -> TrainingImages:
    return replace(known, pixels=None)


def test_all_training_images_are_known_in_the_order_of_the_dataset(known, fashion_mnist_dir):
    splits = [load_split("fashion_mnist", split, fashion_mnist_dir) for split in ("train", "validation")]
    assert torch.equal(known.pixels, crop(torch.cat([split.images for split in splits]), SPEC))
    assert torch.equal(known.labels.long(), torch.cat([split.labels for split in splits]))


def test_what_is_shipped_are_the_components_of_the_pixels_but_for_rounding(known):
    flat = known.pixels.flatten(1).float()
    projected = (flat - known.mean) @ known.components
    step = known.features.abs().max() / 127
    assert known.features.shape == (60_000, NUM_COMPONENTS)
    assert (projected - known.features).abs().max() <= 0.51 * step
    assert torch.allclose(known.components.T @ known.components, torch.eye(NUM_COMPONENTS), atol=1e-4)


def test_the_tool_stores_what_the_app_reads():
    images = torch.randint(0, 256, (50, 1, 6, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    basis, parts = describe_training(images, torch.arange(50) % 10)
    features = torch.cat([part["features"] for part in parts])
    assert features.dtype == torch.int8
    rebuilt = features.float() * basis["scale"] @ basis["components"].T + basis["mean"]
    rest = (images.flatten(1).float() - rebuilt).square().sum()
    assert rest < 0.02 * (images.flatten(1).float() - basis["mean"]).square().sum(), "32 of 36 components are kept"


def test_with_the_dataset_here_the_nearest_is_the_nearest_in_pixels(known, ldm):
    images = crop(example_images(ldm).images, SPEC)[::9]
    found = known.nearest(images)
    assert torch.allclose(found.distances, nearest_distance(images, known.pixels))
    chosen = known.pixels[found.numbers]
    assert torch.equal(found.images, chosen)
    assert torch.allclose((chosen.float() - images.float()).flatten(1).norm(dim=1), found.distances)


def test_a_copy_is_found_with_and_without_the_pixels(known):
    copies = known.pixels[COPIED]
    for knows in (known, without_pixels(known)):
        found = knows.nearest(copies)
        assert found.numbers.tolist() == COPIED
        assert torch.equal(found.labels, known.labels[COPIED])
    assert known.nearest(copies).distances.tolist() == [0, 0, 0]
    assert without_pixels(known).nearest(copies).images is None


@pytest.fixture(params=["pixels", "components"])
def either(request, known, monkeypatch):
    """The dataset here, or away."""
    chosen = known if request.param == "pixels" else without_pixels(known)
    monkeypatch.setattr(module, "training_images", lambda _: chosen)
    module._reference_distances.cache_clear()
    yield chosen
    module._reference_distances.cache_clear()


def test_copies_stand_out_beside_reconstructions_of_test_images(either, ldm):
    images = torch.cat([either_pixels()[COPIED], torch.full((1, 1, 28, 28), 255, dtype=torch.uint8)])
    copies = find_copies(ldm, images)
    reference = to_uint8(reconstruct(ldm.codec, example_images(ldm).images, SPEC))
    expected = either.nearest(reference).distances
    assert copies.near.tolist() == [True, True, True, False]
    assert torch.allclose(copies.ratios, copies.nearest.distances / expected.median())
    judged = measure_copying(copies.nearest.distances, expected)
    assert float(copies.near.float().mean()) == judged.near_share
    assert float(copies.ratios.median()) == pytest.approx(judged.ratio_of_medians)
    assert (copies.num_reference, copies.num_training) == (100, 60_000)


def either_pixels() -> torch.Tensor:
    pixels = training_images_here("fashion_mnist")
    assert pixels is not None
    return pixels


def test_what_is_shown_names_the_image_and_says_where_pictures_are_missing(either, ldm):
    shown = nearest_shown([(ldm, either_pixels()[COPIED[2:]])], ["A"])
    assert f"number 59,999 ({SPEC.class_names[int(either.labels[-1])]})" in shown
    assert shown.count("<img") == (1 if either.pixels is not None else 0)
    assert (NO_PIXELS in shown) == (either.pixels is None)
    assert "as a copy would be" in shown


def test_a_dataset_whose_training_images_are_not_known_is_said_to_be_so(color_folder):
    color = read_checkpoint(color_folder)
    images = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    assert find_copies(color, images) is None
    assert "folder:pictures trains on is not known here" in nearest_shown([(color, images)], ["A"])


@pytest.mark.parametrize("dataset", ["../fashion_mnist", "mnist", "", "/etc"])
def test_a_name_out_of_a_file_opens_no_other_folder(dataset):
    assert training_images(dataset) is None


def copies(ratios: list[float], near: list[bool]) -> Copies:
    count = len(ratios)
    nearest = Nearest(torch.zeros(count, dtype=torch.long), torch.zeros(count), torch.zeros(count), None)
    return Copies(nearest, torch.tensor(ratios), torch.tensor(near), 100, 60_000)


@pytest.mark.parametrize(
    ("ratios", "near", "said"),
    [
        ([1.04], [False], "The sample is 1.04 times as far from it as .*: no sign of a copy."),
        ([0.2], [True], "0.20 times .*: nearer than 99 % of these, as a copy would be."),
        ([0.9, 1.1, 1.3], [False] * 3, "The samples are 1.10 times .* None of 3 is nearer"),
        ([0.1, 0.2, 1.3], [True, True, False], "2 of 3 are nearer than 99 %"),
    ],
)
def test_the_distance_is_put_into_words(ratios, near, said):
    assert re.search(said, " ".join(words(copies(ratios, near))))


def test_nothing_is_read_where_the_dataset_is_not_here(monkeypatch, tmp_path):
    monkeypatch.setattr("ldm_explorer.data.FASHION_MNIST_SYSTEM_DIR", tmp_path / "none")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert training_images_here("fashion_mnist") is None
    broken = tmp_path / "ldm-explorer" / "FashionMNIST" / "raw"
    broken.mkdir(parents=True)
    (broken / "train-images-idx3-ubyte.gz").write_bytes(b"no images")
    assert training_images_here("fashion_mnist") is None
    assert training_images_here("mnist") is None
