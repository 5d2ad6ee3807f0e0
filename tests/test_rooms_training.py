"""The training room: moments of a run beside its floors, two runs, one that still goes on, the lesson of 0.34."""

import json
import shutil
from pathlib import Path

import gradio as gr
import pytest
import torch
from conftest import uneven_statistics
from helpers import autoencoder_records, denoiser_records, write_log

from ldm_explorer.diagnosis.statistics import write_statistics
from ldm_explorer.explore.library import Library, open_library
from ldm_explorer.explore.report import STAGES, read_stages, white_floor_curves
from ldm_explorer.explore.training_moments import MAX_MOMENTS, NEAR, moment_at, moments_of
from ldm_explorer.explore.training_run import find_runs, read_run
from ldm_explorer.explore.training_words import describe, in_words, why_not_comparable
from ldm_explorer.film import FilmFrame, write_frame
from ldm_explorer.ui.answers import answering, answers, size_of
from ldm_explorer.ui.controls import CONTROLS
from ldm_explorer.ui.page import build_page
from ldm_explorer.ui.results import Results
from ldm_explorer.ui.rooms import ROOMS, training
from ldm_explorer.ui.server.launch import launch
from ldm_explorer.ui.server.limits import Limits
from ldm_explorer.ui.server.turns import Job

IMPATIENT = "const wait = setInterval; window.setInterval = (ask, time) => wait(ask, Math.min(time, 400));"
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def library(tmp_path) -> Library:
    """Knows no checkpoint, and where runs will be."""
    return Library({}, (), {}, roots=(tmp_path,))


def answer(library: Library, run: str, beside: str | None = None, case: str = "") -> tuple:
    """The show, both figures, the words."""
    settings = training.SETTINGS
    other = settings(run=beside) if beside else None
    (only,) = training.answer(library, settings(run=run, case=case), other)
    show, *figures, words = only
    return show, *(figure["value"] for figure in figures), words


def facts(show: dict, frame: int, side: int = 0) -> dict[str, str]:
    return dict(show["frames"][frame]["facts"][side])


def grow(folder: Path, steps: int) -> None:
    write_log(folder, denoiser_records(steps))
    write_frame(folder, FilmFrame(steps, torch.full((12, 1, 28, 28), 9, dtype=torch.uint8)))


def test_the_room_stands_in_the_page_and_its_controls_are_known():
    assert training in ROOMS
    assert set(training.SETTINGS.model_fields) <= set(CONTROLS)


def test_every_moment_of_the_film_has_its_picture_its_loss_and_a_place_on_the_figure(ldm_folder):
    library = open_library(ldm_folder.parents[1])
    show, figure, per_timestep, words = answer(library, "tiny-ldm")
    assert [frame["x"] for frame in show["frames"]] == [100, 200, 400, 500]
    assert [len({picture.get("src") for picture in frame["sides"][0]}) for frame in show["frames"]] == [2] * 4
    assert len({frame["sides"][0][0]["src"] for frame in show["frames"]}) == 4
    assert facts(show, 1) == {"validation loss, step 2": "0.5"}
    assert show["frames"][1]["sides"][0][1]["curve"]["at"] == (200, 0.5)
    low, high = (10**edge for edge in figure.layout.xaxis.range)
    assert low <= 100
    assert high == pytest.approx(500)
    assert per_timestep.data[0].name == "validation, step 5"
    assert "Ankle boot" in words
    assert show["open_at"] == 1, "it opens in the middle, not at the end"
    assert "stamp" not in show, "what is finished is not asked for again"


def test_the_loss_of_a_moment_stands_beside_its_floors(run_with_losses, tmp_path):
    run_with_losses([0.9, 0.5])
    library = open_library(tmp_path)
    show, *_ = answer(library, "run")
    report = read_run(library, "run")
    floors = report.mean_floors
    shown = facts(show, -1)
    assert shown["white floor"] == f"{floors['white']:.3f}"
    assert shown["class memorising"] == f"{floors['memorising_per_class']:.3f}"
    levels = {level["name"]: level["y"] for level in show["frames"][0]["sides"][0][1]["curve"]["levels"]}
    assert levels == {
        "white floor": floors["white"],
        "Gaussian floor": floors["gaussian"],
        "class Gaussian": floors["gaussian_per_class"],
        "class memorising": floors["memorising_per_class"],
    }
    assert show["sentence"] == describe(report)


def test_a_moment_says_what_its_loss_shows(run_with_losses, tmp_path):
    run_with_losses([0.99, 0.5])
    report = read_run(open_library(tmp_path), "run")
    floors = report.mean_floors
    assert 0.98 * floors["white"] < 0.99
    assert moment_at(report, 100).knows == "it knows the scale of the latents at most"
    assert 0.98 * floors["gaussian_per_class"] > 0.5
    assert moment_at(report, 200).knows == "it knows more than means and covariances"


def test_a_moment_long_before_the_first_validation_has_the_training_loss(library, write_run):
    early = [{"step": step, "images": 100 * step, "loss": 2.0 / step} for step in (10, 20)]
    write_run("young", [*early, {"step": 100, "images": 10_000, "loss": 0.2, "validation_loss": 0.3}])
    report = read_run(library, "young")
    assert (moment_at(report, 1000).source, moment_at(report, 1000).loss) == ("training loss, step 10", 0.2)
    near = moment_at(report, int(10_000 / NEAR) + 1)
    assert (near.source, near.loss) == ("validation loss, step 100", 0.3)


def test_of_many_validations_some_are_moments_and_the_last_one_is(library, write_run):
    write_run("long", denoiser_records(100))
    moments = moments_of(read_run(library, "long"))
    assert MAX_MOMENTS / 2 < len(moments) <= MAX_MOMENTS
    assert moments[-1].step == 100


def test_a_run_without_a_film_shows_its_loss_alone(library, write_run):
    write_run("young", [{"step": 20, "images": 2000, "loss": 0.9, "grad_norm": 2.0, "learning_rate": 1e-3}])
    show, figure, per_timestep, _ = answer(library, "young")
    (frame,) = show["frames"]
    assert [sorted(picture.keys() & {"src", "curve"}) for picture in frame["sides"][0]] == [["curve"]]
    assert facts(show, 0) == {"training loss, step 20": "0.9"}
    assert figure.data
    assert per_timestep is None


def test_an_autoencoder_has_its_reconstruction_and_no_floors(library, write_run):
    write_run("vae", autoencoder_records(), prediction=None, kl_weight=1e-4)
    show, *_ = answer(library, "vae")
    assert facts(show, 1) == {"validation loss, step 2": "0.4", "PSNR on held-out images": "22.0 dB, best 24.0"}
    curve = show["frames"][1]["sides"][0][0]["curve"]
    assert (curve["y_log"], curve["levels"]) == (True, [])


def test_another_run_stands_beside_it_when_it_had_seen_as_many_images(library, write_run):
    write_run("one", denoiser_records(3))
    write_run("other", [record | {"images": 50 * record["step"]} for record in denoiser_records(8)], schedule="linear")
    show, figure, *_ = answer(library, "one", "other")
    assert [side["title"].split(":")[0] for side in show["sides"]] == ["one (unfinished)", "other (unfinished)"]
    assert facts(show, 2, side=1) == {"validation loss, step 6": "0.167"}
    assert {"one", "other"} <= {trace.name for trace in figure.data}
    reports = read_run(library, "one"), read_run(library, "other")
    assert why_not_comparable(*reports) in show["sentence"]
    assert show["sentence"].splitlines()[1].startswith("other: ")


def test_an_autoencoder_beside_a_denoiser_is_named_and_not_drawn(library, write_run):
    write_run("one", denoiser_records(3))
    write_run("vae", autoencoder_records(), prediction=None)
    show, figure, *_ = answer(library, "one", "vae")
    assert "an autoencoder and a denoiser" in show["sentence"]
    assert "vae" not in {trace.name for trace in figure.data}


@pytest.mark.parametrize("content", ["", '{"step": 1, "images": 9}\n'], ids=["empty", "no loss"])
def test_a_log_that_cannot_be_read_is_one_sentence_and_is_looked_at_again(library, write_run, content):
    (write_run("broken", []) / "train_log.jsonl").write_text(content)
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 (its words are what is compared)
        read_run(library, "broken")
    show, figure, per_timestep, _ = answer(library, "broken")
    assert (show["sentence"], show["frames"], figure, per_timestep) == (f"{refusal.value}.", [], None, None)
    assert show["stamp"]


def test_a_run_that_vanishes_is_said_to_be_gone_and_asked_for_no_more(library, write_run):
    folder = write_run("young", denoiser_records(3))
    assert answer(library, "young")[0]["stamp"]
    shutil.rmtree(folder)
    show, *_ = answer(library, "young")
    assert "no run 'young'" in show["sentence"]
    assert "stamp" not in show


def test_names_from_outside_are_text(library, write_run):
    write_run(HOSTILE.replace("/", ""), denoiser_records(3))
    write_run("other", denoiser_records(3))
    _, figure, per_timestep, words = answer(library, HOSTILE, "other")
    assert all("<img" not in (trace.name or "") for drawn in (figure, per_timestep) for trace in drawn.data)
    assert "<img" not in words
    assert [label for label, name in CONTROLS["run"].choices(library) if name == HOSTILE] == [
        f"{HOSTILE} (unfinished): denoiser, predicts velocity, cosine"
    ]


def test_the_list_of_runs_says_what_each_trains_and_is_looked_for_anew(library, write_run):
    write_run("one", denoiser_records(3), prediction="epsilon", schedule="linear")
    assert [in_words(run) for run in find_runs(library).values()] == [
        "one (unfinished): denoiser, predicts noise, linear"
    ]
    folder = write_run("vae", autoencoder_records(), prediction=None)
    assert ("vae (unfinished): autoencoder", "vae") in CONTROLS["run"].choices(library)
    (folder / "train_config.json").write_text("{")
    assert ("vae (unfinished)", "vae") in CONTROLS["run"].choices(library)


class TestARunThatGoesOn:
    """What is kept of it is kept by its stamp."""

    def ask(self, library: Library, results: Results, question: str) -> list[dict]:
        return [show for show, *_ in answers(training, library, results, question, Job())]

    def test_it_is_read_anew_when_it_has_grown_and_from_what_is_kept_when_not(self, library, write_run):
        folder, results = write_run("young", denoiser_records(3)), Results(size_of)
        (first,) = self.ask(library, results, "run=young")
        assert self.ask(library, results, "run=young")[0] is first
        grow(folder, 5)
        (grown,) = self.ask(library, results, "run=young")
        assert "step 5 of 50" in grown["sentence"]
        assert grown["stamp"] != first["stamp"]
        assert grown["id"] == first["id"], "the stage stays where it was looked at"

    def test_what_is_kept_stays_whole_when_gradio_takes_an_update_apart(self, library, write_run):
        write_run("young", denoiser_records(3))
        ask = answering(training, library, Results(size_of))
        ((_, figure, *_),) = ask("run=young")
        assert figure.pop("value") is not None
        ((_, again, *_),) = ask("run=young")
        assert again["value"] is not None

    def test_only_the_newest_is_kept(self, library, write_run):
        folder, results = write_run("young", denoiser_records(3)), Results(size_of)
        for steps in (3, 4, 5):
            grow(folder, steps)
            self.ask(library, results, "run=young")
        assert len(results._runs) == 1

    def test_a_page_that_asks_again_is_answered_only_where_there_is_more(self, library, write_run):
        folder, results = write_run("young", denoiser_records(3)), Results(size_of)
        (first,) = self.ask(library, results, "run=young")
        again = f"run=young&seen={first['stamp']}.1"
        assert self.ask(library, results, again) == []
        (skipped,) = answering(training, library, results)(again)
        assert skipped == gr.skip(), "the page keeps what it shows"
        write_run("other", denoiser_records(3))
        assert self.ask(library, results, f"{again}&b.run=other"), "another question is answered, whatever was seen"
        grow(folder, 5)
        ((show, *_),) = answering(training, library, results)(again)
        assert show["question"] == "run=young", "as the page has asked it first"


def test_the_lesson_steps_through_the_fixes_beside_their_floors():
    show, scales, losses, words = answer(Library({}, (), {}), "any", case="0.34")
    stages = read_stages()
    assert [frame["label"] for frame in show["frames"]] == [
        f"{number}. {title}" for number, (title, _) in enumerate(STAGES.values(), 1)
    ]
    assert show["open_at"] == 0, "it opens with what went wrong"
    for index, (stage, frame) in enumerate(zip(stages, show["frames"], strict=True)):
        shown = facts(show, index)
        assert shown["loss"] == f"{stage.reading.validation_last_tenth:.3f}"
        assert shown["zero floor"] == f"{stage.reading.mean_floors['zero']:.3f}"
        assert stage.reading.sentence() in frame["sentence"]
        assert stage.command in words
        assert frame["x"] == stage.std
    (linear,) = (curve for curve in white_floor_curves() if (curve.schedule, curve.num_timesteps) == ("linear", 1000))
    for stage in stages[:3]:
        white = stage.reading.mean_floors["white"]
        assert linear.std_of(white) == pytest.approx(stage.std, rel=0.03), "where the cursor stands on the curve"
    assert "is the floor of latents of standard deviation" in words
    assert len(scales.data) == 6
    assert losses.data


def test_a_show_is_json(ldm_folder):
    show, *_ = answer(open_library(ldm_folder.parents[1]), "tiny-ldm")
    assert "NaN" not in json.dumps(show)


def test_a_training_that_fell_apart_can_be_shown(library, write_run):
    records = [record | {"loss": float("nan"), "validation_loss": 1e9} for record in denoiser_records(3)]
    write_statistics(write_run("broken", records), uneven_statistics())
    show, *_ = answer(library, "broken")
    json.dumps(show, allow_nan=False)
    assert show["frames"][-1]["sides"][0][-1]["caption"].endswith("it knows nothing yet")


def test_an_open_page_follows_a_run_and_a_hidden_room_asks_nothing(browser, ldm_folder, write_run, tmp_path):
    folder = write_run("young", [])
    grow(folder, 3)
    page = build_page(open_library(ldm_folder.parents[1], tmp_path))
    address = launch(page.app, Limits(), quiet=True, **page.options)
    tab = browser.new_page(viewport={"width": 1280, "height": 720})
    tab.add_init_script(IMPATIENT)
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.post_data) if "queue/join" in request.url else None)
    try:
        tab.goto(f"{address}?room=training&run=young")
        tab.get_by_text("Unfinished: step 3 of 50").wait_for()
        grow(folder, 5)
        tab.get_by_text("Unfinished: step 5 of 50").wait_for()
        assert tab.locator(".ldm-label:visible").inner_text().startswith("step 5"), "who watches the end goes along"
        tab.locator(".ldm-follow .ldm-cursor").first.wait_for()
        tab.get_by_role("tab", name="Reconstruction").click()
        tab.locator(".ldm-stage:visible figure img").first.wait_for()
        asked.clear()
        tab.wait_for_timeout(1500)
        assert asked == []
    finally:
        tab.close()
        page.app.close()
