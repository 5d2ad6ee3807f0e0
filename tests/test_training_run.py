"""Logs of known numbers: read, drawn, compared, still growing, damaged."""

import math
import os
import shutil
import time
from dataclasses import replace

import pytest
import torch
from conftest import uneven_statistics
from helpers import RUN_CONFIG, autoencoder_records, denoiser_records, write_log

from ldm_explorer.atomic import write_json
from ldm_explorer.checkpoints import read_log
from ldm_explorer.diagnosis.statistics import write_statistics
from ldm_explorer.explore.library import Library, open_library
from ldm_explorer.explore.training_run import find_runs, read_run
from ldm_explorer.explore.training_words import describe, status, why_not_comparable
from ldm_explorer.figures.loss import timestep_figure
from ldm_explorer.figures.training import training_figure
from ldm_explorer.run_folder import RunFolder


@pytest.fixture
def library(tmp_path) -> Library:
    """Knows no checkpoint, and where runs will be."""
    return Library({}, (), {}, roots=(tmp_path,))


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
def test_a_log_that_cannot_be_read_is_refused_in_one_sentence(library, write_run, content, said):
    (write_run("broken", []) / "train_log.jsonl").write_text(content)
    with pytest.raises(ValueError, match=said):
        read_run(library, "broken")


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
    write_json(folder / "train_config.json", RUN_CONFIG | {"max_steps": None})
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
    figure = training_figure((report,))
    assert [trace.name for trace in figure.data if trace.showlegend is not False][:2] == ["training", "validation"]
    heat = next(trace for trace in figure.data if trace.type == "heatmap")
    assert heat.z[4] == [record["validation_loss_per_bin"][4] for record in report.records]
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
    assert {"white floor", "class memorising"} <= {trace.name for trace in training_figure((report,)).data}
    write_log(folder, denoiser_records(3))
    assert "The validation loss stands at" in describe(read_run(library, "young"))


def test_a_training_that_fell_apart_can_be_drawn(library, write_run):
    write_run("broken", [record | {"loss": float("nan"), "validation_loss": 1e9} for record in denoiser_records(3)])
    figure = training_figure((read_run(library, "broken"),))
    assert all(math.isfinite(edge) for edge in figure.layout.yaxis.range)


def test_a_run_without_validation_has_its_loss_alone(library, write_run):
    write_run("young", [{"step": 20, "images": 2000, "loss": 0.9, "grad_norm": 2.0, "learning_rate": 1e-3}])
    assert "No validation so far: the training loss stands at 0.9" in describe(read_run(library, "young"))


def test_the_map_is_relative_to_the_floor_that_the_sentence_names(run_with_losses, tmp_path):
    run_with_losses([0.9, 0.5])
    report = read_run(open_library(tmp_path), "run")
    heat = next(trace for trace in training_figure((report,)).data if trace.type == "heatmap")
    floor = report.reading.floors_per_bin()["gaussian_per_class"]
    assert [2 ** row[1] * floor for row, floor in zip(heat.z, floor, strict=True)] == pytest.approx([0.5] * 10)
    assert "Gaussian floor of its class" in describe(report)


def test_an_autoencoder_shows_its_reconstruction_and_no_floors(library, write_run):
    write_run("vae", autoencoder_records(), prediction=None, kl_weight=1e-4)
    report = read_run(library, "vae")
    assert "reaches 24.0 dB (best 24.0), and the latents hold 2.5 nats per value" in describe(report)
    figure = training_figure((report,))
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


def test_two_runs_are_drawn_in_their_own_colours_also_where_the_palette_begins_again(library, write_run):
    write_run("one", denoiser_records(3))
    write_run("other", denoiser_records(5))
    reports = read_run(library, "one"), read_run(library, "other")
    again = replace(reports[1], run=replace(reports[1].run, color_index=reports[0].run.color_index))
    for pair in (reports, (reports[0], again)):
        figure = training_figure(pair)
        colors = {trace.name: trace.line.color for trace in figure.data if trace.name in ("one", "other")}
        assert len(set(colors.values())) == 2
        assert {trace.name for trace in timestep_figure(pair, 100).data} == {"one", "other"}
