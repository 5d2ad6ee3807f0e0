import json
import shutil
import signal
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from accelerate.state import AcceleratorState
from foreign_files import plant, unchanged
from helpers import same_weights
from torch import nn
from toy_training import CONFIG, Regression, log_lines, progress, run, train

from ldm_explorer.run_folder import MARK, FolderRefused, RunFolder
from ldm_explorer.training import (
    FitConfig,
    TrainingFailed,
    check_options,
    clock,
    drive,
    fit,
    latest_state,
    make_accelerator,
    processes,
    store_options,
)
from ldm_explorer.training.config import batch_indices, budget_in_steps, learning_rate_at
from ldm_explorer.training.failures import ProcessLost


class Constant(Regression):
    """Its loss has no gradient."""

    def loss(self, model, batch):
        return {"loss": 0 * model(batch["x"]).mean()}


def test_the_loss_falls(accelerator, tmp_path):
    steps, _, _ = train(Regression(), replace(CONFIG, max_steps=200), accelerator, tmp_path)
    losses = [step.record["loss"] for step in steps]
    assert sum(losses[-20:]) < 0.1 * sum(losses[:20])
    assert steps[-1].record["validation_loss"] < 0.1 * steps[4].record["validation_loss"]


def test_every_step_is_told_as_it_was(accelerator, tmp_path):
    steps, _, _ = train(Regression(), CONFIG, accelerator, tmp_path)
    assert [step.step for step in steps] == list(range(1, 21))
    assert {step.total_steps for step in steps} == {20}
    assert [step.images for step in steps] == [8 * count for count in range(1, 21)]
    records = [step.record for step in steps]
    assert [record["learning_rate"] for record in records] == [learning_rate_at(step, 20, CONFIG) for step in range(20)]
    assert [record["step"] for record in records if "validation_loss" in record] == [5, 10, 15, 20]
    assert {"loss", "bias", "grad_norm", "cpu_seconds"} < set(records[0])


def test_the_same_seed_trains_the_same_weights_and_another_does_not(accelerator, tmp_path):
    _, first, _ = train(Regression(), CONFIG, accelerator, tmp_path / "a")
    torch.manual_seed(123)
    _, again, _ = train(Regression(), CONFIG, accelerator, tmp_path / "b")
    _, other, _ = train(Regression(), replace(CONFIG, seed=1), accelerator, tmp_path / "c")
    assert same_weights(first, again)
    assert not same_weights(first, other)


@pytest.mark.parametrize("stop_after", [1, 7, 19])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(accelerator, tmp_path, stop_after):
    whole_steps, whole, whole_averaged = train(Regression(), CONFIG, accelerator, tmp_path / "whole")
    before, _, _ = train(Regression(), CONFIG, accelerator, tmp_path / "parts", stop_after=stop_after)
    assert progress(tmp_path / "parts")["step"] == stop_after
    torch.manual_seed(123)
    resumed = replace(CONFIG, resume=True)
    after, weights, averaged = train(Regression(), resumed, accelerator, tmp_path / "parts")
    assert [step.step for step in before + after] == list(range(1, 21))
    assert [step.record["loss"] for step in before + after] == [step.record["loss"] for step in whole_steps]
    assert same_weights(weights, whole)
    assert same_weights(averaged, whole_averaged)
    assert after[0].record["cpu_seconds"] >= before[-1].record["cpu_seconds"] - 0.1


def test_a_killed_run_goes_on_from_its_last_saved_state(accelerator, tmp_path):
    config = replace(CONFIG, save_every_steps=6)
    _, whole, _ = train(Regression(), config, accelerator, tmp_path / "whole")
    (tmp_path / "killed").mkdir()
    for step, _ in fit(Regression(), config, accelerator, tmp_path / "killed"):
        if step.step == 9:
            shutil.copytree(tmp_path / "killed", tmp_path / "left")
            break
    after, weights, _ = train(Regression(), replace(config, resume=True), accelerator, tmp_path / "left")
    assert after[0].step == 7
    assert same_weights(weights, whole)


def test_a_state_that_two_kills_left_is_gone_when_the_run_goes_on(accelerator, tmp_path):
    config = replace(CONFIG, save_every_steps=10)
    train(Regression(), config, accelerator, tmp_path)
    for name in ("state.safetensors", "progress.json"):
        RunFolder(tmp_path).write_text(f"state-000000010/{name}", "{}")
    train(Regression(), replace(config, resume=True), accelerator, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [MARK, "state-000000020"]


def test_one_state_is_kept_and_holds_nothing_pickled(accelerator, tmp_path):
    train(Regression(), replace(CONFIG, save_every_steps=3), accelerator, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [MARK, "state-000000020"]
    assert [path.name for path in (tmp_path / MARK).iterdir()] == ["files.json"]
    assert RunFolder(tmp_path).names == {f"state-000000020/{name}" for name in ("progress.json", "state.safetensors")}
    assert sorted(path.name for path in latest_state(tmp_path).iterdir()) == ["progress.json", "state.safetensors"]


def test_the_newest_whole_state_of_the_run_counts(tmp_path):
    """One that a kill left half-written does not, nor what others put there, whatever its name."""
    assert latest_state(tmp_path) is None
    for step in (900, 1000, 2000):
        RunFolder(tmp_path).write_text(f"state-{step:09d}/progress.json", "{}")
    (tmp_path / "state-000002000" / "progress.json").unlink()
    RunFolder(tmp_path).write_text("state-000003000/state.safetensors", "")
    for name in ("state-999999999", "state-notes", ".state-000002000.x7f"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "progress.json").write_text("{}")
    assert latest_state(tmp_path).name == "state-000001000"


def test_states_and_frames_of_others_are_neither_resumed_from_nor_deleted(accelerator, tmp_path):
    config = replace(CONFIG, save_every_steps=3)
    _, whole, _ = train(Regression(), config, accelerator, tmp_path / "whole")
    train(Regression(), config, accelerator, tmp_path / "run", stop_after=7)
    planted = plant(tmp_path / "run", tmp_path / "elsewhere")
    (tmp_path / "run" / "state-000000007" / "notes.txt").write_text("mine")
    _, weights, _ = train(Regression(), replace(config, resume=True), accelerator, tmp_path / "run")
    assert same_weights(weights, whole)
    assert unchanged(tmp_path / "run", planted)
    assert [path.name for path in (tmp_path / "run" / "state-000000007").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("name", ["state-000000006/progress.json", "film/step-000000016.webp", "train_log.jsonl"])
def test_a_file_of_others_in_the_way_ends_the_run_in_a_sentence_and_is_kept(accelerator, tmp_path, name):
    """And when it was moved away the run goes on, to what it would have been."""
    config, frame = replace(CONFIG, save_every_steps=3), torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    whole = run(Regression(frame=frame), config, accelerator, tmp_path / "whole")
    path = tmp_path / "run" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(TrainingFailed, match=r"did not write it: move it away, then (go on|begin again) .*--resume"):
        run(Regression(frame=frame), config, accelerator, tmp_path / "run")
    assert path.read_text() == "mine"
    path.unlink()
    resumed = run(Regression(frame=frame), replace(config, resume=True), accelerator, tmp_path / "run")
    assert same_weights(resumed.state_dict(), whole.state_dict())
    assert log_lines(tmp_path / "run") == log_lines(tmp_path / "whole")


def test_without_resume_a_run_starts_from_the_beginning(accelerator, tmp_path):
    train(Regression(), CONFIG, accelerator, tmp_path, stop_after=7)
    steps, _, _ = train(Regression(), CONFIG, accelerator, tmp_path)
    assert steps[0].step == 1


def test_the_average_of_constant_weights_is_the_weights(accelerator, tmp_path):
    task = Constant()
    before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    _, weights, averaged = train(task, CONFIG, accelerator, tmp_path)
    assert same_weights(weights, before)
    assert same_weights(averaged, before)


def test_the_average_has_its_half_life_in_images_and_ramps_up(accelerator, tmp_path):
    """Karras et al. 2022 (EDM): half-life min(H, 5 % of the images seen before this step)."""
    task, config = Regression(), replace(CONFIG, max_steps=200, ema_halflife_images=40)
    expected = None
    for step, averaged in fit(task, config, accelerator, tmp_path):
        weights = torch.cat([parameter.detach().double().flatten() for parameter in task.model.parameters()])
        halflife = min(40, 0.05 * (step.images - config.batch_size))
        decay = 0.5 ** (config.batch_size / halflife) if halflife else 0.0
        expected = weights if expected is None else decay * expected + (1 - decay) * weights
        ours = torch.cat([parameter.double().flatten() for parameter in averaged.parameters()])
    assert torch.allclose(ours, expected, atol=1e-6)
    assert not torch.allclose(ours, weights, atol=1e-4)


def test_gradients_are_clipped(accelerator, tmp_path):
    """Adam hides a gradient's scale but not its clipping to next to nothing, below its epsilon."""
    task = Regression()
    before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    steps, weights, _ = train(task, replace(CONFIG, grad_clip_norm=1e-12, max_steps=1), accelerator, tmp_path)
    assert steps[0].record["grad_norm"] > 0.1
    assert all(torch.allclose(weights[name], before[name], atol=1e-4) for name in before)


def test_the_learning_rate_warms_up_and_falls_to_0():
    config = replace(CONFIG, learning_rate=1.0, lr_warmup_steps=10)
    assert learning_rate_at(0, None, config) == pytest.approx(0.1)
    assert learning_rate_at(4, None, config) == pytest.approx(0.5)
    assert learning_rate_at(500, None, config) == 1
    assert learning_rate_at(0, 100, config) == pytest.approx(0.1)
    assert learning_rate_at(9, 100, config) == pytest.approx(0.91)
    assert learning_rate_at(50, 100, config) == pytest.approx(0.5)
    assert learning_rate_at(99, 100, config) == pytest.approx(0.01)
    assert learning_rate_at(100, 100, config) == 0
    assert learning_rate_at(0, 100, replace(config, lr_warmup_steps=0)) == 1


@pytest.mark.parametrize(("steps", "warm_after"), [(230, 12), (20, 1), (4000, 200), (100_000, 200)])
def test_the_warm_up_is_a_share_of_the_budget(steps, warm_after):
    config = FitConfig(max_steps=steps, learning_rate=1.0)
    rates = [learning_rate_at(step, steps, config) for step in range(steps)]
    assert max(rates) == rates[warm_after - 1] == pytest.approx(1, abs=0.06)
    assert rates[0] == pytest.approx(max(1 / 200, min(1, 20 / steps)))
    epochs = FitConfig(max_epochs=1, learning_rate=1.0)
    assert rates == [learning_rate_at(step, steps, epochs) for step in range(steps)]


def test_a_run_of_230_steps_reaches_its_learning_rate(accelerator, tmp_path):
    config = replace(CONFIG, max_steps=230, lr_warmup_steps=None, validate_every_steps=1000)
    steps, _, _ = train(Regression(), config, accelerator, tmp_path)
    rates = [step.record["learning_rate"] for step in steps]
    assert max(rates) == pytest.approx(config.learning_rate, rel=0.06)
    assert rates.index(max(rates)) == 11


def test_the_warm_up_of_a_budget_in_minutes_is_the_share_that_is_timed(accelerator, tmp_path, monkeypatch):
    """Of 6 seconds .3 are timed; a run that is stopped on the way goes on to the same weights."""
    config = replace(CONFIG, max_steps=None, max_minutes=0.1, lr_warmup_steps=None)
    whole, weights, _ = train(tick(monkeypatch, Regression(), 2**-5), config, accelerator, tmp_path / "whole")
    rates = [step.record["learning_rate"] for step in whole]
    assert rates[:3] == pytest.approx([config.learning_rate * share for share in (1 / 200, 1 / 9.6, 2 / 9.6)])
    warm = [step.total_steps for step in whole].index(whole[-1].total_steps) + 1
    assert rates[warm] == pytest.approx(config.learning_rate * (1 - warm / len(rates)))
    assert rates[warm:] == sorted(rates[warm:], reverse=True)
    before, _, _ = train(tick(monkeypatch, Regression(), 2**-5), config, accelerator, tmp_path / "parts", stop_after=4)
    after, resumed, _ = train(
        tick(monkeypatch, Regression(), 2**-5), replace(config, resume=True), accelerator, tmp_path / "parts"
    )
    assert [step.record["learning_rate"] for step in before + after] == rates
    assert same_weights(resumed, weights)


def test_the_warm_up_of_minutes_is_no_longer_than_that_of_steps():
    config = FitConfig(max_minutes=60, learning_rate=1.0)
    assert learning_rate_at(199, None, config, spent=0.01) == 1


@pytest.mark.parametrize(("num_examples", "batch_size"), [(12, 4), (10, 4), (7, 3), (5, 8)])
def test_every_example_comes_once_per_epoch(num_examples, batch_size):
    config = replace(CONFIG, batch_size=batch_size)
    batches = [batch_indices(step, num_examples, config) for step in range(30)]
    assert all(batch.shape == (batch_size,) for batch in batches)
    epochs = torch.cat(batches).split(num_examples)
    whole = [epoch.tolist() for epoch in epochs if len(epoch) == num_examples]
    assert all(sorted(epoch) == list(range(num_examples)) for epoch in whole)
    assert any(one != other for one, other in pairwise(whole))


def test_the_order_of_the_examples_depends_on_the_seed():
    assert not torch.equal(batch_indices(0, 1000, CONFIG), batch_indices(0, 1000, replace(CONFIG, seed=1)))


def test_budgets_become_steps():
    def without_steps(**budget):
        return FitConfig(batch_size=50, **budget)

    assert budget_in_steps(CONFIG, 1000) == 20
    assert budget_in_steps(without_steps(max_epochs=1.5), 1000) == 30
    assert budget_in_steps(without_steps(max_epochs=1.5, gradient_accumulation_steps=3), 1000) == 10
    assert budget_in_steps(without_steps(max_epochs=1e-9), 1000) == 1
    assert budget_in_steps(without_steps(max_minutes=2), 1000) is None
    assert FitConfig().max_minutes == FitConfig.DEFAULT_MINUTES


def tick(monkeypatch, task: Regression, seconds_per_step: float) -> Regression:
    """Sets a clock that goes on while the task computes a loss, and at no other time."""
    now, loss = [0.0], task.loss
    monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def timed(*arguments):
        now[0] += seconds_per_step
        return loss(*arguments)

    task.loss = timed
    return task


def test_minutes_become_steps_once_a_twentieth_is_timed_and_stay(accelerator, tmp_path, monkeypatch):
    config = replace(CONFIG, max_steps=None, max_minutes=0.1)
    steps, _, _ = train(tick(monkeypatch, Regression(), 0.125), config, accelerator, tmp_path, stop_after=40)
    assert [step.total_steps for step in steps] == [None] * 2 + [45] * 38, "of 6 seconds .3 are timed and 5.7 planned"
    assert {name: progress(tmp_path)[name] for name in ("step", "total_steps")} == {"step": 40, "total_steps": 45}
    assert progress(tmp_path)["seconds"] == pytest.approx(5.0)
    config = replace(config, resume=True)
    steps, _, _ = train(tick(monkeypatch, Regression(), 1e-6), config, accelerator, tmp_path)
    assert [step.step for step in steps] == list(range(41, 46))


def test_steps_that_a_gpu_is_still_at_take_the_time_that_it_is_waited_for(accelerator, tmp_path, monkeypatch):
    """Their metrics are fetched every 8 steps, and the time is over only then."""
    now, reduce, seconds_per_step = [0.0], accelerator.reduce, 2**-7

    def waiting(values, how):
        now[0] += seconds_per_step * len(values) if values.ndim == 2 else 0
        return reduce(values, how)

    monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(accelerator, "reduce", waiting)
    config = replace(CONFIG, max_steps=None, max_minutes=0.1, log_every_steps=8, validate_every_steps=1000)
    steps, _, _ = train(Regression(), config, accelerator, tmp_path, stop_after=48)
    assert steps[-1].total_steps == pytest.approx(clock.SHARE_TO_PLAN * 6 / seconds_per_step, rel=0.03)


def test_a_budget_in_minutes_holds_from_the_first_step_and_over_all_resumes(accelerator, tmp_path, monkeypatch):
    config = replace(CONFIG, max_steps=None, max_minutes=0.1)
    steps, _, _ = train(tick(monkeypatch, Regression(), 100.0), config, accelerator, tmp_path / "slow")
    assert [(step.step, step.total_steps) for step in steps] == [(1, 1)]
    assert "validation_loss" in steps[-1].record
    train(tick(monkeypatch, Regression(), 1.5), config, accelerator, tmp_path / "parts", stop_after=1)
    config = replace(config, resume=True)
    steps, _, _ = train(tick(monkeypatch, Regression(), 4.6), config, accelerator, tmp_path / "parts")
    assert [(step.step, step.total_steps) for step in steps] == [(2, 2)]


@pytest.mark.parametrize(
    "budgets",
    [{"max_steps": 1, "max_epochs": 1}, {"max_steps": 1, "max_minutes": 1}, {"max_epochs": 1, "max_minutes": 1}],
)
def test_two_budgets_are_refused(budgets):
    with pytest.raises(ValueError, match="one budget"):
        FitConfig(**budgets)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_steps", 0),
        ("max_minutes", -1.0),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("grad_clip_norm", -1.0),
        ("threads", 0),
        ("save_every_steps", 0),
        ("ema_halflife_images", 0),
        ("lr_warmup_steps", -1),
    ],
)
def test_options_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} is {value}"):
        FitConfig(**{name: value})


@pytest.mark.usefixtures("fresh_accelerate")
def test_a_batch_that_does_not_divide_over_the_processes_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "Accelerator", lambda **_: SimpleNamespace(num_processes=3))
    with pytest.raises(ValueError, match="8 does not divide over 3"):
        make_accelerator(CONFIG, tmp_path)


def prepare(config, run_dir):
    check_options(config, run_dir)
    store_options(config, run_dir)


def begin(run_dir):
    prepare(CONFIG, run_dir)
    (run_dir / "train_log.jsonl").touch()


def test_a_folder_in_which_nothing_was_trained_is_taken_again(tmp_path):
    prepare(CONFIG, tmp_path / "run")
    prepare(replace(CONFIG, seed=1), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "train_config.json").read_text())["seed"] == 1


@pytest.mark.parametrize("left", ["log", "state"])
def test_a_run_that_lost_its_options_is_refused(accelerator, tmp_path, left):
    """Others would be taken for those it was started with."""
    if left == "log":
        begin(tmp_path)
        (tmp_path / "train_config.json").unlink()
    else:
        train(Regression(), CONFIG, accelerator, tmp_path, stop_after=7)
    with pytest.raises(
        FolderRefused, match=r"a run without its train_config\.json.*put that file back, or give another"
    ):
        prepare(replace(CONFIG, resume=True), tmp_path)
    assert not (tmp_path / "train_config.json").exists()


@pytest.mark.parametrize("has_log", [True, False])
def test_a_finished_run_without_its_state_is_not_trained_again_from_the_start(tmp_path, has_log):
    """Its log, film and weights would go with the first step, unless that is wanted."""
    begin(tmp_path)
    (tmp_path / "train_log.jsonl").unlink() if not has_log else None
    RunFolder(tmp_path).write_json("metrics.json", {})
    with pytest.raises(FolderRefused, match="already holds a run"):
        prepare(CONFIG, tmp_path)
    with pytest.raises(FolderRefused, match=r"a finished run without its state.*delete its metrics\.json"):
        prepare(replace(CONFIG, resume=True), tmp_path)
    (tmp_path / "metrics.json").unlink()
    prepare(replace(CONFIG, resume=True), tmp_path)


def test_an_existing_run_is_refused_without_resume(tmp_path):
    begin(tmp_path / "run")
    with pytest.raises(FileExistsError, match=r"--resume.*--out"):
        prepare(CONFIG, tmp_path / "run")
    prepare(replace(CONFIG, resume=True), tmp_path / "run")


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"batch_size": 9}, {"learning_rate": 0.1}, {"max_steps": 21}, {"precision": "bf16"}]
)
def test_resuming_with_other_options_is_refused_by_name(tmp_path, change):
    begin(tmp_path)
    before = (tmp_path / "train_config.json").read_text()
    ((name, value),) = change.items()
    with pytest.raises(ValueError, match=f"{name} = {getattr(CONFIG, name)}, not {value}"):
        prepare(replace(CONFIG, resume=True, **change), tmp_path)
    assert (tmp_path / "train_config.json").read_text() == before


def test_a_run_from_before_an_option_existed_goes_on_with_its_default(tmp_path):
    begin(tmp_path)
    stored = json.loads((tmp_path / "train_config.json").read_text())
    assert stored.pop("weight_decay") == 0.0
    (tmp_path / "train_config.json").write_text(json.dumps(stored))
    prepare(replace(CONFIG, resume=True), tmp_path)
    with pytest.raises(ValueError, match=r"weight_decay = 0.0, not 0.1"):
        prepare(replace(CONFIG, resume=True, weight_decay=0.1), tmp_path)


def test_options_that_change_no_weight_may_differ_on_resume(tmp_path):
    begin(tmp_path)
    prepare(replace(CONFIG, resume=True, threads=2, log_every_steps=7, save_every_steps=9), tmp_path)


def test_resuming_on_other_images_is_refused(accelerator, tmp_path):
    train(Regression(), CONFIG, accelerator, tmp_path, stop_after=7)
    more = Regression()
    more.num_examples = 101
    with pytest.raises(ValueError, match="trained on 100 images and there are 101 now"):
        train(more, replace(CONFIG, resume=True), accelerator, tmp_path)


class Wider(Regression):
    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(nn.Linear(1, 9), nn.Tanh(), nn.Linear(9, 1))


@pytest.mark.parametrize("damage", ["weights cut short", "weights gone", "progress", "another network"])
def test_resuming_from_a_damaged_state_or_one_of_another_network_is_refused_by_name(accelerator, tmp_path, damage):
    train(Regression(), CONFIG, accelerator, tmp_path, stop_after=7)
    state = latest_state(tmp_path)
    if damage == "progress":
        (state / "progress.json").write_text('{"step": 7, "no": "such figure"}')
    weights = (state / "state.safetensors").read_bytes()
    if damage == "weights cut short":
        (state / "state.safetensors").write_bytes(weights[:-100])
    if damage == "weights gone":
        (state / "state.safetensors").unlink()
    task = Wider() if damage == "another network" else Regression()
    with pytest.raises(ValueError, match=r"state-000000007 cannot be loaded.*another --out"):
        train(task, replace(CONFIG, resume=True), accelerator, tmp_path)


@pytest.mark.usefixtures("fresh_accelerate")
def test_a_run_that_goes_on_keeps_the_precision_it_began_with(tmp_path, monkeypatch):
    """Where bf16 is worth it is measured, and may be measured otherwise another day."""
    config = replace(CONFIG, precision="auto")
    for resume, bf16_is_faster in ((False, True), (True, False)):
        AcceleratorState._reset_state(reset_partial_state=True)
        monkeypatch.setattr(processes, "bf16_is_faster", lambda _, answer=bf16_is_faster: answer)
        accelerator = make_accelerator(replace(config, resume=resume), tmp_path)
        assert accelerator.mixed_precision == "bf16"
        train(Regression(), replace(config, resume=resume), accelerator, tmp_path, stop_after=7)
        assert progress(tmp_path)["precision"] == "bf16"


@pytest.mark.usefixtures("fresh_accelerate")
def test_a_second_training_of_a_process_takes_the_precision_of_the_first(tmp_path, monkeypatch):
    """Accelerate has one per process, and a second timing may come out otherwise."""
    for bf16_is_faster in (True, False):
        monkeypatch.setattr(processes, "bf16_is_faster", lambda device, answer=bf16_is_faster: answer)
        assert make_accelerator(replace(CONFIG, precision="auto"), tmp_path).mixed_precision == "bf16"
    other = {"fp32": "bf16", "bf16": "fp32"}[processes.precision_of(AcceleratorState())]
    with pytest.raises(
        ValueError, match=f"--precision is {other}, and an earlier training of this process computed in"
    ):
        make_accelerator(replace(CONFIG, precision=other), tmp_path / "other")


@pytest.mark.parametrize(("bf16_seconds", "worth_it"), [(0.4, True), (0.9, False), (1.8, False)])
def test_bf16_is_used_where_it_is_clearly_faster(monkeypatch, bf16_seconds, worth_it):
    seconds = {torch.float32: 1.0, torch.bfloat16: bf16_seconds}
    monkeypatch.setattr(processes, "_convolution_seconds", seconds.get)
    assert processes.bf16_is_faster(torch.device("cpu")) is worth_it


def test_resuming_what_never_began_begins(accelerator, tmp_path):
    config = replace(CONFIG, resume=True)
    prepare(config, tmp_path / "run")
    averaged = run(Regression(), config, accelerator, tmp_path / "run")
    assert averaged is not None
    assert [line["step"] for line in log_lines(tmp_path / "run")] == list(range(1, 21))


def test_the_log_holds_the_means_since_the_last_line(accelerator, tmp_path):
    steps, _, _ = train(Regression(), CONFIG, accelerator, tmp_path / "fit")
    config = replace(CONFIG, log_every_steps=8, validate_every_steps=10)
    (tmp_path / "run").mkdir()
    run(Regression(), config, accelerator, tmp_path / "run")
    lines = log_lines(tmp_path / "run")
    assert [line["step"] for line in lines] == [8, 10, 16, 20]
    for line, first in zip(lines, [0, 8, 10, 16], strict=True):
        part = steps[first : line["step"]]
        assert line["loss"] == pytest.approx(sum(step.record["loss"] for step in part) / len(part), rel=1e-5)
        assert ("validation_loss" in line) == (line["step"] in (10, 20))


@pytest.mark.parametrize("interrupt_at", [1, 7, 13])
def test_ctrl_c_saves_and_resuming_leaves_the_log_of_an_uninterrupted_run(accelerator, tmp_path, interrupt_at):
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = run(Regression(), CONFIG, accelerator, tmp_path / "whole")
    handler = signal.getsignal(signal.SIGINT)
    assert run(Regression(interrupt_at), CONFIG, accelerator, tmp_path / "parts") is None
    assert progress(tmp_path / "parts")["step"] == interrupt_at
    assert signal.getsignal(signal.SIGINT) is handler
    resumed = run(Regression(), replace(CONFIG, resume=True), accelerator, tmp_path / "parts")
    assert same_weights(resumed.state_dict(), whole.state_dict())
    assert log_lines(tmp_path / "parts") == log_lines(tmp_path / "whole")


def test_where_there_is_no_term_signal_ctrl_c_still_stops(accelerator, tmp_path, monkeypatch):
    """Windows has another one in its place."""
    monkeypatch.delattr(signal, "SIGTERM")
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR1, raising=False)
    handler = signal.getsignal(signal.SIGUSR1)
    assert run(Regression(interrupt_at=7), CONFIG, accelerator, tmp_path) is None
    assert progress(tmp_path)["step"] == 7
    assert signal.getsignal(signal.SIGUSR1) is handler


@pytest.mark.parametrize(("failure", "kept"), [(ProcessLost, True), (TrainingFailed, False)])
def test_a_process_that_lost_another_is_not_ended_before_it_said_so(failure, kept):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(failure), drive._Interrupt():
        raise failure
    assert (signal.getsignal(signal.SIGTERM) is not before) == kept
    signal.signal(signal.SIGTERM, before)


def test_the_log_of_a_killed_run_is_cut_back_to_its_state(accelerator, tmp_path):
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    run(Regression(), CONFIG, accelerator, tmp_path / "whole")
    config = replace(CONFIG, save_every_steps=6)
    run(Regression(interrupt_at=6), config, accelerator, tmp_path / "killed")
    with (tmp_path / "killed" / "train_log.jsonl").open("a") as log:
        log.write('{"step": 7, "loss": 99.0}\n{"step": 8, "loss": 99.0}\n{"step": 9, "lo')
    run(Regression(), replace(config, resume=True), accelerator, tmp_path / "killed")
    assert log_lines(tmp_path / "killed") == log_lines(tmp_path / "whole")


def test_ctrl_c_in_the_last_step_still_ends_the_training(accelerator, tmp_path):
    averaged = run(Regression(interrupt_at=20), CONFIG, accelerator, tmp_path)
    assert averaged is not None


def test_a_run_that_is_trained_to_its_end_but_was_not_exported_can_be(accelerator, tmp_path):
    """The state of the last step is on disk before the checkpoint is: a crash in between must not cost the run."""
    whole = run(Regression(), CONFIG, accelerator, tmp_path)
    again = run(Regression(), replace(CONFIG, resume=True), accelerator, tmp_path)
    assert same_weights(again.state_dict(), whole.state_dict())


@pytest.mark.parametrize(("precision", "fused"), [("fp32", True), ("bf16", False)])
def test_attention_is_not_fused_where_its_backward_pass_is_slow(accelerator, tmp_path, monkeypatch, precision, fused):
    seen = set()

    class Watched(Regression):
        def loss(self, model, batch):
            seen.add(torch.backends.cuda.flash_sdp_enabled())
            return super().loss(model, batch)

    monkeypatch.setattr("ldm_explorer.training.processes.precision_of", lambda _: precision)
    train(Watched(), CONFIG, accelerator, tmp_path)
    assert seen == {fused}
    assert torch.backends.cuda.flash_sdp_enabled()
