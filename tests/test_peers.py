"""The parts of benchmarks/peers.py: budgets, what is kept and not done again, every competitor that is installed."""

import math
import time
from functools import partial

import peer_budget
import peer_models
import peers
import pytest
import torch
from diffusers.optimization import get_cosine_schedule_with_warmup
from helpers import draw_shapes
from peer_budget import Budget
from peer_results import Entry, Results, entries, table, time_to, verdicts

from ldm_explorer.training.dataset import DataConfig

OURS = ("ours, labels", "ours, no labels")
SHORT = {"train": draw_shapes(80, seed=0), "validation": draw_shapes(20, seed=1)}


@pytest.fixture
def clock(monkeypatch):
    """Process time that passes when a test says so."""
    now = [100.0]
    monkeypatch.setattr(peer_budget, "time", type("Time", (), {"process_time": lambda: now[0]}))
    return now


def test_a_budget_keeps_the_network_at_each_mark_and_does_not_count_that(clock, tmp_path):
    budget, saved = Budget(30.0, tmp_path), []

    def save(folder):
        saved.append(folder.name)
        clock[0] += 1000

    for now in (105, 111, 1113, 1121):
        clock[0] = now
        budget.keep(save, images=now)
    assert saved == ["third", "two-thirds"]
    assert budget.share == 21 / 30
    clock[0] += 10
    assert budget.share == 1
    budget.keep(save, images=7, ended=True)
    assert saved == ["third", "two-thirds", "end"]
    assert budget.points["third"] == {"cpu_seconds": 11, "images": 111}
    assert budget.points["end"] == {"cpu_seconds": 31, "images": 7}


def test_a_mark_that_is_passed_without_a_network_has_none(clock, tmp_path):
    budget = Budget(30.0, tmp_path)
    clock[0] += 12
    budget.miss()
    budget.keep(lambda folder: None, images=1, ended=True)
    assert budget.points == {"third": None, "end": {"cpu_seconds": 12, "images": 1}}


def test_the_learning_rate_along_the_budget_is_that_of_diffusers_schedule():
    steps, warmup = 200_000, peer_models.WARMUP_STEPS
    parameter = torch.nn.Parameter(torch.zeros(1))
    schedule = get_cosine_schedule_with_warmup(torch.optim.SGD([parameter], 1.0), warmup, steps).lr_lambdas[0]
    for step in (0, 100, 499):
        assert peer_models.learning_rate_share(step, step / steps) == pytest.approx(schedule(step), rel=0.01)
    for step in (1000, 100_000, 199_999):
        assert peer_models.learning_rate_share(step, step / steps) == pytest.approx(schedule(step), abs=0.005)
    assert peer_models.learning_rate_share(60, 0.05) == (1 + math.cos(math.pi * 0.05)) / 2  # of a short budget


def test_what_is_done_is_not_done_again(tmp_path):
    entry, results, done = Entry("ours, labels", None, 0, 1.0), Results(tmp_path / "out", 20.0), []

    def compute() -> dict:
        done.append(1)
        return {"fd_percent": 1.5}

    results.piece(entry, "end", compute)
    again = Results(tmp_path / "out", 20.0)
    again.piece(entry, "end", compute)
    assert (len(done), again.of(entry)) == (1, {"end": {"fd_percent": 1.5}})


def test_a_benchmark_that_was_stopped_before_its_first_piece_goes_on(tmp_path):
    results = Results(tmp_path / "out", 20.0)
    results.folder_of(Entry("diffusers", 1e-4, 0, 1.0)).mkdir()
    assert Results(tmp_path / "out", 20.0).content == results.content


def test_other_files_and_other_budgets_are_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SystemExit, match="give a new folder"):
        Results(tmp_path, 20.0)
    Results(tmp_path / "out", 20.0).piece(Entry("diffusers", 1e-4, 0, 1.0), "end", dict)
    with pytest.raises(SystemExit, match="has results of 20 CPU-seconds, not 900"):
        Results(tmp_path / "out", 900.0)


def test_the_time_to_an_fd_is_that_of_the_slowest_seed():
    whole, third = (1.0, "end"), (1 / 3, "end")
    seeds = [{whole: (900.0, 5.0), third: (300.0, 19.0)}, {whole: (890.0, 6.0), third: (310.0, 21.0)}]
    assert [time_to(wanted, seeds) for wanted in (25.0, 21.0, 20.0, 5.5)] == [310.0, 310.0, 900.0, None]
    seeds[1].pop(third)
    assert time_to(25.0, seeds) == 900.0


def measured(seconds: float, fd_percent: float, **others) -> dict:
    """The pieces of a training that was looked at once."""
    point, training = {"cpu_seconds": seconds, "images": 160}, {"precision": "fp32"}
    end = {"fd_percent": fd_percent, "fd_percent_of_256": fd_percent + 1, "coverage": 0.5, "class_consistency": None}
    end["sampling_cpu_seconds_of_64"] = 1.25
    return {"training": {"points": {"third": None, "end": point}} | training, "end": end} | others


def test_the_table_has_what_was_measured_and_a_peer_is_judged_by_its_better_learning_rate(tmp_path):
    results = Results(tmp_path / "out", 900.0)
    found = results.content["entries"]
    found["diffusers; 0.0001; 0; 1"] = measured(901.0, 80.0)
    assert [line.partition(" that")[0] for line in verdicts(results)] == [f"{name} to the 80 %" for name in OURS]
    found["diffusers; 0.001; 0; 1"] = measured(900.0, 20.0, full={"fd_percent": 18.0})
    found["ours, labels; default; 0; 1"] = measured(890.0, 5.0)
    found["ours, labels; default; 1; 1"] = measured(880.0, 6.0)
    found["ours, labels; default; 0; 0.125"] = measured(112.0, 15.0)
    found["ours, labels; default; 1; 0.125"] = measured(117.0, 21.0)
    labelled, unlabelled = verdicts(results)
    assert "20 % that diffusers has after 900 CPU-seconds: after 890, 0.99 of its time" in labelled
    assert "at no look that every seed has" in unlabelled
    found["ours, labels; default; 1; 0.125"] = measured(117.0, 19.0)
    assert "after 117, 0.13 of its time" in verdicts(results)[0]
    assert "| diffusers | 0.001 | 0 | 1 | 900 | 160 | fp32 | - | - | 20 | 0.5 | - | 1.25 | 21 | 18 |" in table(results)
    assert len(table(results).splitlines()) == 2 + len(found)


@pytest.mark.usefixtures("fresh_accelerate")
@pytest.mark.parametrize("name", [name for name in peer_models.COMPETITORS if name != OURS[1]])
def test_every_competitor_trains_within_a_budget_and_samples(monkeypatch, tmp_path, name):
    monkeypatch.setattr(DataConfig, "load", lambda self, split: SHORT[split])
    monkeypatch.setattr(peer_models, "load_split", lambda dataset, split: SHORT[split])
    monkeypatch.setattr(peer_models, "UNET_WIDTHS", (8, 8, 8))
    monkeypatch.setattr(peer_models, "DDPM_WIDTH", 8)
    monkeypatch.setattr(peer_models, "ALL_STEPS", 10)
    monkeypatch.setattr(peer_models, "DDIM_STEPS", 5)
    monkeypatch.setattr(peer_models, "LEAST_SECONDS", 1e-3)
    for config in ("VAETrainConfig", "LDMTrainConfig"):
        options = {"widths": (16, 32)} | ({"latent_size": 16} if config == "VAETrainConfig" else {})
        monkeypatch.setattr(peer_models, config, partial(getattr(peer_models, config), **options))
    results = Results(tmp_path / "out", 0.2)
    entry = next(entry for entry in entries() if entry.competitor == name)
    state, began = torch.get_rng_state(), time.process_time()
    trained = peers.train(entry, results)
    assert trained["points"]["end"]["images"] >= 16
    assert trained["points"]["end"]["cpu_seconds"] <= time.process_time() - began + 0.05
    assert {mark for mark, point in trained["points"].items() if point} == {
        folder.name for folder in results.folder_of(entry).iterdir() if folder.name in peer_budget.MARKS
    }
    for full in (False, True):
        sample = peer_models.COMPETITORS[name].sample
        images, labels = sample(results.folder_of(entry) / "end", 3, 0, full)
        assert (images.shape, images.dtype) == ((3, 1, 28, 28), torch.uint8)
        assert (labels is not None) == (name == OURS[0])
        assert torch.equal(images, sample(results.folder_of(entry) / "end", 3, 0, full)[0])
    assert torch.equal(torch.get_rng_state(), state)
