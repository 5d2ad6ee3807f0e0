"""The page as a whole: which rooms, which images to choose from, and what it says where something is missing."""

import base64
import io
import shutil

import gradio as gr
import pytest
import torch
from PIL import Image

from ldm_explorer.explore.library import Library, open_library
from ldm_explorer.ui.answers import one_sentence
from ldm_explorer.ui.page import build_page
from ldm_explorer.ui.pictures import Picture, error_map, grid, notice, picture_row
from ldm_explorer.ui.rooms import ROOMS, denoising, reconstruction
from ldm_explorer.ui.thumbnails import ImageSets


@pytest.fixture(scope="module")
def library(ldm_folder, vae_folder) -> Library:
    return open_library(ldm_folder.parents[1], vae_folder.parents[1])


@pytest.fixture(scope="module")
def mixed_library(ldm_folder, color_folder) -> Library:
    return open_library(ldm_folder.parents[1], color_folder.parents[1])


@pytest.mark.parametrize("room", [reconstruction, denoising], ids=lambda room: room.NAME)
def test_a_checkpoint_over_other_images_is_shown_in_colour(mixed_library, room):
    chosen = room.SETTINGS(checkpoint="tiny-color", class_name="red")
    *_, (show, *_) = room.answer(mixed_library, chosen, None)
    first = show["frames"][0]["sides"][0][0]["src"].partition(",")[2]
    assert Image.open(io.BytesIO(base64.b64decode(first))).mode == "RGB"


def test_the_images_to_choose_from_follow_the_checkpoint(mixed_library):
    images = ImageSets.read(mixed_library)
    rows = {name: images.sets[number].rows for name, number in images.of.items()}
    assert rows["tiny-color"] == (("green", 4), ("red", 4))
    assert dict(rows["tiny-ldm"])["Bag"] == 10


def test_a_class_without_a_test_image_is_not_offered(color_folder, tmp_path):
    folder = tmp_path / "pictures" / "tiny-color"
    shutil.copytree(color_folder, folder)
    shutil.rmtree(folder / "images" / "1")
    library = open_library(tmp_path)
    assert [name for name, _ in ImageSets.read(library).sets[0].rows] == ["green"]
    build_page(library)


def test_what_nobody_foresaw_is_one_sentence_too():
    with pytest.raises(gr.Error, match="the app goes on") as shown, one_sentence():
        raise RuntimeError("secret detail")
    assert "secret" not in str(shown.value)


def test_the_page_stands_with_autoencoders_alone(vae_folder):
    library = open_library(vae_folder.parents[1])
    build_page(library)
    with pytest.raises(ValueError, match="tiny-vae is an autoencoder: choose a checkpoint with a denoiser"):
        list(denoising.answer(library, denoising.SETTINGS(checkpoint="tiny-vae", class_name="Bag"), None))


def test_the_page_stands_with_nothing_to_show(tmp_path):
    app = build_page(open_library(tmp_path)).app
    texts = [block.value for block in app.blocks.values() if isinstance(block, gr.Markdown)]
    assert any("No checkpoint was found" in text for text in texts)


def test_every_room_asks_a_question_and_is_a_documented_endpoint(library):
    assert all(room.QUESTION.endswith("?") for room in ROOMS)
    endpoints = build_page(library).app.get_api_info()["named_endpoints"]
    assert {room.NAME.replace("-", "_") for room in ROOMS} <= {name.strip("/") for name in endpoints}
    assert all(len(endpoint.get("description", "")) > 40 for endpoint in endpoints.values())


def test_grid_places_images_row_by_row():
    images = torch.arange(3, dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 1, 2, 2) + 10
    whole = grid(images)
    assert whole.shape == (1, 5, 5)
    assert [int(whole[0, y, x]) for y, x in ((0, 0), (0, 3), (3, 0), (3, 3))] == [10, 11, 12, 0]


def test_error_map_is_black_orange_and_blue():
    error = torch.tensor([[[0.0, 1.0, -1.0]]])
    black, bright, dark = error_map(error).permute(1, 2, 0)[0].tolist()
    assert black == [0, 0, 0]
    assert bright[0] > bright[2]
    assert dark[2] > dark[0]


def test_captions_are_escaped():
    html = picture_row([Picture(torch.zeros(1, 2, 2, dtype=torch.uint8), "<b>", "a & b")], "<script>")
    assert "<script>" not in html
    assert "a &amp; b" in html
    assert notice([]) == ""
    assert "&lt;" in notice(["<"])
