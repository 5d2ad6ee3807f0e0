"""One loader: what a foreign model's images, latents and labels are, as far as its folder or who opens it says."""

import io
import shutil

import numpy as np
import pytest
import torch
from folder_edits import edit_json
from foreign_models import save_latents, save_pixels, small_unet, small_vae
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from ldm_explorer import sources
from ldm_explorer.data import DATASETS, to_model, to_uint8
from ldm_explorer.diagnosis import case as case_module
from ldm_explorer.diagnosis.folder import open_case
from ldm_explorer.examples import PER_CLASS
from ldm_explorer.explore.denoising import denoise_images
from ldm_explorer.explore.export import denoising_script
from ldm_explorer.explore.images import example_image, example_images
from ldm_explorer.explore.library import Library, open_library
from ldm_explorer.files import CheckpointError
from ldm_explorer.samplers import make_sampler, set_timesteps
from ldm_explorer.sources import labels_of, open_source
from ldm_explorer.standalone_pipeline import SAMPLERS
from ldm_explorer.ui.images import default_image
from ldm_explorer.ui.rooms import ROOMS
from ldm_explorer.ui.thumbnails import image_set


def draw_images(folder, subfolders, count=30):
    """Grey ramps and their like, of no size that a model here has."""
    for place, name in enumerate(subfolders):
        (folder / name).mkdir(parents=True)
        for number in range(count // len(subfolders)):
            ramp = (np.mgrid[:20, :24].sum(0) * (1 + place) + 7 * number) % 256
            Image.fromarray(ramp.astype(np.uint8)).save(folder / name / f"{number:03d}.png")
    return folder


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """Images in three subfolders, 0 to 2."""
    return draw_images(tmp_path_factory.mktemp("images") / "numbered", "012")


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    """A model of pixels with three labels."""
    return save_pixels(tmp_path_factory.mktemp("foreign") / "models" / "pixels", small_unet(num_class_embeds=3))


@pytest.fixture(scope="module")
def latents(pixels):
    """A model of latents without labels, beside it."""
    return save_latents(pixels.parent / "latents")


def test_what_has_our_names_by_chance_is_somebody_elses(pixels, tmp_path):
    folder = shutil.copytree(pixels, tmp_path / "models" / "mine")
    (folder / "train_config.json").write_text('{"learning_rate": 1e-4}')
    assert open_source(folder).kind == "pixel"
    edit_json(folder / "model_index.json", _class_name="LatentDiffusionPipeline")
    opened = open_source(folder)
    assert (opened.kind, opened.denoiser.num_classes, opened.denoiser.null_class) == ("pixel", 3, None)


def test_a_name_that_is_too_long_is_no_folder():
    with pytest.raises(CheckpointError, match="is no folder"):
        open_source("x" * 300)


def test_only_the_images_that_are_shown_are_decoded(pixels, tmp_path, monkeypatch):
    folder = draw_images(tmp_path / "images", "012", count=6)
    for broken in ("0/001.png", "1/001.png", "2/000.png"):
        (folder / broken).write_bytes(b"no picture")
    monkeypatch.setattr(sources, "MAX_EXAMPLES", 3)  # the first, the third and the last
    examples = open_source(pixels, images=folder).told_examples
    assert examples.labels.tolist() == [0, 1, 2]


def test_all_labels_of_a_foreign_model_are_classes_and_none_means_no_label(pixels):
    checkpoint = open_source(pixels)
    assert (checkpoint.denoiser.num_classes, checkpoint.denoiser.null_class) == (3, None)
    assert checkpoint.spec.class_names == ("0", "1", "2")
    images = checkpoint.pipeline([0, 1, 2], [0, 0, 0], num_inference_steps=2, output_type="pt").images
    assert not torch.equal(images[0], images[2])
    with pytest.raises(ValueError, match=r"class labels \[3\]: give 0 to 2$"):
        checkpoint.pipeline([3], [0])
    with pytest.raises(ValueError, match="guidance needs class labels and a network trained with a null class"):
        checkpoint.pipeline([0], [0], guidance_scale=2.0)
    with pytest.raises(ValueError, match="this network knows 3 classes and no null class: give class labels"):
        checkpoint.pipeline(None, [0])
    assert open_case(pixels).denoiser.null_class is None


@pytest.mark.parametrize(("embeddings", "null_class"), [(10, None), (11, 10)])
def test_whose_images_they_are_says_whether_the_last_label_is_a_class(tmp_path, embeddings, null_class):
    folder = save_pixels(
        tmp_path / "mine", small_unet(in_channels=1, out_channels=1, sample_size=32, num_class_embeds=embeddings)
    )
    assert open_source(folder).denoiser.null_class is None
    checkpoint = open_source(folder, dataset="fashion_mnist")
    assert (checkpoint.denoiser.num_classes, checkpoint.denoiser.null_class) == (10, null_class)
    assert checkpoint.spec == DATASETS["fashion_mnist"].spec
    assert len(example_images(checkpoint).images) > 10
    beside = folder.rename(folder.parent / "fashion_mnist")
    assert open_source(beside).denoiser.null_class is None, "that is its own name"


def test_a_folder_of_a_known_dataset_says_what_lies_in_it_where_that_can_be(tmp_path):
    grey = {"in_channels": 1, "out_channels": 1, "sample_size": 28}
    fits = save_pixels(tmp_path / "mnist" / "fits", small_unet(**grey))
    other = save_pixels(tmp_path / "mnist" / "other", small_unet())
    assert open_source(fits).spec.class_names == tuple("0123456789")
    assert open_source(fits).spec.model_side == 28
    assert (open_source(other).dataset, open_source(other).spec.side) == ("other", 16)


@pytest.mark.parametrize(
    ("dataset", "said"), [("cifar10", "side 16 and 3 labels, cifar10 of 3 and 32"), ("cats", "unknown dataset 'cats'")]
)
def test_a_dataset_that_it_cannot_be_of_is_refused(pixels, dataset, said):
    with pytest.raises(CheckpointError, match=said):
        open_source(pixels, dataset=dataset)


def test_images_in_numbered_subfolders_show_which_label_is_a_class(pixels, numbered, tmp_path):
    checkpoint = open_source(pixels, images=numbered)
    assert (checkpoint.spec.num_classes, checkpoint.denoiser.null_class) == (3, None)
    assert example_images(checkpoint).labels.unique().tolist() == [0, 1, 2]
    assert example_image(checkpoint, "2", 0).caption == "2, image 1 of yours", "nobody says that they are a test split"
    one_more = save_pixels(tmp_path / "one-more", small_unet(num_class_embeds=4))
    assert (open_source(one_more, images=numbered).denoiser.num_classes) == 3
    assert open_source(one_more, images=numbered).denoiser.null_class == 3


def test_what_is_cut_out_of_the_picture_of_all_images_is_the_image_of_that_class_and_number(pixels, tmp_path):
    folder = draw_images(tmp_path / "images", "012", count=45)
    for number in range(9):  # as many of a class as of another is luck
        (folder / "1" / f"{number:03d}.png").unlink()
    checkpoint = open_source(pixels, images=folder)
    assert example_images(checkpoint).labels.diff().min() < 0, "split by split, so not class by class"
    shown = image_set(checkpoint).thumbnails()
    assert shown.rows == (("0", PER_CLASS), ("1", 6), ("2", PER_CLASS))
    whole, side = pil_to_tensor(Image.open(io.BytesIO(shown.png))), checkpoint.spec.side
    for row, (name, count) in enumerate(shown.rows):
        for column in range(count):
            cut = whole[:, row * side : (row + 1) * side, column * side : (column + 1) * side]
            image = to_uint8(example_image(checkpoint, name, column).pixels[0])
            assert torch.equal(cut.expand_as(image), image), (name, column)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_pixels_are_clipped_by_every_sampler_where_their_scheduler_says_so_and_latents_by_none(
    pixels, latents, sampler
):
    *_, clipped = open_source(pixels).pipeline.denoise([0, 1], range(2), num_inference_steps=3, sampler=sampler)
    assert float(clipped.z_next.abs().max()) <= 1
    *_, free = open_source(latents).pipeline.denoise(None, range(2), num_inference_steps=3, sampler=sampler)
    assert float(free.z_next.abs().max()) > 1


def test_subfolders_of_other_names_are_of_no_known_class(pixels, tmp_path):
    checkpoint = open_source(pixels, images=draw_images(tmp_path / "images", ("cat", "dog", "emu")))
    assert example_images(checkpoint).labels is None
    assert default_image(checkpoint) == ("any", 1)
    assert example_image(checkpoint, None, 0).caption == "image 1 of yours"
    assert checkpoint.spec.class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("folders", "labels"),
    [
        (("ankle_boot", "bag", "T-shirt top"), [3, 2, 0]),
        (("tshirt", "bag"), [0, 2]),
        (("0", "3"), [0, 3]),
        (("4",), None),
        (("bag", "boot"), None),
        ((), None),
    ],
)
def test_a_subfolder_is_a_class_by_its_name_or_number_alone(folders, labels):
    assert labels_of(folders, ("T-shirt/top", "Trouser", "Bag", "Ankle boot")) == labels


def test_latents_are_scaled_as_diffusers_does_where_no_statistics_are_stored(tmp_path):
    vae = small_vae(scaling_factor=0.5, shift_factor=0.25)
    save_latents(tmp_path, vae=vae)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    raw = vae.encode(images).latent_dist.mean
    codec = open_source(tmp_path).codec
    assert torch.allclose(codec.encode(images), (raw - 0.25) * 0.5, atol=1e-6)
    assert torch.allclose(codec.decode(codec.encode(images)), vae.decode(raw).sample, atol=1e-5)


def test_latents_without_any_scale_are_measured_on_the_images_that_are_given(tmp_path, numbered):
    folder = save_latents(tmp_path / "model")
    edit_json(folder / "vae" / "config.json", scaling_factor=None)
    with pytest.raises(CheckpointError, match=r"no latents_mean and latents_std.* --images"):
        _ = open_source(folder).codec
    checkpoint = open_source(folder, images=numbered)
    posterior = checkpoint.codec.posterior(to_model(example_images(checkpoint).images))
    spread = (posterior.mean.var((0, 2, 3), correction=0) + posterior.std.square().mean((0, 2, 3))).sqrt()
    assert torch.allclose(posterior.mean.mean((0, 2, 3)), torch.zeros(4), atol=1e-3)
    assert torch.allclose(spread, torch.ones(4), atol=1e-3)


def test_pixels_are_their_own_latents(pixels):
    checkpoint, images = open_source(pixels), torch.rand(2, 3, 16, 16)
    codec = checkpoint.codec
    assert torch.equal(codec.encode(images), images)
    assert torch.equal(codec.decode(images), images)
    assert codec.latent_shape == (3, 16, 16)
    with pytest.raises(CheckpointError, match="pixels has no autoencoder: its denoiser works on pixels"):
        _ = checkpoint.vae


def test_steps_that_would_stand_still_are_refused(pixels):
    sampler = open_source(pixels).pipeline.scheduler
    set_timesteps(sampler, 1000)
    with pytest.raises(ValueError, match="with timestep_spacing 'leading' come to a timestep twice: give fewer"):
        set_timesteps(make_sampler("unipc", sampler), 1000)


@pytest.fixture
def _quick_diagnosis(monkeypatch):
    for name in ("MAX_BATCH", "MIN_BATCH", "MAX_IMAGES"):
        monkeypatch.setattr(case_module, name, 4)


OF_AN_IMAGE = {"reconstruction", "velocity", "alphas-betas"}


def answers(library: Library, name: str, left_out: str = "") -> dict[str, str]:
    """What every room says of a checkpoint: "" where it shows something, else its sentence."""
    class_name, number = default_image(library.get(name))
    asked = {"checkpoint": name, "run": name, "class_name": class_name, "number": number, "steps": 1}
    said = {}
    for room in (room for room in ROOMS if left_out != room.NAME):
        fields = {key: value for key, value in asked.items() if key in room.SETTINGS.model_fields}
        try:
            assert list(room.answer(library, room.SETTINGS(**fields), None))
            said[room.NAME] = ""
        except ValueError as error:
            said[room.NAME] = str(error)
    return said


def test_the_script_of_a_foreign_model_makes_the_same_images(pixels, tmp_path, monkeypatch):
    checkpoint, options = open_source(pixels), {"sampler": "ddim", "num_steps": 2, "guidance_scale": 1.0}
    monkeypatch.chdir(tmp_path)
    exec(denoising_script(checkpoint, str(pixels), "1", 3, **options), {})
    *_, last = denoise_images(checkpoint, "1", 3, **options)
    assert torch.equal(pil_to_tensor(Image.open("image-0.png")), last.predicted[0])


@pytest.mark.usefixtures("latents")
def test_a_library_shows_foreign_models_and_every_room_answers_or_says_why_not(pixels):
    library = open_library(pixels.parent)
    assert (library.names(), library.skipped) == (["latents", "pixels"], ())
    assert library.with_denoiser() == ["latents", "pixels"]
    for name in library.names():
        said = answers(library, name, left_out="diagnosis")
        assert {room for room, sentence in said.items() if sentence} == OF_AN_IMAGE
        assert all(f"no images like those of {name} are known: upload one" in said[room] for room in OF_AN_IMAGE)


@pytest.mark.usefixtures("_quick_diagnosis")
def test_with_images_every_room_answers_but_for_what_a_model_of_pixels_does_not_have(pixels, latents, numbered):
    opened = [open_source(folder, images=numbered) for folder in (pixels, latents)]
    library = Library({checkpoint.name: checkpoint for checkpoint in opened}, (), {})
    assert set(answers(library, "latents", left_out="faults").values()) == {""}
    said = answers(library, "pixels", left_out="faults")
    assert {room for room, sentence in said.items() if sentence} == {"reconstruction"}
    assert said["reconstruction"] == "pixels has no autoencoder: its denoiser works on pixels"
