import shutil

import gradio as gr
import pytest
import torch

from ldm_explorer.explore.library import Library, open_library
)
from ldm_explorer.ui.common import bind, class_choices, example_classes, offer_images
from ldm_explorer.ui.pictures import Picture, error_map, grid, notice, picture_row

IMAGE = ("tiny-ldm", "Ankle boot", 1, None)


@pytest.fixture(scope="module")
def library(ldm_folder, vae_folder) -> Library:
    return open_library(ldm_folder.parents[1], vae_folder.parents[1])




COLOR_IMAGE = ("tiny-color", "red", 1, None)


@pytest.fixture(scope="module")
def mixed_library(ldm_folder, color_folder) -> Library:
    return open_library(ldm_folder.parents[1], color_folder.parents[1])


def test_a_checkpoint_over_other_images_is_shown_in_colour_in_every_tab(mixed_library):
    build_app(mixed_library)


def test_checkpoints_over_other_images_are_not_compared(mixed_library):


def test_the_classes_to_choose_from_follow_the_checkpoint(mixed_library):
    class_name, number = offer_images(mixed_library, "tiny-color", "Ankle boot", 7)
    assert (class_name["choices"], class_name["value"], number["maximum"]) == (["green", "red"], "red", 4)
    assert number["value"] == 4
    assert offer_images(mixed_library, "tiny-ldm", "Bag", 7)[0]["value"] == "Bag"


def test_a_class_without_a_test_image_is_not_offered(color_folder, tmp_path):
    folder = tmp_path / "pictures" / "tiny-color"
    shutil.copytree(color_folder, folder)
    shutil.rmtree(folder / "images" / "1")
    library = open_library(tmp_path)
    assert example_classes(library, "tiny-color") == ["green"]
    assert class_choices(library, "tiny-color") == ["green", "red"]
    build_app(library)


def test_what_nobody_foresaw_is_one_sentence_too(library):
    def broken(_, number):  # noqa: ARG001 (an input by its name)
        raise RuntimeError("secret detail")

    with pytest.raises(gr.Error, match="the app goes on") as shown:
        bind(broken, library)(1)
    assert "secret" not in str(shown.value)


def test_the_app_starts_with_autoencoders_alone(vae_folder):
    endpoints = build_app(open_library(vae_folder.parents[1])).get_api_info()["named_endpoints"]
    assert "/reconstruct" in endpoints
    assert "/denoise" not in endpoints


def test_the_app_starts_with_nothing_to_show(tmp_path):
    app = build_app(open_library(tmp_path))
    texts = [block.value for block in app.blocks.values() if isinstance(block, gr.Markdown)]
    assert any("No checkpoint was found" in text for text in texts)


def test_every_tab_asks_a_question_and_every_action_is_a_documented_endpoint(library):
    assert all(tab.TITLE.endswith("?") for tab in TABS)
    endpoints = build_app(library).get_api_info()["named_endpoints"]
    expected = {"reconstruct", "plot_schedules", "noise_image", "denoise", "show_training", "plot_loss"}
    expected |= {
        "compare_sizes",
        "compare_pictures",
        "interpolate_images",
        "map_kl",
        "size_figures",
        "few_evaluations",
        "show_moment",
        "diagnose",
    }
    assert {name.strip("/") for name in endpoints} == expected
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
