"""Logs of known numbers: read, drawn, compared, still growing, damaged."""

import json
import math
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import uneven_statistics
from helpers import denoiser_records

from ldm_explorer.atomic import write_json
from ldm_explorer.checkpoints import read_log
from ldm_explorer.diagnosis.statistics import write_statistics
from ldm_explorer.explore.library import Library, open_library
from ldm_explorer.explore.training_run import find_runs, read_run
from ldm_explorer.explore.training_words import describe, describe_moment, status, why_not_comparable
from ldm_explorer.figures.loss import timestep_figure
from ldm_explorer.figures.training import training_figure
from ldm_explorer.run_folder import RunFolder
from ldm_explorer.ui import training
from ldm_explorer.ui.training import NONE

CONFIG = {"dataset": "fashion_mnist", "prediction": "v_prediction", "schedule": "cosine", "vae": "a", "max_steps": 50}
SHOWN = ("sentences", "figure", "slider", "moment", "per_timestep", "timer", "seen")


def write_log(folder: Path, records: list[dict], ending: str = "") -> None:
    (folder / "train_log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records) + ending)


@pytest.fixture
def write_run(tmp_path):
    """Writes the folder of a run that has no weights yet."""

    def write(name: str, records: list[dict], **config) -> Path:
        folder = tmp_path / "fashion_mnist" / name
        folder.mkdir(parents=True)
        write_json(folder / "train_config.json", CONFIG | config)
        write_log(folder, records)
        return folder

    return write


@pytest.fixture
def library(tmp_path) -> Library:
    """Knows no checkpoint, and where runs will be."""
    return Library({}, (), {}, roots=(tmp_path,))


def autoencoder_records(steps: int = 4) -> list[dict]:
    return [
        {"step": step, "images": 64 * step, "loss": 1 / step, "mse": 0.9 / step, "kl_per_value": 2.0, "grad_norm": 0.1}
        | {"validation_loss": 0.8 / step, "validation_psnr_db": 20.0 + step, "validation_kl_per_value": 2.5}
        for step in range(1, steps + 1)
    ]


def shown(answer: tuple) -> dict:
    return dict(zip(SHOWN, answer, strict=True))


def test_a_run_without_weights_is_found_as_it_comes_and_goes(library, write_run):
    assert find_runs(library) == {}
    folder = write_run("young", denoiser_records(3))
    assert [(run.label, run.finished) for run in find_runs(library).values()] == [("young (unfinished)", False)]
    shutil.rmtree(folder)
    assert find_runs(library) == {}
    with pytest.raises(ValueError, match="no run 'young'"):
        read_run(library, "young")


def test_a_run_that_finishes_beside_the_app_loses_its_mark_and_keeps_its_name(library, ldm_folder, write_run, tmp_path):
    folder = write_run("young", denoiser_records(3))
    shutil.copytree(ldm_folder / "vae", folder / "vae")
    shutil.copytree(ldm_folder / "unet", folder / "unet")
    assert find_runs(library)["young"].label == "young (unfinished)"
    shutil.copytree(ldm_folder / "scheduler", folder / "scheduler")
    shutil.copy(ldm_folder / "model_index.json", folder)
    assert find_runs(library)["young"].label == "young"
    assert "when the app is started again" in status(read_run(library, "young"))
    assert open_library(tmp_path).names() == ["young"]
    assert status(read_run(open_library(tmp_path), "young")) == ""
    assert find_runs(open_library(tmp_path)).keys() == {"young"}


def test_curves_hold_the_numbers_of_the_log(library, write_run):
    write_run("young", [*denoiser_records(3), {"step": 4, "images": 400, "loss": 7.0, "grad_norm": 1.0}])
    report = read_run(library, "young")
    assert report.curve("loss").values == (1, 0.5, 1 / 3, 7)
    assert report.curve("validation_loss").images == (100, 200, 300)
    assert report.images_at(2) == 200
    assert report.nearest_validation(260)["step"] == 3


def test_the_weighted_loss_is_not_drawn_where_the_error_without_weights_is_logged(library, write_run):
    write_run("weighted", [record | {"mse": 10 * record["loss"]} for record in denoiser_records(3)])
    report = read_run(library, "weighted")
    assert report.curve("loss").values == tuple(10 * record["loss"] for record in report.records)


def test_a_log_that_grows_is_read_on_and_a_half_written_line_left_out(library, write_run):
    folder = write_run("young", denoiser_records(2))
    stamp = find_runs(library)["young"].stamp()
    write_log(folder, denoiser_records(3), ending='{"step": 4, "ima')
    assert find_runs(library)["young"].stamp() != stamp
    assert [record["step"] for record in read_run(library, "young").records] == [1, 2, 3]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no line in its train_log.jsonl"),
        ('{"step": 1, "images": 9, "loss": 1}\n{"step": 2, "im\n{"step": 3, "images": 9, "loss": 1}\n', "in line 2"),
        ("[1, 2]\n{}\n", "in line 1, which is no JSON object"),
        ('{"step": 1, "images": 9}\n', "lacks step, images or loss"),
    ],
    ids=["empty", "cut in the middle", "no object", "no loss"],
)
def test_a_log_that_cannot_be_read_is_one_sentence_in_place_of_the_plots(library, write_run, content, said):
    (write_run("broken", []) / "train_log.jsonl").write_text(content)
    with pytest.raises(ValueError, match=said):
        read_run(library, "broken")
    answer = shown(training.plot_loss(library, "broken", NONE))
    assert said in answer["sentences"]
    assert [answer[name]["visible"] for name in ("figure", "slider", "per_timestep")] == [False] * 3
    assert answer["timer"].active


def test_damage_is_named_and_a_cut_last_line_is_not(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b'{"step": 1}\n\xff\xfe}\n{"step": 2}\n')
    with pytest.raises(ValueError, match="damaged in line 2"):
        read_log(path)
    path.write_text('{"step": 1}\n{"ste')
    assert read_log(path) == [{"step": 1}]


def test_how_far_an_unfinished_run_is_and_when_it_was_last_heard_of(library, write_run):
    folder = write_run("young", denoiser_records(3))
    os.utime(folder / "train_log.jsonl", (time.time() - 7260,) * 2)
    assert "step 3 of 50; its log was last written 2 h ago" in status(read_run(library, "young"))
    write_json(folder / "train_config.json", CONFIG | {"max_steps": None})
    write_log(folder, denoiser_records(4))
    assert "step 4;" in status(read_run(library, "young"))
    (folder / "state-notes").mkdir()
    for name, total_steps in {"state-000000002": 70, "state-1000000000": 80}.items():
        (folder / name).mkdir()
        write_json(folder / name / "progress.json", {"total_steps": total_steps})
    assert "step 4 of 80" in status(read_run(library, "young"))
    RunFolder(folder).adopt(["state-000000002/progress.json"])
    assert "step 4 of 70" in status(read_run(library, "young")), "in a run what it did not write does not count"


def test_without_floors_the_curves_stand_and_a_sentence_says_so(library, write_run):
    write_run("young", denoiser_records(3))
    report = read_run(library, "young")
    assert "without floors" in describe(report)
    figure = training_figure((report,), 150)
    assert [trace.name for trace in figure.data if trace.showlegend is not False][:2] == ["training", "validation"]
    heat = next(trace for trace in figure.data if trace.type == "heatmap")
    assert heat.z[4] == [record["validation_loss_per_bin"][4] for record in report.records]
    assert figure.layout.shapes[0].x0 == 150
    assert [list(trace.y) for trace in timestep_figure((report,), 210).data] == [
        report.records[1]["validation_loss_per_bin"]
    ]


def test_floors_stand_from_the_start_of_a_run_and_are_those_of_its_end(library, write_run, run_with_losses, tmp_path):
    folder = write_run("young", [{"step": 20, "images": 2000, "loss": 0.9}])
    write_statistics(folder, uneven_statistics())
    report = read_run(library, "young")
    run_with_losses([0.9, 0.5])
    finished = read_run(open_library(tmp_path), "run")
    assert report.floors.keys() == finished.floors.keys()
    assert all(torch.allclose(floor, finished.floors[name], atol=1e-5) for name, floor in report.floors.items())
    assert {"white floor", "class memorising"} <= {trace.name for trace in training_figure((report,), None).data}
    write_log(folder, denoiser_records(3))
    assert "The validation loss stands at" in describe(read_run(library, "young"))


def test_a_training_that_fell_apart_can_be_drawn(library, write_run):
    write_run("broken", [record | {"loss": float("nan"), "validation_loss": 1e9} for record in denoiser_records(3)])
    figure = training_figure((read_run(library, "broken"),), 200)
    assert all(math.isfinite(edge) for edge in figure.layout.yaxis.range)


def test_a_run_without_validation_has_its_loss_and_no_moments(library, write_run):
    write_run("young", [{"step": 20, "images": 2000, "loss": 0.9, "grad_norm": 2.0, "learning_rate": 1e-3}])
    assert "No validation so far: the training loss stands at 0.9" in describe(read_run(library, "young"))
    answer = shown(training.plot_loss(library, "young", NONE))
    assert (answer["figure"]["visible"], answer["slider"]["visible"], answer["moment"]) == (True, False, "")


def test_the_map_is_relative_to_the_floor_that_the_sentence_names(run_with_losses, tmp_path):
    run_with_losses([0.9, 0.5])
    report = read_run(open_library(tmp_path), "run")
    heat = next(trace for trace in training_figure((report,), None).data if trace.type == "heatmap")
    floor = report.reading.floors_per_bin()["gaussian_per_class"]
    assert [2 ** row[1] * floor for row, floor in zip(heat.z, floor, strict=True)] == pytest.approx([0.5] * 10)
    assert "Gaussian floor of its class" in describe(report)


def test_an_autoencoder_shows_its_reconstruction_and_no_floors(library, write_run):
    write_run("vae", autoencoder_records(), prediction=None, kl_weight=1e-4)
    report = read_run(library, "vae")
    assert "reaches 24.0 dB (best 24.0), and the latents hold 2.5 nats per value" in describe(report)
    assert "PSNR 22.0 dB" in describe_moment(report, 2)
    figure = training_figure((report,), 128)
    assert {trace.y for trace in figure.data} >= {(2.0,) * 4, (21.0, 22.0, 23.0, 24.0)}
    assert figure.layout.yaxis.type == "log"


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({}, ""),
        ({"prediction": "epsilon"}, "predict different things (v_prediction and epsilon)"),
        ({"vae": "b"}, "learn different latents"),
        ({"schedule": "linear"}, "have different schedules"),
        ({"dataset": "mnist"}, "trained on different images"),
        ({"zero_terminal_snr": False, "widths": [8]}, ""),
    ],
)
def test_what_cannot_be_compared_is_said(library, write_run, other, said):
    write_run("one", denoiser_records(3))
    write_run("other", denoiser_records(3), **other)
    reason = why_not_comparable(read_run(library, "one"), read_run(library, "other"))
    assert said in reason
    assert bool(said) == bool(reason)
    assert reason in training.plot_loss(library, "one", "other")[0]


def test_two_runs_are_drawn_in_their_own_colours_also_where_the_palette_begins_again(library, write_run):
    write_run("one", denoiser_records(3))
    write_run("other", denoiser_records(5))
    reports = read_run(library, "one"), read_run(library, "other")
    again = replace(reports[1], run=replace(reports[1].run, color_index=reports[0].run.color_index))
    for pair in (reports, (reports[0], again)):
        figure = training_figure(pair, 100)
        colors = {trace.name: trace.line.color for trace in figure.data if trace.name in ("one", "other")}
        assert len(set(colors.values())) == 2
        assert {trace.name for trace in timestep_figure(pair, 100).data} == {"one", "other"}


def test_an_autoencoder_beside_a_denoiser_is_named_and_not_drawn(library, write_run):
    write_run("one", denoiser_records(3))
    write_run("vae", autoencoder_records(), prediction=None)
    answer = shown(training.plot_loss(library, "one", "vae"))
    assert "an autoencoder and a denoiser" in answer["sentences"]
    assert "vae" not in {trace.name for trace in answer["figure"]["value"].data}


def test_the_slider_moves_the_line_the_film_and_the_curve_per_timestep(ldm_folder):
    library = open_library(ldm_folder.parents[1])
    answer = shown(training.plot_loss(library, "tiny-ldm", NONE))
    assert (answer["slider"]["maximum"], answer["slider"]["value"], answer["timer"].active) == (4, 4, False)
    figure, moment, per_timestep = training.show_moment(library, "tiny-ldm", NONE, 2)
    assert figure["value"].layout.shapes[0].x0 == 200
    assert "After 2 steps (200 images): validation loss 0.5." in moment
    assert moment.count("<img") == 1
    assert per_timestep["value"].data[0].name == "validation, step 2"
    assert training.show_moment(library, "tiny-ldm", NONE, 99) == training.show_moment(library, "tiny-ldm", NONE, 4)


def test_only_what_has_changed_is_drawn_again_and_the_slider_goes_along(library, write_run):
    folder = write_run("young", denoiser_records(3))
    seen = training.plot_loss(library, "young", NONE)[-1]
    skipped = training.gr.skip()
    *names, sentences, figure, slider, _, _, _, now = training.refresh(library, "young", NONE, 3, seen)
    assert (names, figure, slider, now) == ([skipped, skipped], skipped, skipped, seen)
    assert "step 3 of 50" in sentences
    write_log(folder, denoiser_records(5))
    write_run("another", [])
    for position, goes_to in ((3, 5), (2, 2)):
        runs, others, *answer = training.refresh(library, "young", NONE, position, seen)
        assert shown(tuple(answer))["slider"]["value"] == goes_to
        assert ("another (unfinished)", "another") in runs["choices"]
        assert others["choices"][0] == (NONE, NONE)


def test_a_run_that_vanishes_while_it_is_shown_is_said_to_be_gone_and_asked_for_no_more(library, write_run):
    folder = write_run("young", denoiser_records(3))
    seen = training.plot_loss(library, "young", NONE)[-1]
    shutil.rmtree(folder)
    runs, _, *answer = training.refresh(library, "young", NONE, 3, seen)
    assert runs["choices"] == [("young (gone)", "young")]
    answer = shown(tuple(answer))
    assert "no run 'young'" in answer["sentences"].unescape()
    assert not answer["timer"].active
    assert training.plot_loss(library, "young", NONE)[0] == answer["sentences"]
