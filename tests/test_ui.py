"""The page as a whole: what it opens with, which choices it offers, and how a question fails."""

import base64
import io
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import pytest
import torch
from PIL import Image

from ldm_explorer.explore.library import Library, open_library
from ldm_explorer.ui.answers import RESULTS, answering, one_sentence
from ldm_explorer.ui.images import default_image
from ldm_explorer.ui.page import build_page
from ldm_explorer.ui.pictures import Picture, error_map, grid, notice, picture_row
from ldm_explorer.ui.rooms import ROOMS, denoising, reconstruction
from ldm_explorer.ui.server.launch import launch
from ldm_explorer.ui.server.limits import LIMITS
from ldm_explorer.ui.thumbnails import ImageSets


@pytest.mark.parametrize("room", [reconstruction, denoising], ids=lambda room: room.NAME)
def test_a_checkpoint_over_other_images_is_shown_in_colour(mixed_library, room):
    chosen = room.SETTINGS(checkpoint="tiny-color", class_name="red")
    *_, (show, *_) = room.answer(mixed_library, chosen, None)
    first = show["frames"][0]["sides"][0][0]["src"].partition(",")[2]
    assert Image.open(io.BytesIO(base64.b64decode(first))).mode == "RGB"


def test_the_images_to_choose_from_are_those_of_the_checkpoint(mixed_library):
    images = ImageSets.read(mixed_library)
    of_color, of_grey = (images.described()[images.of[name]]["classes"] for name in ("tiny-color", "tiny-ldm"))
    assert of_color == [{"name": "green", "count": 4}, {"name": "red", "count": 4}]
    assert {"name": "Bag", "count": 10} in of_grey
    assert default_image(mixed_library.get("tiny-color")) == ("red", 1)


def test_another_checkpoint_has_other_classes_and_takes_the_image_that_it_has(browser, mixed_library):
    page = build_page(mixed_library)
    address = launch(page.app, LIMITS["off"], quiet=True, **page.options)
    tab = browser.new_page()
    tab.goto(f"{address}?room=reconstruction&checkpoint=tiny-color&class_name=Bag&number=7")
    tab.get_by_text("red, test image").first.wait_for()
    chosen = tab.evaluate("() => [ldm.state.values.class_name, ldm.state.values.number]")
    offered = tab.eval_on_selector_all(".ldm-picker button", "found => found.map(button => button.dataset.name)")
    tab.close()
    page.app.close()
    assert chosen == ["red", 4]
    assert offered == ["green"] * 4 + ["red"] * 4


def test_a_class_without_a_test_image_is_not_offered_and_can_be_generated(color_folder, tmp_path):
    folder = tmp_path / "pictures" / "tiny-color"
    shutil.copytree(color_folder, folder)
    shutil.rmtree(folder / "images" / "1")
    library = open_library(tmp_path)
    (images,) = ImageSets.read(library).sets
    assert images.rows == (("green", 4),)
    chosen = denoising.SETTINGS(checkpoint="tiny-color", class_name="red", steps=2)
    assert list(denoising.answer(library, chosen, None))
    build_page(library)


def ask(room, library: Library, question: str) -> list:
    return list(answering(room, library, RESULTS)(question))


def test_refusals_become_one_sentence(library):
    for room, question, said in (
        (reconstruction, "checkpoint=nothing&class_name=Bag", "choose one of"),
        (reconstruction, "checkpoint=tiny-ldm&class_name=Teapot", "unknown class 'Teapot'"),
        (denoising, "checkpoint=tiny-ldm&class_name=Bag&seed=", "Seed is ''"),
        (denoising, "checkpoint=tiny-ldm", "Class is missing: give class_name"),
        (denoising, "checkpoint=tiny-ldm&class_name=Bag&steps=5000", "Steps is '5000': give"),
    ):
        with pytest.raises(gr.Error, match=said):
            ask(room, library, question)


def test_an_answer_of_one_library_is_not_given_for_another(library):
    question = "checkpoint=tiny-ldm&class_name=Bag&steps=2"
    assert ask(denoising, library, question)
    with pytest.raises(gr.Error, match="one request may cost"):
        ask(denoising, replace(library, max_gflops=1e-9), question)


def test_what_nobody_foresaw_is_one_sentence_too():
    with pytest.raises(gr.Error, match="the app goes on") as shown, one_sentence():
        raise RuntimeError("secret detail")
    assert "secret" not in str(shown.value)


def test_on_a_space_with_lent_gpus_long_work_asks_for_one(library, monkeypatch):
    asked = []
    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=lambda handler: asked.append(handler) or handler))
    for room in ROOMS:
        handler = answering(room, library, RESULTS)
        assert (handler in asked) == (room.WORK.name == "long")
        assert handler.work is room.WORK
    assert asked


def test_the_app_starts_with_autoencoders_alone(vae_folder):
    library = open_library(vae_folder.parents[1])
    endpoints = build_page(library).app.get_api_info()["named_endpoints"]
    assert "/reconstruction" in endpoints
    assert ask(reconstruction, library, "checkpoint=tiny-vae&class_name=Bag")
    with pytest.raises(gr.Error, match="tiny-vae"):
        ask(denoising, library, "checkpoint=tiny-vae&class_name=Bag")


def test_the_app_starts_with_nothing_to_show(tmp_path):
    app = build_page(open_library(tmp_path)).app
    texts = [block.value for block in app.blocks.values() if isinstance(block, gr.Markdown)]
    assert any("No checkpoint was found" in text for text in texts)


def test_every_room_asks_a_question_and_every_endpoint_is_documented(mixed_library):
    assert all(room.QUESTION.endswith("?") for room in ROOMS)
    endpoints = build_page(mixed_library).app.get_api_info()["named_endpoints"]
    assert len(endpoints) > len(ROOMS)
    assert all(len(endpoint.get("description", "")) > 30 for endpoint in endpoints.values())


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
