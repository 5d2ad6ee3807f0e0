import shutil
from dataclasses import replace
from itertools import pairwise

import gradio as gr
import pytest
import torch

from ldm_explorer.evaluation.cost import measure_cost
from ldm_explorer.explore.denoising import denoise_images
from ldm_explorer.explore.library import Library, open_library
from ldm_explorer.explore.size_answer import NOT_KNOWN
from ldm_explorer.schedules import SCHEDULES
from ldm_explorer.ui import (
    TABS,
    build_app,
    denoising,
    lab,
    latent_size,
    latent_views,
    reconstruction,
    schedule,
)
from ldm_explorer.ui.common import bind, class_choices, example_classes, offer_images
from ldm_explorer.ui.pictures import Picture, error_map, grid, notice, picture_row

IMAGE = ("tiny-ldm", "Ankle boot", 1, None)


@pytest.fixture(scope="module")
def library(ldm_folder, vae_folder) -> Library:
    return open_library(ldm_folder.parents[1], vae_folder.parents[1])


def test_reconstruction_shows_both_autoencoders_with_their_figures(library):
    html = reconstruction.reconstruct(library, *IMAGE, "tiny-vae")
    assert html.count("<img") == 2 * (3 + 4)
    assert html.count("<span>PSNR") == 2
    assert "tiny-vae: 8x8x4 = 256 values" in html


def test_schedule_tab_speaks_of_every_schedule(library):
    words, *figures = schedule.plot_schedules(library, 1000, 1e-4, 0.02)
    assert [len(figure.data) for figure in figures] == [len(SCHEDULES)] * 4
    assert words.count("terminal SNR") == len(SCHEDULES)
    html = schedule.noise_along_schedules(library, *IMAGE, 0, 1000, 1e-4, 0.02)
    assert html.count("<img") == len(SCHEDULES) * 2 * 7


def test_denoising_streams_every_step_and_each_travels_once(library):
    streamed = list(denoising.denoise(library, "tiny-ldm", 0, "Bag", "ddim", 5, 1.5, 2))
    assert [pictures.count('<div class="ldm-frame">') for pictures, _ in streamed] == [1, 2, 3, 4, 5]
    assert all(later.startswith(earlier) for (earlier, _), (later, _) in pairwise(streamed))
    assert [slider["value"] for _, slider in streamed] == [1, 2, 3, 4, 5]


def test_a_request_that_costs_too_much_is_refused_with_what_would_fit(library):
    cost = measure_cost(library.get("tiny-ldm"))
    per_step = cost.evaluation_gflops + 2 * cost.decode_gflops
    small = replace(library, max_gflops=40.5 * per_step)
    assert len(list(denoising.denoise(small, "tiny-ldm", 0, "Bag", "ddim", 10, 1, 4))) == 10
    with pytest.raises(ValueError, match="ask for 10 steps or 3 images"):
        next(denoising.denoise(small, "tiny-ldm", 0, "Bag", "ddim", 11, 1, 4))
    with pytest.raises(ValueError, match="ask for 4 steps or 4 images"):
        next(denoising.denoise(small, "tiny-ldm", 0, denoising.EVERY_CLASS, "ddim", 10, 1, 1))
    assert len(list(denoising.denoise(library, "tiny-ldm", 0, "Bag", "ddim", 11, 1, 4))) == 11


def test_the_film_of_a_training_is_shown_moment_by_moment(library):
    last, slider, shown = denoising.open_film(library, "tiny-ldm")
    assert (slider["maximum"], slider["value"], shown["visible"]) == (4, 4, True)
    assert last == denoising.show_training(library, "tiny-ldm", 4)
    assert last.count("<img") == 12
    assert "After 5 of 5 training steps" in last
    assert "After 2 of 5 training steps" in denoising.show_training(library, "tiny-ldm", 2)
    assert "Ankle boot" in last


def test_a_run_without_a_film_hides_it(library):
    pictures, _, shown = denoising.open_film(library, "tiny-vae")
    assert (pictures, shown["visible"]) == ("", False)
    with pytest.raises(ValueError, match="no film"):
        denoising.show_training(library, "tiny-vae", 1)


def test_latent_size_tab_shows_dashes_for_what_was_not_measured(library):
    words, _, _, _, table, *_ = latent_size.show_measures(library, "tiny-ldm", ["tiny-ldm", "tiny-vae"])
    assert words == NOT_KNOWN
    assert "<td>\u2013</td>" in table
    with pytest.raises(ValueError, match="at least one"):
        latent_size.show_measures(library, "tiny-ldm", [])
    with pytest.raises(ValueError, match="at least one"):
        list(latent_size.compare_pictures(library, *IMAGE, 0, []))


COLOR_IMAGE = ("tiny-color", "red", 1, None)


@pytest.fixture(scope="module")
def mixed_library(ldm_folder, color_folder) -> Library:
    return open_library(ldm_folder.parents[1], color_folder.parents[1])


def test_a_checkpoint_over_other_images_is_shown_in_colour_in_every_tab(mixed_library):
    html = reconstruction.reconstruct(mixed_library, *COLOR_IMAGE, "tiny-color")
    assert "8x8x2 = 128 values, 6.0 times fewer than pixels" in html
    assert "red, test image 1" in html
    html = schedule.noise_along_schedules(mixed_library, *COLOR_IMAGE, 0, 1000, 1e-4, 0.02)
    assert html.count("<img") == len(SCHEDULES) * 2 * 7
    *_, step = denoise_images(
        mixed_library.get("tiny-color"), "red", 0, sampler="ddim", num_steps=2, guidance_scale=1.0
    )
    assert step.predicted.shape == (1, 3, 16, 16)
    assert list(latent_size.compare_pictures(mixed_library, *COLOR_IMAGE, 0, ["tiny-color"]))[-1].count("<img") == 4
    assert latent_views.interpolate_images(mixed_library, *COLOR_IMAGE, "Bag", 1, ["tiny-ldm"]).count("<img") == 2
    build_app(mixed_library)


def test_checkpoints_over_other_images_are_not_compared(mixed_library):
    assert "tiny-color was trained on other images" in reconstruction.reconstruct(mixed_library, *IMAGE, "tiny-color")
    pictures = list(latent_size.compare_pictures(mixed_library, *IMAGE, 0, ["tiny-ldm", "tiny-color"]))[-1]
    assert "tiny-color was trained on other images" in pictures
    assert "tiny-ldm: 8x8x4" in list(latent_size.compare_pictures(mixed_library, *IMAGE, 0, ["tiny-color"]))[-1]
    table = latent_size.show_measures(mixed_library, "tiny-ldm", ["tiny-color"])[4]
    assert "tiny-ldm" in table
    assert "tiny-color" not in table


def test_the_classes_to_choose_from_follow_the_checkpoint(mixed_library):
    class_name, number = offer_images(mixed_library, "tiny-color", "Ankle boot", 7)
    assert (class_name["choices"], class_name["value"], number["maximum"]) == (["green", "red"], "red", 4)
    assert number["value"] == 4
    assert offer_images(mixed_library, "tiny-ldm", "Bag", 7)[0]["value"] == "Bag"
    to_generate = denoising.offer_classes(mixed_library, "tiny-color", "Bag")
    assert to_generate["choices"] == [denoising.EVERY_CLASS, "green", "red"]
    every = denoising.offer_classes(mixed_library, "tiny-color", denoising.EVERY_CLASS)
    assert (every["choices"], every["value"]) == (to_generate["choices"], denoising.EVERY_CLASS)


def test_a_class_without_a_test_image_is_not_offered(color_folder, tmp_path):
    folder = tmp_path / "pictures" / "tiny-color"
    shutil.copytree(color_folder, folder)
    shutil.rmtree(folder / "images" / "1")
    library = open_library(tmp_path)
    assert example_classes(library, "tiny-color") == ["green"]
    assert class_choices(library, "tiny-color") == ["green", "red"]
    build_app(library)


def test_a_class_of_the_checkpoint_before_is_any_class_and_an_unknown_one_is_refused(mixed_library):
    assert "test image 0" in reconstruction.reconstruct(mixed_library, "tiny-color", "Bag", 1, None, "tiny-color")
    with pytest.raises(ValueError, match="unknown class 'Teapot'"):
        reconstruction.reconstruct(mixed_library, "tiny-color", "Teapot", 1, None, "tiny-color")


def test_refusals_become_one_sentence(library):
    with pytest.raises(gr.Error, match="choose one of"):
        bind(reconstruction.reconstruct, library)("nothing", "Bag", 1, None, "tiny-vae")
    with pytest.raises(gr.Error, match="seed is empty"):
        list(bind(denoising.denoise, library)("tiny-ldm", None, "Bag", "ddim", 5, 1, 1))
    with pytest.raises(gr.Error, match="give 1 to"):
        list(bind(denoising.denoise, library)("tiny-ldm", 0, "Bag", "ddim", 5000, 1, 1))


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
        "show_velocity",
        "check_formula",
        "show_moment",
        "break_it",
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


def test_the_lab_runs_again_only_where_another_checkpoint_or_seed_was_chosen(library):
    *_, (*_, ran) = lab.break_it(library, "tiny-ldm", 0, "clip_sample", "network")
    (same,) = lab.catch_up(library, "tiny-ldm", 0, "clip_sample", "network", ran)
    assert all(update == gr.skip() for update in same)
    *_, (words, pictures, *_, again) = lab.catch_up(library, "tiny-ldm", 1, "clip_sample", "network", ran)
    assert "from seed 1" in words
    assert again == ("tiny-ldm", 1, "clip_sample", "network")
    assert pictures.count('<div class="ldm-frame">') == 25
    assert "step 2 of 25" in pictures.split('<div class="ldm-frame">')[2]
