"""Trackers are told apart, given what they take, and named where they cannot be had."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate.tracking import GeneralTracker, TensorBoardTracker
from toy_training import CONFIG, Regression, run

from ldm_explorer.training import make_accelerator, trackers
from ldm_explorer.training.trackers import check_tracker, log_picture


class Notebook(GeneralTracker):
    """Keeps what it is told."""

    name, requires_logging_directory = "tensorboard", False

    def __init__(self):
        super().__init__()
        self.kept, self.options = [], {}

    @property
    def tracker(self):
        return self

    def store_init_configuration(self, values):
        self.options = values

    def log(self, values, step=None, **_):
        self.kept.append((step, values))

    def log_images(self, values, step=None, **how):
        self.kept.append((step, values, how))

    def log_image(self, *picture, **how):
        self.kept.append((*picture, how))


@pytest.fixture
def notebook(accelerator, monkeypatch) -> Notebook:
    tracker = Notebook()
    monkeypatch.setattr(accelerator, "log_with", [tracker])
    return tracker


def test_a_tracker_is_given_options_numbers_and_the_film(accelerator, notebook, tmp_path):
    frame = torch.arange(2 * 16, dtype=torch.uint8).view(2, 1, 4, 4)
    run(Regression(frame=frame), replace(CONFIG, tracker="tensorboard"), accelerator, tmp_path / "run")
    numbers = {kept[0]: kept[1] for kept in notebook.kept if len(kept) == 2}
    pictures = {kept[0]: kept[1]["film"] for kept in notebook.kept if len(kept) == 3}
    assert list(numbers) == list(range(1, 21))
    assert numbers[5].keys() > {"loss", "validation_loss", "learning_rate"}
    assert list(pictures) == [1, 2, 4, 8, 16, 20]
    assert pictures[1].shape == (1, 4, 8, 3)
    assert np.array_equal(pictures[1][0, :, 4:, 2], frame[1, 0])
    assert notebook.options["batch_size"] == 8
    assert notebook.options["max_minutes"] == "None"


def test_the_options_of_a_denoiser_are_plain_values():
    """TensorBoard takes no lists."""
    told = {}
    accelerator = SimpleNamespace(init_trackers=lambda _, config: told.update(config), trackers=[])
    trackers.start_trackers(accelerator, {"widths": (16, 32), "out": None, "seed": 1, "resume": False, "rate": 0.5})
    assert told == {"widths": "(16, 32)", "out": "None", "seed": 1, "resume": False, "rate": 0.5}


def test_tensorboard_is_given_pictures_as_it_takes_them(monkeypatch):
    shown = []
    writer = SimpleNamespace(
        add_images=lambda name, value, global_step, dataformats: shown.append((name, value, dataformats))
    )
    tracker = TensorBoardTracker.__new__(TensorBoardTracker)
    monkeypatch.setattr(tracker, "writer", writer, raising=False)
    log_picture(SimpleNamespace(trackers=[tracker]), "film", np.zeros((4, 8, 3), np.uint8), 3)
    ((name, value, dataformats),) = shown
    assert (name, value.shape, dataformats) == ("film", (1, 4, 8, 3), "NHWC")


@pytest.mark.parametrize("name", trackers._PICTURES)
def test_each_is_given_a_picture_its_own_way(notebook, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "trackio", SimpleNamespace(Image=lambda picture: picture))
    notebook.name = name
    picture = np.full((4, 8, 3), 7, np.uint8)
    log_picture(SimpleNamespace(trackers=[notebook]), "film", picture, 3)
    assert "[7, 7, 7]" in repr(notebook.kept)
    assert "3" in repr(notebook.kept)


def test_one_that_takes_no_pictures_is_named(accelerator, notebook, caplog, tmp_path):
    notebook.name = "somebodys_own"
    frame = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    run(Regression(frame=frame), replace(CONFIG, tracker="somebodys_own"), accelerator, tmp_path / "run")
    assert caplog.text.count("somebodys_own is given no pictures") == 1
    assert len(notebook.kept) == 20


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tensorbord", "unknown --tracker tensorbord: choose one of .*tensorboard.*trackio"),
        ("", "unknown --tracker : choose"),
        ("all", "unknown --tracker all"),
        ("comet_ml", "--tracker comet_ml is not installed: pip install comet-ml"),
        ("aim", "--tracker aim is not installed: pip install aim"),
    ],
)
def test_one_that_cannot_be_had_is_answered_by_those_that_can(monkeypatch, name, said):
    monkeypatch.setattr(trackers, "get_available_trackers", lambda: ["tensorboard"])
    check_tracker("tensorboard")
    with pytest.raises(ValueError, match=said):
        check_tracker(name)


@pytest.mark.usefixtures("fresh_accelerate")
def test_a_mistyped_one_is_found_before_any_work(tmp_path):
    with pytest.raises(ValueError, match="unknown --tracker tensorbord"):
        make_accelerator(replace(CONFIG, tracker="tensorbord"), tmp_path)
