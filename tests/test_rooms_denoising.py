"""The room of denoising: what its answers hold, step by step, for A alone and beside B."""

import re
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from foreign_models import save_pixels

from ldm_explorer.data import to_model
from ldm_explorer.evaluation.cost import measure_cost
from ldm_explorer.evaluation.reconstruction import psnr_db
from ldm_explorer.explore.denoising import denoise_images
from ldm_explorer.explore.export import denoising_script
from ldm_explorer.explore.library import Library, open_library
from ldm_explorer.schedules import make_schedule
from ldm_explorer.ui import few_evaluations
from ldm_explorer.ui.answers import answers, size_of
from ldm_explorer.ui.pictures import difference_map, grid, png_data_uri
from ldm_explorer.ui.results import Results
from ldm_explorer.ui.rooms import denoising
from ldm_explorer.ui.rooms.denoising import DenoisingSettings
from ldm_explorer.ui.server.turns import Job
from ldm_explorer.ui.settings import OfCheckpoint


def settings(**other) -> DenoisingSettings:
    return DenoisingSettings(**{"checkpoint": "tiny-ldm", "class_name": "Bag", "sampler": "ddim", "steps": 5} | other)


def shows(library: Library, chosen: DenoisingSettings, beside: DenoisingSettings | None = None) -> list[dict]:
    """The stage of each answer."""
    return [show for show, *_ in denoising.answer(library, chosen, beside)]


def words(show: dict) -> str:
    return " ".join(f"{name} {value}" for side in show["sides"] for name, value in side["facts"])


@pytest.fixture(scope="module")
def compared(library) -> list[dict]:
    return shows(library, settings(steps=4), settings(steps=2, sampler="unipc"))


def test_every_step_streams_and_travels_once(library):
    streamed = shows(library, settings(guidance=1.5, images=2))
    assert [len(show["frames"]) for show in streamed] == [1, 2, 3, 4, 5, 5, 5]
    assert all(later["frames"][: len(earlier["frames"])] == earlier["frames"] for earlier, later in pairwise(streamed))
    assert [show["done"] for show in streamed] == [False] * 5 + [True] * 2
    assert {show["total"] for show in streamed} == {5}
    assert len({show["id"] for show in streamed}) == 1


def test_a_step_shows_what_the_network_sees_and_what_it_takes_it_for(library):
    (frames,) = (show["frames"] for show in shows(library, settings())[-1:])
    steps = denoise_images(library.get("tiny-ldm"), "Bag", 0, sampler="ddim", num_steps=5, guidance_scale=1)
    log_snr = make_schedule("cosine").snr.log()
    for frame, step in zip(frames, steps, strict=True):
        ((noisy, predicted, *_, histogram, curve),) = frame["sides"]
        assert noisy["src"] == png_data_uri(grid(step.noisy))
        assert predicted["src"] == png_data_uri(grid(step.predicted))
        assert sum(histogram["histogram"]) * 8 / 40 == pytest.approx(1, abs=0.01)
        assert frame["x"] == step.timestep
        assert curve["place"]["at"] == pytest.approx(step.timestep / 999, abs=1e-4)
        assert f"now {float(log_snr[step.timestep].clamp(-20, 20)):.1f}".replace("-0.0", "0.0") in curve["caption"]


def test_a_finished_run_opens_half_way_and_says_so(library):
    last = shows(library, settings())[-1]
    assert last["open_at"] == 2
    assert "The first z0 is a blur" in last["sentence"]


def test_why_not_in_one_step_is_answered_by_the_run(library):
    *_, last = shows(library, settings())
    steps = list(denoise_images(library.get("tiny-ldm"), "Bag", 0, sampler="ddim", num_steps=5, guidance_scale=1))
    db = float(psnr_db(to_model(steps[0].predicted), to_model(steps[-1].predicted)))
    assert f"The first z0 is a blur: PSNR {db:.1f} dB to the result" in last["sentence"]
    assert "This is the one step" in shows(library, settings(steps=1))[-1]["sentence"]


def test_a_run_says_its_evaluations_its_time_and_the_std_of_its_latents(library):
    *_, last = shows(library, settings(guidance=2.0))
    *_, step = denoise_images(library.get("tiny-ldm"), "Bag", 0, sampler="ddim", num_steps=5, guidance_scale=2.0)
    said = words(last)
    assert "evaluations 10" in said
    assert "s with decoding" in said
    assert f"latents' std {float(step.z0.std()):.2f}, in training 1" in said


def test_what_the_std_was_in_training_is_said_where_it_is_known_alone(tmp_path):
    save_pixels(tmp_path / "pixels")
    *_, last = shows(open_library(tmp_path), settings(checkpoint="pixels", class_name="0"))
    assert "pixels' std" in words(last)
    assert "in training" not in words(last)


def test_pixels_are_not_decoded_and_what_a_sampler_without_noise_leaves_in_them_is_said(tmp_path):
    save_pixels(tmp_path / "pixels")
    chosen = settings(checkpoint="pixels", class_name="0", steps=2)
    *_, last = shows(open_library(tmp_path), chosen)
    titles = [picture["title"] for frame in last["frames"] for picture in frame["sides"][0]]
    assert "decod" not in " ".join([*titles, words(last)])
    assert "ddpm in 25 steps or more" in last["sentence"]
    *_, with_noise = shows(open_library(tmp_path), chosen.model_copy(update={"sampler": "ddpm"}))
    assert "ddpm in 25" not in with_noise["sentence"]


def test_b_stands_beside_a_at_the_same_noise_with_the_difference(library, compared):
    last = compared[-1]
    steps = [
        list(denoise_images(library.get("tiny-ldm"), "Bag", 0, sampler=sampler, num_steps=count, guidance_scale=1))
        for sampler, count in (("ddim", 4), ("unipc", 2))
    ]
    a, b = (run[-1].predicted for run in steps)
    assert [side["title"].partition(" ")[0] for side in last["sides"]] == ["A", "B", "Difference"]
    assert torch.equal(steps[0][0].z_t, steps[1][0].z_t), "the same noise"
    (difference,) = last["frames"][-1]["sides"][2]
    assert difference["src"] == png_data_uri(difference_map(grid(a), grid(b)))
    db = float(psnr_db(to_model(a), to_model(b)))
    assert f"results PSNR {db:.1f} dB" in words(last)
    assert f"PSNR {db:.1f} dB" in difference["caption"]


def test_the_walks_go_in_the_order_of_their_noise(compared):
    labels = [frame["label"] for frame in compared[-1]["frames"]]
    assert labels == [
        "step 1 of 4, B: step 1 of 2, t = 999",
        "step 2 of 4 at t = 749, B: step 1 of 2 at t = 999",
        "step 3 of 4, B: step 2 of 2, t = 499",
        "step 4 of 4 at t = 249, B: step 2 of 2 at t = 499",
    ]


@pytest.mark.parametrize("steps", [(4, 2), (3, 7), (14, 5)], ids=["half", "other places", "not all kept"])
def test_a_show_knows_how_many_frames_it_will_have(library, steps, monkeypatch):
    monkeypatch.setattr("ldm_explorer.explore.denoising.MAX_KEPT_FRAMES", 7)
    runs = [settings(steps=count) for count in steps]
    last = shows(library, *runs)[-1]
    assert last["total"] == len(last["frames"])


def test_two_like_runs_are_identical(library):
    last = shows(library, settings(steps=2), settings(steps=2))[-1]
    assert "results identical" in words(last)


def test_runs_of_another_number_of_images_have_no_difference(library):
    last = shows(library, settings(steps=2), settings(steps=2, images=3))[-1]
    assert [len(frame["sides"]) for frame in last["frames"]] == [2, 2]
    assert len(last["sides"]) == 2


def test_one_of_each_class_is_generated(library):
    each = shows(library, settings(steps=1, classes="each"))[-1]
    *_, step = denoise_images(library.get("tiny-ldm"), None, 0, sampler="ddim", num_steps=1, guidance_scale=1)
    assert len(step.predicted) == 10
    assert each["frames"][-1]["sides"][0][1]["src"] == png_data_uri(grid(step.predicted))


def test_b_of_other_images_is_left_out_in_a_sentence(ldm_folder, color_folder):
    mixed = open_library(ldm_folder.parents[1], color_folder.parents[1])
    last = shows(mixed, settings(steps=1), settings(steps=1, checkpoint="tiny-color"))[-1]
    assert len(last["sides"]) == 1
    assert "tiny-color was trained on other images and is not shown." in last["sentence"]
    in_colour = shows(mixed, settings(steps=1, checkpoint="tiny-color", class_name="red"))[-1]
    *_, step = denoise_images(mixed.get("tiny-color"), "red", 0, sampler="ddim", num_steps=1, guidance_scale=1)
    assert in_colour["frames"][0]["sides"][0][1]["src"] == png_data_uri(grid(step.predicted))


def test_the_script_is_that_of_a(library, ldm_folder):
    folder = "/".join((ldm_folder.parents[1].name, *ldm_folder.parts[-2:]))
    expected = denoising_script(
        library.get("tiny-ldm"), folder, "Bag", 0, sampler="ddim", num_steps=2, guidance_scale=1.0
    )
    assert denoising.script(library, settings(steps=2)) == expected
    assert str(ldm_folder.parents[1]) not in expected, "what lies above the checkpoints is nobody's business"


def test_the_nearest_training_image_stands_below(library):
    *streamed, (_, nearest) = denoising.answer(library, settings(steps=2), None)
    assert {words for _, words in streamed} == {""}, "first the picture"
    assert "Nearest training image" in nearest


def test_a_request_that_costs_too_much_is_refused_with_what_would_fit(library):
    cost = measure_cost(library.get("tiny-ldm"))
    per_step = cost.evaluation_gflops + 2 * cost.decode_gflops
    small = replace(library, max_gflops=40.5 * per_step)
    assert shows(small, settings(steps=10, images=4))[-1]["done"]
    with pytest.raises(ValueError, match="ask for 10 steps or 3 images"):
        shows(small, settings(steps=11, images=4))
    with pytest.raises(ValueError, match="ask for 4 steps or 4 images"):
        shows(small, settings(steps=10, classes="each"))
    assert shows(library, settings(steps=11, images=4))[-1]["done"]


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("checkpoint=nothing&class_name=Bag", "choose one of"),
        ("checkpoint=tiny-vae&class_name=Bag", "is an autoencoder"),
        ("checkpoint=tiny-ldm&class_name=Teapot", "unknown class 'Teapot'"),
        ("checkpoint=tiny-ldm&class_name=Bag&b.checkpoint=nothing", "choose one of"),
        ("class_name=Bag", "Checkpoint is missing"),
        ("checkpoint=tiny-ldm&class_name=Bag&steps=5000", "Steps is '5000'"),
        ("checkpoint=tiny-ldm&class_name=Bag&seed=-3", "Seed is '-3'"),
        ("checkpoint=tiny-ldm&class_name=Bag&sampler=nonsense", "Sampler is 'nonsense'"),
        ("checkpoint=../etc&class_name=Bag", "choose one of"),
    ],
)
def test_what_is_not_there_is_refused_in_a_sentence(library, question, said):
    with pytest.raises(ValueError, match=said):
        list(answers(denoising, library, Results(size_of), question, Job()))


def test_a_run_that_was_stopped_is_kept_and_goes_on_where_it_was(library):
    results, question = Results(size_of), "checkpoint=tiny-ldm&class_name=Bag&sampler=ddim&steps=4"
    begun = answers(denoising, library, results, question, Job())
    next(begun), next(begun)
    begun.close()
    ((key, run),) = results._runs.items()
    assert len(run.steps) == 2
    assert results._bytes[key] == size_of(run.steps[-1]), "it counts for what is kept"
    rest = list(answers(denoising, library, results, f"{question}&again=1", Job()))
    assert [len(show["frames"]) for show, *_ in rest] == [2, 3, 4, 4, 4]


def test_how_many_steps_are_enough_is_said_to_be_unknown_where_it_was_not_measured(library):
    ((words, figure, link),) = few_evaluations.answer(library, OfCheckpoint(checkpoint="tiny-ldm"), None)
    assert "It was not measured for tiny-ldm" in words
    assert (figure["visible"], figure["value"], link) == (False, None, "")


def test_a_flow_beside_betas_says_its_timesteps_short_its_noise_as_it_is_and_why_steps_differ(ldm_folder, flow_folder):
    both = open_library(ldm_folder.parents[1], flow_folder.parents[1])
    chosen, beside = DenoisingSettings.read("checkpoint=tiny-ldm&class_name=Dress&steps=4&b.checkpoint=tiny-flow")
    *_, (show, _) = denoising.answer(both, chosen, beside)
    told = [time for frame in show["frames"] for time in re.findall(r"t = ([\d.]+)", frame["label"])]
    assert max(map(len, told)) <= 5, "t = 500.5000305175781"
    captions = [picture["caption"] for side in show["frames"][0]["sides"] for picture in side]
    assert "by channel, as the predicted u has it" in captions
    labels = [frame["label"].split(",")[0] != frame["label"].split("B: ")[1].split(",")[0] for frame in show["frames"]]
    assert any(labels) == (denoising.IN_TURN in show["sentence"])
    *_, (alike, _) = denoising.answer(
        both, chosen, DenoisingSettings.read("checkpoint=tiny-ldm&class_name=Dress&steps=4&guidance=2")[0]
    )
    assert denoising.IN_TURN not in alike["sentence"], "they go on at once"
