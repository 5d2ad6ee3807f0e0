import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ldm_explorer.checkpoints import read_checkpoint, save_model
from ldm_explorer.data import crop, dataset_spec, load_split, to_model, to_uint8
from ldm_explorer.evaluation.cost import measure_cost
from ldm_explorer.evaluation.features import FeatureNet
from ldm_explorer.explore.denoising import MAX_IMAGES, MAX_KEPT_FRAMES, denoise_images
from ldm_explorer.explore.images import example_image, example_images, uploaded_image
from ldm_explorer.explore.latent_size import compare_sizes
from ldm_explorer.explore.library import open_library
from ldm_explorer.explore.reconstruction import LatentSize, reconstruct_image
from ldm_explorer.explore.schedule import compare_schedules, describe, noise_image
from ldm_explorer.explore.uploads import read_upload
from ldm_explorer.run_folder import RunFolder
from ldm_explorer.samplers import DEFAULT_SAMPLER
from ldm_explorer.schedules import SCHEDULES, make_schedule

SPEC = dataset_spec("fashion_mnist")


@pytest.fixture(scope="module")
def ldm(ldm_folder):
    return read_checkpoint(ldm_folder)


@pytest.fixture
def image(ldm):
    return example_image(ldm, "Ankle boot", 0)


def test_ten_images_of_every_class_are_shipped_and_are_the_test_set_own(ldm, fashion_mnist_dir):
    examples = example_images(ldm)
    images, labels, indices = examples.images, examples.labels, examples.test_indices
    test = load_split("fashion_mnist", "test", fashion_mnist_dir)
    assert labels.bincount().tolist() == [10] * 10
    assert torch.equal(images, test.images[list(indices)])
    assert torch.equal(labels, test.labels[list(indices)])


def test_an_image_that_is_not_there_is_refused(ldm):
    with pytest.raises(ValueError, match="there are 10"):
        example_image(ldm, "Dress", 10)
    with pytest.raises(ValueError, match="unknown class 'Teapot'"):
        example_image(ldm, "Teapot", 0)
    assert "test image" in example_image(ldm, None, 99).caption


def garment(mode: str = "L", light: bool = False) -> Image.Image:
    array = np.zeros((56, 40), np.uint8)
    array[10:46, 8:32] = 200
    return Image.fromarray(255 - array if light else array).convert(mode)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK", "1", "LA"])
def test_every_mode_of_upload_becomes_a_padded_square(ldm, mode):
    result = uploaded_image(garment(mode), ldm, None)
    assert result.pixels.shape == (1, 1, 32, 32)
    assert result.pixels.min() >= -1
    assert result.pixels.max() <= 1
    assert any("square" in note for note in result.notes)


def test_a_light_background_is_inverted_and_a_dark_one_is_not(ldm):
    dark, light = (
        uploaded_image(garment(), ldm, None),
        uploaded_image(garment(light=True), ldm, None),
    )
    assert any("inverted" in note for note in light.notes)
    assert not any("inverted" in note for note in dark.notes)
    assert torch.allclose(dark.pixels, light.pixels, atol=0.02)


def test_sixteen_bit_and_transparent_uploads_keep_their_content(ldm):
    deep = Image.fromarray((np.asarray(garment()).astype(np.int32) * 256).astype(np.uint16))
    expected = uploaded_image(garment(), ldm, None).pixels
    assert (uploaded_image(deep, ldm, None).pixels > 0).float().mean() == pytest.approx(
        float((expected > 0).float().mean()), abs=0.02
    )
    transparent = garment("RGBA")
    transparent.putalpha(Image.fromarray((np.asarray(garment()) > 0).astype(np.uint8) * 255))
    notes = uploaded_image(transparent, ldm, None).notes
    assert any("Transparent" in note for note in notes)


def test_a_test_image_uploaded_again_stays_what_it_is(ldm, image):
    upload = Image.fromarray(crop(to_uint8(image.pixels), SPEC)[0, 0].numpy())
    result = uploaded_image(upload, ldm, None)
    assert torch.equal(to_uint8(result.pixels), to_uint8(image.pixels))
    assert result.notes == ()


def test_flat_and_huge_uploads_are_refused(ldm, tmp_path):
    with pytest.raises(ValueError, match="flat colour"):
        uploaded_image(Image.new("RGB", (40, 40), "red"), ldm, None)
    Image.new("1", (60_000, 1)).save(tmp_path / "long.png")
    with pytest.raises(ValueError, match="60000 x 1 pixels: give one of at most 4,096 a side"):
        read_upload(tmp_path / "long.png")


def test_an_upload_that_is_cut_short_is_refused(ldm, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:5000])
    with pytest.raises(ValueError, match="cut short"):
        uploaded_image(read_upload(tmp_path / "cut.jpg"), ldm, None)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (LatentSize(8, 4, 784), "8x8x4 = 256 values, 3.1 times fewer than pixels"),
        (LatentSize(32, 1, 784), "32x32x1 = 1,024 values, no compression (784 pixels)"),
    ],
)
def test_a_latent_size_says_side_channels_values_and_whether_it_compresses(size, text):
    assert str(size) == text


def test_reconstruction_is_the_autoencoder_own(ldm, image):
    result = reconstruct_image(ldm, image.pixels)
    codec = ldm.pipeline.codec
    expected = crop(codec.decode(codec.encode(image.pixels)).clamp(-1, 1), SPEC)[0]
    assert torch.equal(result.reconstruction, expected)
    assert torch.equal(result.error, expected - crop(image.pixels, SPEC)[0])
    mse = ((result.error / 2) ** 2).mean()
    assert result.psnr_db == pytest.approx(float(-10 * mse.log10()), abs=1e-3)


def test_noising_starts_at_the_image_and_uses_the_schedule_own_alpha_bars(ldm, image):
    schedules = compare_schedules(1000, 1e-4, 0.02)
    results = noise_image(ldm, image.pixels, schedules, seed=0)
    assert [result.schedule.name for result in results] == list(SCHEDULES)
    for result in results:
        assert result.timesteps[0] == 0
        assert result.timesteps[-1] == 999
        assert (result.pixels[0] - crop(image.pixels, SPEC)[0]).abs().mean() < 0.02
    linear, cosine = results[0], results[-1]
    assert (linear.pixels[3] - linear.pixels[-1]).abs().mean() < (cosine.pixels[3] - cosine.pixels[-1]).abs().mean()


def test_schedules_are_described_by_half_step_and_terminal_snr():
    assert "t = 496 (50% of the way)" in describe(make_schedule("cosine"))
    assert "terminal SNR is 4e-05" in describe(make_schedule("linear"))
    assert "never falls below one half" in describe(make_schedule("linear", 10, 1e-4, 1e-3))


def test_denoising_ends_with_the_pipeline_image(ldm):
    frames = list(
        denoise_images(ldm, "Dress", seed=5, num_images=2, sampler=DEFAULT_SAMPLER, num_steps=6, guidance_scale=2.0)
    )
    assert [frame.index for frame in frames] == list(range(6))
    images = ldm.pipeline([3, 3], [5, 6], num_inference_steps=6, guidance_scale=2.0, output_type="pt").images
    assert torch.equal(frames[-1].predicted, crop(images * 255, SPEC).round().byte())


def test_long_runs_keep_about_a_hundred_frames_and_the_last(ldm):
    frames = list(denoise_images(ldm, "Bag", 0, sampler="ddpm", num_steps=250, guidance_scale=1.0))
    assert len(frames) <= MAX_KEPT_FRAMES
    assert frames[-1].index == 249


def test_one_of_each_class_gives_at_least_that_many(ldm):
    frame = next(denoise_images(ldm, None, 0, sampler="ddim", num_steps=1, guidance_scale=1.0))
    assert len(frame.predicted) == 10


def test_denoising_refuses_what_it_cannot_do(ldm, vae_folder):
    options = {"sampler": "ddim", "num_steps": 2, "guidance_scale": 1.0}
    with pytest.raises(ValueError, match="is an autoencoder"):
        next(denoise_images(read_checkpoint(vae_folder), "Bag", 0, **options))
    with pytest.raises(ValueError, match=f"1 to {MAX_IMAGES}"):
        next(denoise_images(ldm, "Bag", 0, MAX_IMAGES + 1, **options))
    with pytest.raises(ValueError, match="unknown class"):
        next(denoise_images(ldm, "Teapot", 0, **options))
    with pytest.raises(ValueError, match="one request may cost 20: ask for"):
        next(denoise_images(ldm, "Bag", 0, MAX_IMAGES, **options | {"num_steps": 250}, max_gflops=20))
    with pytest.raises(ValueError, match="unknown sampler"):
        next(denoise_images(ldm, "Bag", 0, **options | {"sampler": "nonsense"}))


def test_sizes_are_compared_on_the_same_images_and_seeds(ldm_folder, vae_folder, image):
    library = open_library(ldm_folder.parents[1], vae_folder.parents[1])
    names = ["tiny-ldm", "tiny-vae", "tiny-ldm"]
    first, second = compare_sizes(library, names, image.pixels, seed=0, num_steps=2)
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.images[0], crop(to_uint8(image.pixels), SPEC)[0])
    assert len(first.images) == len(first.reconstructions) == 11
    assert torch.equal(first.errors, to_model(first.reconstructions) - to_model(first.images))
    assert first.samples.shape == (10, 1, 28, 28)
    assert second.samples is None
    with pytest.raises(ValueError, match="at least one"):
        list(compare_sizes(library, [], image.pixels, seed=0, num_steps=2))


def test_gflops_grow_with_the_steps(ldm):
    few, many = (measure_cost(ldm).per_sample(steps) for steps in (1, 3))
    assert few < many < 3 * few


@pytest.mark.usefixtures("vae_folder")
def test_a_library_names_what_it_passes_over_and_keeps_same_names_apart(ldm_folder, tmp_path):
    (tmp_path / "fashion_mnist" / "empty").mkdir(parents=True)
    foreign = tmp_path / "somewhere" / "foreign"
    shutil.copytree(ldm_folder, foreign)
    library = open_library(ldm_folder.parents[1], ldm_folder.parents[1], tmp_path, Path("/nonexistent"))
    assert library.names("ldm") == ["tiny-ldm", "tiny-ldm (2)", "foreign"]
    assert [library.get(name).name for name in library.names("ldm")] == library.names("ldm")
    assert {skip.folder.name for skip in library.skipped} == {"empty", "nonexistent"}
    assert library.get("foreign").spec.class_names == tuple("0123456789"), "nothing says what its images are"
    with pytest.raises(ValueError, match="choose one of tiny-ldm"):
        library.get("nothing")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "images/1/00001.png").write_bytes(b"no picture"), "00001.png is no picture"),
        (lambda folder: Image.new("RGB", (9, 16)).save(folder / "images/1/00001.png"), "9 x 16 pixels, not 16 x 16"),
        (lambda folder: shutil.rmtree(folder / "images"), "holds no test images"),
        (lambda folder: _film_file(folder).write_bytes(b"no picture"), "webp is no picture"),
        (lambda folder: Image.new("RGB", (9, 16)).save(_film_file(folder)), "no strip of squares"),
    ],
    ids=["broken image", "size", "no images", "broken film", "film size"],
)
def test_a_checkpoint_with_broken_pictures_is_passed_over_by_name(color_folder, tmp_path, damage, said):
    folder = tmp_path / "pictures" / "tiny-color"
    shutil.copytree(color_folder, folder)
    damage(folder)
    library = open_library(tmp_path)
    assert library.names() == []
    assert said in library.skipped[0].reason


def _film_file(folder):
    """A frame of the run's own, to be damaged: one that it did not write would not count."""
    RunFolder(folder).write_bytes("film/step-000000001.webp", b"")
    return folder / "film" / "step-000000001.webp"


def test_the_classifier_of_a_folder_of_images_lies_beside_its_checkpoints(color_folder, tmp_path):
    shutil.copytree(color_folder, tmp_path / "pictures" / "tiny-color")
    assert open_library(tmp_path).classifiers == {}
    save_model(FeatureNet(3, 2, widths=(8, 8, 8)), tmp_path / "pictures" / "features" / "features")
    assert open_library(tmp_path).classifiers.keys() == {"folder:pictures"}


def test_to_model_is_not_in_place(ldm):
    images = example_images(ldm).images
    before = images.clone()
    to_model(images[:1])
    assert torch.equal(images, before)
