"""The room on faults: the right run and the broken one beside each other, step by step."""

import html
import shutil
from dataclasses import replace

import pytest
import torch
from folder_edits import edit_json

from ldm_explorer.diagnosis.faults import FAULTS
from ldm_explorer.explore.export import fault_script, short_path
from ldm_explorer.explore.faults import Moment, Subject, faults_of, run_experiment, set_up
from ldm_explorer.explore.library import Library, open_library
from ldm_explorer.explore.own_fault import find_own_fault
from ldm_explorer.ui.answers import RESULTS, answering
from ldm_explorer.ui.controls import CONTROLS, described
from ldm_explorer.ui.page import room_css
from ldm_explorer.ui.pictures import grid, png_data_uri
from ldm_explorer.ui.rooms import faults
from ldm_explorer.ui.rooms.faults import FaultSettings

MAX_WORDS = 60


def clipped_library(ldm_folder, tmp_path) -> Library:
    """A library of the model "mine", whose own scheduler clips."""
    folder = tmp_path / "fashion_mnist" / "mine"
    shutil.copytree(ldm_folder, folder)
    edit_json(folder / "scheduler/scheduler_config.json", clip_sample=True)
    return open_library(tmp_path)


@pytest.fixture(scope="module")
def streamed(library) -> list[tuple]:
    return list(faults.answer(library, FaultSettings(checkpoint="tiny-ldm", fault="clip_sample", seed=1), None))


def test_both_runs_are_streamed_step_by_step_and_are_those_of_the_experiment(library, streamed):
    assert [len(show["frames"]) for _, show, _, _ in streamed] == [*range(1, 26), 25]
    assert [show["done"] for _, show, _, _ in streamed] == [False] * 25 + [True]
    frames = streamed[-1][1]["frames"]
    assert frames[1]["label"].startswith("step 2 of 25")
    checkpoint = library.get("tiny-ldm")
    subject = Subject.of(checkpoint, None, seed=1)
    for frame, step in zip(frames, run_experiment(set_up(checkpoint, "clip_sample"), subject), strict=True):
        assert frame["x"] == step.index
        for side, moment, measured in zip(
            frame["sides"], (step.right, step.broken), (step.right_symptom, step.broken_symptom), strict=True
        ):
            assert side[0]["src"] == png_data_uri(grid(moment.predicted, columns=5))
            assert side[0]["title"] == f"standard deviation of the predicted latents: {measured:.3g}"


def test_the_figure_comes_with_the_last_step_and_shows_every_step(streamed):
    assert all((figure["value"], figure["visible"]) == (None, False) for _, _, figure, _ in streamed[:-1])
    assert streamed[-1][2]["visible"]
    right, broken = streamed[-1][2]["value"].data
    assert list(right.x) == [frame["x"] for frame in streamed[-1][1]["frames"]]
    for curve, place in ((right, 0), (broken, 1)):
        said = [frame["sides"][place][0]["title"].split(": ")[1] for frame in streamed[-1][1]["frames"]]
        assert [f"{value:.3g}" for value in curve.y] == said
    assert right.line.dash != broken.line.dash, "told apart in grey"


def test_the_words_say_what_happens_where_and_how_it_is_fixed(streamed):
    what, show, _, more = streamed[0]
    assert "cut it off at every step" in what
    assert "&#34;clip_sample&#34;: false" in what
    assert show["sides"][1]["title"] == f"Broken: {FAULTS['clip_sample'].title}"
    assert "Shown on tiny-ldm" in more
    assert "from seed 1" in more
    assert "ldm_explorer.diagnose" in more
    last = streamed[-1][1]
    said = [side[0]["title"].split(": ")[1] for side in last["frames"][-1]["sides"]]
    assert last["sentence"].endswith(f"{said[0]} in the right run, {said[1]} in the broken one.")


@pytest.mark.parametrize("name", FAULTS)
def test_few_words_stand_above_the_pictures(name):
    for path in ("betas", "a flow"):
        assert len(faults._what_happens(FAULTS[name].told_along(path)).split()) <= MAX_WORDS


def test_a_fault_of_training_says_what_both_losses_say():
    fault = FAULTS["raw_latents"]
    said = faults._losses(fault)
    assert said.count("<li>") == 2
    assert said.count("Gaussian floor") == 2
    assert "harmless" in faults._what_happens(fault)
    assert "no training loss" in faults._losses(FAULTS["clip_sample"]).lower()


def test_latents_that_are_no_numbers_are_left_out_of_the_histogram():
    latents, black = torch.full((2, 4, 8, 8), torch.nan), torch.zeros(2, 1, 28, 28).byte()
    broken = Moment(9, latents, torch.zeros(2, 4, 8, 8), lambda _: black)
    assert [type(picture).__name__ for picture in faults._pictures(broken, "nan")] == ["Shot"]
    half = replace(broken, z0=torch.tensor([[torch.inf, 1.0]]))
    *_, histogram = faults._pictures(half, "inf")
    assert histogram.values.tolist() == [1.0]


def test_an_autoencoder_and_an_unknown_fault_are_refused_in_a_sentence(library):
    with pytest.raises(ValueError, match="is an autoencoder"):
        next(faults.answer(library, FaultSettings(checkpoint="tiny-vae"), None))
    with pytest.raises(ValueError, match="Fault is 'gremlins': give 'clip_sample'"):
        FaultSettings.read("checkpoint=tiny-ldm&fault=gremlins")


def test_what_was_found_in_a_model_is_shown_with_the_model_as_the_broken_side(ldm_folder, tmp_path):
    own = clipped_library(ldm_folder, tmp_path)
    chosen, _ = FaultSettings.read("checkpoint=mine&fault=clip_sample&cause=clipping")
    what, show, _, more = next(faults.answer(own, chosen, None))
    assert [side["title"] for side in show["sides"]] == ["Right: mine, with the fix", "Broken: mine, as it is"]
    assert show["total"] == 25
    assert "&#34;clip_sample&#34;: false" in what
    assert "from the same noise" in more
    with pytest.raises(ValueError, match="its fix is the line to change"):
        faults.script(own, chosen)
    with pytest.raises(ValueError, match="Found in it is 'gremlins'"):
        FaultSettings.read("checkpoint=mine&cause=gremlins")


def test_a_model_that_clips_by_itself_is_no_right_side_and_the_fix_is_offered(ldm_folder, tmp_path, streamed):
    own = clipped_library(ldm_folder, tmp_path)
    for fault in ("clip_sample", "labels_ignored"):
        played = faults._put_in(own, FaultSettings(checkpoint="mine", fault=fault))
        what = str(played.what)
        assert played.sides[0].title == "As it is, and clipped: mine"
        assert "Neither side is right:" in what
        query = html.unescape(what.split('href="?')[1].split('"')[0])
        chosen, _ = FaultSettings.read(query.removeprefix("room=faults&"))
        assert next(faults.answer(own, chosen, None))[1]["sides"][0]["title"] == "Right: mine, with the fix"
    what, show, *_ = streamed[0]
    assert "Neither" not in what
    assert show["sides"][0]["title"] == "Right: tiny-ldm"


def test_what_the_fix_leaves_is_said_from_the_figures(ldm_folder, tmp_path):
    own = clipped_library(ldm_folder, tmp_path)
    *_, (_, show, _, _) = faults.answer(own, FaultSettings(checkpoint="mine", cause="clipping"), None)
    std = show["frames"][-1]["sides"][0][0]["title"].split(": ")[1]
    assert f"Even with the fix the standard deviation is {std}, where images have " in show["sentence"]
    assert "25 steps of DDIM in place of the 1,000" in show["sentence"]
    found = find_own_fault(own.get("mine"), "clipping", None, seed=0)
    *_, last = found.steps()
    of_images = float(found.experiment.right.encode(found.subject.originals).std())
    assert found.what_is_left(replace(last, right_symptom=of_images)) == "", "as images have it"


def test_a_flow_has_faults_of_its_own_and_refuses_those_of_betas(flow_folder, transformer_folder):
    both = open_library(flow_folder.parent.parent)
    chosen, _ = FaultSettings.read("checkpoint=tiny-flow&fault=reversed_time")
    what, show, _, more = next(faults.answer(both, chosen, None))
    assert "data lies at s = 1" in what
    assert [side["title"] for side in show["sides"]] == ["Right: tiny-flow", "Broken: Flow: time runs the other way"]
    assert show["frames"][0]["label"] == "step 1 of 25, t = 999"
    assert "in the checkpoint's folder" in html.unescape(str(more))
    with pytest.raises(ValueError, match="samplers of flows clip nothing, and tiny-flow is sampled along a flow"):
        next(faults.answer(both, FaultSettings(checkpoint="tiny-flow", fault="clip_sample"), None))
    assert FAULTS[FaultSettings(checkpoint="tiny-flow").fault].along is None, "nobody is refused what was not chosen"
    one = open_library(transformer_folder.parent.parent)
    chosen = FaultSettings(checkpoint="tiny-transformer", fault="opposite_velocity")
    assert next(faults.answer(one, chosen, None))[1]["sides"][0]["title"] == "Right: tiny-transformer"


def test_b_is_the_broken_run_and_not_for_the_visitor_to_choose():
    assert not faults.COMPARES
    assert f"body[data-room={faults.NAME}] .ldm-control:not(.ldm-in-{faults.NAME})" in room_css()


def test_the_script_is_that_of_the_fault_and_the_seed(library):
    chosen = FaultSettings(checkpoint="tiny-ldm", fault="clip_sample", seed=3)
    checkpoint = library.get("tiny-ldm")
    folder = short_path(checkpoint.folder, library.roots)
    assert faults.script(library, chosen) == fault_script(checkpoint, folder, "clip_sample", 3)


def test_the_list_of_faults_holds_those_that_a_checkpoint_has(flow_folder, ldm_folder, vae_folder):
    library = open_library(flow_folder.parents[1], ldm_folder.parents[1], vae_folder.parents[1])
    known = described("fault", CONTROLS["fault"].make(library), library)
    assert [name for _, name in known["all"]] == list(FAULTS)
    along = {"tiny-flow": "betas", "tiny-ldm": "a flow"}
    for name, other in along.items():
        assert known["left_out"][name] == [fault for fault, known_as in FAULTS.items() if known_as.along == other]
    assert known["left_out"]["tiny-vae"] == list(FAULTS), "an autoencoder alone has none"


def test_a_fault_of_another_path_names_in_the_rooms_place_who_has_it(flow_folder, ldm_folder):
    both = open_library(flow_folder.parents[1], ldm_folder.parents[1])
    ask = answering(faults, both, RESULTS)
    for name, fault, other, path in (
        ("tiny-ldm", "far_shift", "tiny-flow", "a flow"),
        ("tiny-flow", "clip_sample", "tiny-ldm", "betas"),
    ):
        ((what, show, figure, more),) = ask(f"checkpoint={name}&fault={fault}")
        assert f"and {name} is sampled along" in what
        assert f"See it on {other}, sampled along {path}</a>" in what
        query = html.unescape(what.split('href="?')[1].split('"')[0])
        chosen, _ = FaultSettings.read(query)
        assert chosen.fault in faults_of(both.get(chosen.checkpoint))
        assert (show["frames"], show["done"], figure["visible"], more) == ([], True, False, "")
    alone = open_library(ldm_folder.parents[1])
    ((what, *_),) = answering(faults, alone, RESULTS)("checkpoint=tiny-ldm&fault=far_shift")
    assert "<a" not in what, "nobody has it"
