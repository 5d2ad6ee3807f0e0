"""What a training's guard lets pass and what it stops, and what stopping leaves behind."""

import errno
import math
from dataclasses import replace

import pytest
from helpers import same_weights
from toy_training import CONFIG, Regression, log_lines, progress, run, train

from ldm_explorer.run_folder import FolderRefused
from ldm_explorer.training import check_options, run_state, store_options
from ldm_explorer.training.guard import Diverged, LossHistory, TrainingFailed
from ldm_explorer.training.run_state import latest_state


def watched(losses, grad_norm=1.0) -> LossHistory:
    history = LossHistory()
    for step, loss in enumerate(losses, start=1):
        history = history.after(step, loss, grad_norm, learning_rate=1e-3)
    return history


def test_a_loss_that_falls_stays_or_spikes_is_let_pass():
    watched([1.0] * 100)
    watched([1 / step for step in range(1, 1000)])
    watched([1.0] * 100 + [50.0] + [1.0] * 100)
    history = watched([0.5] * 200 + [1.2] * 1000)
    assert history.lowest == pytest.approx(0.5)
    assert history.smoothed == pytest.approx(1.2)


def test_a_loss_that_was_zero_is_no_measure():
    watched([0.0] * 3 + [1.0] * 3)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_is_stopped_with_its_step_and_past(loss):
    with pytest.raises(Diverged, match=rf"step 11 is {loss} \(the loss was about 0.5 before\).*rate 0.001"):
        watched([0.5] * 10 + [loss])


def test_a_first_loss_that_is_no_number_blames_the_data():
    with pytest.raises(Diverged, match="step 1 is nan, before any weight changed: the data"):
        watched([math.nan])


def test_a_gradient_that_is_no_number_is_stopped():
    with pytest.raises(Diverged, match="gradient norm of step 1 is inf"):
        watched([0.5], grad_norm=math.inf)


def test_a_loss_far_above_its_past_is_stopped_with_the_figures():
    with pytest.raises(Diverged, match=r"step \d+ is 1\.5\d*, 3\.\d times its lowest \(0\.5\)"):
        watched([0.5] * 100 + [2.0] * 1000)


class Faulty(Regression):
    """From a step on, its loss is multiplied."""

    def __init__(self, first: int, factor: float, times: int = 10**9):
        super().__init__()
        self.first, self.factor, self.times, self.step = first, factor, times, 0

    def batch(self, indices, generator):
        self.step += 1
        return super().batch(indices, generator)

    def loss(self, model, batch):
        losses = super().loss(model, batch)
        if self.step >= self.first and self.times > 0:
            self.times -= 1
            losses["loss"] = losses["loss"] * self.factor
        return losses


def run_in(folder, task, config, accelerator):
    folder.mkdir(exist_ok=True)
    return run(task, config, accelerator, folder)


@pytest.mark.parametrize("log_every_steps", [1, 5])
def test_a_bad_step_stops_the_run_and_leaves_the_state_before_it(accelerator, tmp_path, log_every_steps):
    config = replace(CONFIG, save_every_steps=4, log_every_steps=log_every_steps)
    with pytest.raises(TrainingFailed, match=r"step 11 is nan.*from step 8 .*--resume --on-divergence rollback"):
        run(Faulty(11, math.nan), config, accelerator, tmp_path)
    assert progress(tmp_path)["step"] == 8
    whole = run_in(tmp_path / "whole", Regression(), config, accelerator)
    resumed = run_in(tmp_path, Regression(), replace(config, resume=True), accelerator)
    assert same_weights(resumed.state_dict(), whole.state_dict())
    assert log_lines(tmp_path) == log_lines(tmp_path / "whole")


def test_a_state_is_never_saved_over_a_good_one_once_the_loss_is_bad(accelerator, tmp_path):
    """The bad step is the one whose state is due, and the one before it."""
    for first in (7, 8):
        config = replace(CONFIG, save_every_steps=4, log_every_steps=1000, validate_every_steps=1000)
        run_dir = tmp_path / str(first)
        with pytest.raises(TrainingFailed):
            run_in(run_dir, Faulty(first, math.nan), config, accelerator)
        assert progress(run_dir)["step"] == 4
        assert all(tensor.isfinite().all() for tensor in run_state.load_file(_tensors(run_dir)).values())


def _tensors(run_dir):
    return latest_state(run_dir) / "state.safetensors"


def test_closing_after_a_bad_step_keeps_the_state_before_it(accelerator, tmp_path):
    config = replace(CONFIG, save_every_steps=4, log_every_steps=1000, validate_every_steps=1000)
    train(Faulty(6, math.nan), config, accelerator, tmp_path, stop_after=7)
    assert progress(tmp_path)["step"] == 4


def test_rolling_back_goes_on_from_the_state_with_half_the_learning_rate(accelerator, tmp_path):
    config = replace(CONFIG, save_every_steps=4, on_divergence="rollback")
    steps, weights, _ = train(Faulty(11, math.nan, times=2), config, accelerator, tmp_path)
    notices = [step for step in steps if step.notice]
    assert [step.step for step in notices] == [8, 8]
    assert "back to step 8 with 0.25 of the learning rate" in notices[1].notice
    rates = [step.record["learning_rate"] for step in steps if step.record]
    expected = [step.record["learning_rate"] for step in train(Regression(), CONFIG, accelerator, tmp_path / "w")[0]]
    assert rates[:10] == expected[:10]
    assert rates[-12:] == [rate / 4 for rate in expected[8:]]
    assert progress(tmp_path)["lr_scale"] == 0.25
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_rolling_back_before_the_first_save_begins_again(accelerator, tmp_path):
    config = replace(CONFIG, on_divergence="rollback")
    steps, _, _ = train(Faulty(3, math.nan, times=1), config, accelerator, tmp_path)
    assert [step.step for step in steps][:5] == [1, 2, 0, 1, 2]


def test_rolling_back_ends_after_five_times(accelerator, tmp_path):
    config = replace(CONFIG, on_divergence="rollback")
    with pytest.raises(TrainingFailed, match="step 1 is nan"):
        run(Faulty(3, math.nan), config, accelerator, tmp_path)


def test_the_log_of_a_run_that_went_back_holds_every_step_once(accelerator, tmp_path):
    run(Faulty(11, math.nan, times=1), replace(CONFIG, on_divergence="rollback"), accelerator, tmp_path)
    assert [line["step"] for line in log_lines(tmp_path)] == list(range(1, 21))


@pytest.mark.parametrize("where", ["state", "log"])
def test_a_full_disk_ends_in_a_sentence_and_leaves_the_state_before(accelerator, tmp_path, monkeypatch, where):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    config = replace(CONFIG, save_every_steps=4, log_every_steps=3)
    steps = iter(range(1000))
    with monkeypatch.context() as patch:
        if where == "state":
            save, count = run_state.save_file, iter(range(1000))
            patch.setattr(run_state, "save_file", lambda *a: save(*a) if next(count) < 2 else full())
        else:
            add = run_state.TrainLog.add
            patch.setattr(run_state.TrainLog, "add", lambda *a: add(*a) if next(steps) < 4 else full())
        with pytest.raises(TrainingFailed, match=r"No space left on device.*from step \d+ .*--resume"):
            run(Regression(), config, accelerator, tmp_path)
    assert not list(tmp_path.glob(".state*"))
    whole = run_in(tmp_path / "whole", Regression(), config, accelerator)
    resumed = run_in(tmp_path, Regression(), replace(config, resume=True), accelerator)
    assert same_weights(resumed.state_dict(), whole.state_dict())


def test_a_disk_that_is_full_before_the_first_state_names_the_command_that_works(accelerator, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    config = replace(CONFIG, save_every_steps=4)
    check_options(config, tmp_path)
    store_options(config, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(run_state, "save_file", full)
        with pytest.raises(TrainingFailed, match="fix that and begin again with the same command and --resume"):
            run(Regression(), config, accelerator, tmp_path)
    with pytest.raises(FolderRefused, match="go on with --resume"):
        check_options(config, tmp_path)
    check_options(replace(config, resume=True), tmp_path)
    resumed = run(Regression(), replace(config, resume=True), accelerator, tmp_path)
    whole = run_in(tmp_path / "whole", Regression(), config, accelerator)
    assert same_weights(resumed.state_dict(), whole.state_dict())
    assert log_lines(tmp_path) == log_lines(tmp_path / "whole")
