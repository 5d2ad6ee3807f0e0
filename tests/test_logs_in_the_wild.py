"""Logs as they lie about: how one is written, or cut off, accuses no training that is in order."""

import json
import math
import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from ldm_explorer.diagnosis.judge import Rung
from ldm_explorer.diagnosis.plateau import find_plateau
from ldm_explorer.explore.anyones_log import Known, diagnose_log
from ldm_explorer.files import CheckpointError
from ldm_explorer.logs.reading import read_pasted
from ldm_explorer.logs.series import find_loss

LINEAR = Known("linear", num_timesteps=1000, prediction="epsilon", latents="1")
WHITE = 0.2755


def falling(count: int = 400, noise: float = 0.1, pace: float = 25.0, end: float = 0.12) -> list[float]:
    """A loss from 1 on, of a training in order."""
    scatter = random.Random(0)
    return [(end + (1 - end) * math.exp(-step / pace)) * (1 + noise * scatter.gauss(0, 1)) for step in range(count)]


def table(values: list[float]) -> str:
    return "\n".join(["step,loss", *(f"{step},{value}" for step, value in enumerate(values))])


HEALTHY = falling()
EACH_50TH_FOR_FID = {
    "nan": "\n".join(
        ["step,loss,fid", *(f"{n},nan,180" if n % 50 == 49 else f"{n},{v},nan" for n, v in enumerate(HEALTHY))]
    ),
    "NaN beside what is left out": "\n".join(
        ["step,loss,fid", *(f"{n},NaN,180" if n % 50 == 49 else f"{n},{v}," for n, v in enumerate(HEALTHY))]
    ),
    "lines of JSON": "\n".join(
        json.dumps({"step": n, "loss": math.nan if n % 50 == 49 else v}) for n, v in enumerate(HEALTHY)
    ),
    "two lines a step": "\n".join(
        ["step,train_loss,val_acc", *(f"{n},{v},nan\n{n},nan,0.5" for n, v in enumerate(HEALTHY))]
    ),
    "validations now and then": "\n".join(
        ["step,train_loss,val_loss", *(f"{n},{v},{'nan' if n % 50 or n > 300 else v}" for n, v in enumerate(HEALTHY))]
    ),
}


@pytest.mark.parametrize("log", EACH_50TH_FOR_FID.values(), ids=EACH_50TH_FOR_FID)
def test_an_empty_cell_that_is_written_as_nan_is_no_loss(log):
    reading = diagnose_log(log, LINEAR)
    assert (reading.outcome, reading.rung) == ("nothing found", Rung.MORE_THAN_SCALE)
    assert reading.plateau.value == pytest.approx(0.12, rel=0.1)


@pytest.mark.parametrize(("name", "beside"), [("lr", "0.001"), ("grad_norm", "nan"), ("best_loss", "0.1")])
def test_a_loss_that_is_nan_beside_what_every_line_holds_fell_apart(name, beside):
    rows = [f"{n},{v},0.001" if n < 300 else f"{n},nan,{beside}" for n, v in enumerate(HEALTHY)]
    rows[0] = "0,1.0,"  # the first line often lacks it
    reading = diagnose_log("\n".join([f"step,loss,{name}", *rows]), LINEAR)
    assert reading.outcome == "accused"
    assert "no number from 300 on" in reading.sentence


@pytest.mark.parametrize(
    "values",
    [
        falling(20),
        falling(400, pace=400),
        [1.01, 0.97, 0.9, 0.85, 0.8],
        [1.02, 1.0, 0.99],
        [0.3],
        [1.5, 1.4, 1.3, 1.25],
        [3 - 0.004 * n for n in range(400)],
    ],
    ids=["20 lines", "400 lines", "five", "three", "one", "four above", "far above"],
)
def test_a_training_that_has_just_begun_is_not_accused(values):
    reading = diagnose_log(table(values), LINEAR)
    assert reading.outcome == "could not judge"
    assert reading.rung in (Rung.SCALE, Rung.NOTHING)  # and yet it is said what the value would show
    assert f"({WHITE:.3f})" in reading.sentence or reading.rung is Rung.NOTHING
    assert ("it still falls" in reading.sentence) == (reading.to_try == ("more steps: it still falls",))


def test_only_a_log_that_shows_a_level_end_accuses():
    assert diagnose_log(table([WHITE] * 10), LINEAR).outcome == "accused"
    assert diagnose_log(table([WHITE] * 9), LINEAR).outcome == "could not judge"
    for count in (10, 12, 15, 20, 30):
        assert not find_plateau(falling(count)).has_levelled
    assert find_plateau(falling(400)).has_levelled


def test_where_validations_are_few_the_training_loss_shows_whether_they_stay():
    for values, outcome in (([WHITE] * 400, "accused"), (falling(400, pace=400), "could not judge")):
        rows = [f"{n},{v},{1.0 if n % 100 == 99 else ''}" for n, v in enumerate(values)]
        reading = diagnose_log("\n".join(["step,loss,val_loss", *rows]), LINEAR)
        assert (reading.curve.judged.name, reading.rung, reading.outcome) == ("val_loss", Rung.SCALE, outcome)


def test_what_fell_apart_is_accused_however_it_scatters():
    scatter = random.Random(0)
    values = [1.0, 0.9, *(15 * math.exp(scatter.gauss(0, 0.7)) for _ in range(60))]
    reading = diagnose_log(table(values), LINEAR)
    assert not reading.plateau.has_levelled
    assert (reading.rung, reading.outcome) == (Rung.NOTHING, "accused")


def test_two_trainings_in_one_table_are_asked_for_one_of_them():
    reading = diagnose_log(table(HEALTHY) + "\n" + table(falling(60)), LINEAR)
    assert (reading.outcome, reading.rung) == ("could not judge", None)
    assert "Give the lines of one" in reading.sentence
    newest_first = table(HEALTHY).splitlines()
    log = read_pasted("\n".join([newest_first[0], *newest_first[:0:-1]]))
    assert find_loss(log).judged.values == pytest.approx(HEALTHY)
    assert not log.notes


def test_validations_that_stop_early_are_left_out_and_it_is_said():
    for early in (3, 12):
        rows = [f"{n},{v},{1.0 if n < early else ''}" for n, v in enumerate(HEALTHY)]
        reading = diagnose_log("\n".join(["step,train_loss,val_loss", *rows]), LINEAR)
        assert reading.outcome == "nothing found"
        assert reading.curve.judged.name == "train_loss"
        assert f"val_loss ends at {early - 1} of 399 and was left out" in reading.notes
    lines = [{"step": n, "loss": v} for n, v in enumerate(HEALTHY)] + [{"epoch": n, "val_loss": 0.2} for n in range(20)]
    assert (
        find_loss(read_pasted("\n".join(map(json.dumps, lines)))).judged.name == "val_loss"
    )  # in epochs, and not steps
    rows = [f"{n},{v},{v if n % 100 == 0 else ''}" for n, v in enumerate(HEALTHY)]  # the last one 99 steps ago
    assert find_loss(read_pasted("\n".join(["step,loss,val_loss", *rows]))).judged.name == "val_loss"


@pytest.mark.parametrize("known", [LINEAR, Known()], ids=["known", "nothing known"])
def test_a_loss_of_exactly_nothing_is_answered(known):
    reading = diagnose_log(table([0.0] * 100), known)
    assert reading.outcome == "could not judge"
    assert "no network reaches" in reading.sentence


def write_events(folder: Path, values: Iterable[float], first: int = 0, tag: str = "loss") -> Path:
    """An event file, named so that it comes after those that are there."""
    from torch.utils.tensorboard import SummaryWriter

    number = len(list(folder.iterdir())) if folder.is_dir() else 0
    with SummaryWriter(str(folder / "new")) as writer:
        for step, value in enumerate(values, start=first):
            writer.add_scalar(tag, value, step)
    (written,) = (folder / "new").iterdir()
    path = written.rename(folder / f"events.out.tfevents.{number}")
    (folder / "new").rmdir()
    return path


@pytest.mark.parametrize(("first", "cut"), [(60, 60), (50, 60)], ids=["where it ended", "from its last checkpoint"])
def test_a_resumed_training_is_joined_by_its_steps(first, cut, tmp_path):
    write_events(tmp_path, [9.0 if step >= first else HEALTHY[step] for step in range(cut)])
    write_events(tmp_path, HEALTHY[first:], first)
    reading = diagnose_log(tmp_path, LINEAR)
    assert reading.outcome == "nothing found"
    assert reading.curve.judged.steps == tuple(range(400))
    assert reading.curve.judged.values == pytest.approx(HEALTHY)
    assert any("resumed" in note for note in reading.notes)


def test_two_trainings_in_one_folder_are_asked_which(tmp_path):
    write_events(tmp_path, HEALTHY)
    write_events(tmp_path, [1.0] * 30, 1)
    with pytest.raises(CheckpointError, match=r"several trainings \(loss, loss \(2\)\): name one with --field"):
        diagnose_log(tmp_path, LINEAR)
    assert diagnose_log(tmp_path, Known(**vars(LINEAR) | {"field": "loss"})).outcome == "nothing found"
    assert len(diagnose_log(tmp_path, Known(**vars(LINEAR) | {"field": "loss (2)"})).curve.judged) == 30


def test_a_file_that_is_damaged_is_read_up_to_there_and_it_is_said(tmp_path):
    path = write_events(tmp_path, [WHITE] * 400)
    whole = path.read_bytes()
    assert diagnose_log(path, LINEAR).outcome == "accused"
    for place, outcome in ((len(whole) // 5, "could not judge"), (len(whole) * 19 // 20, "accused")):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        reading = diagnose_log(path, LINEAR)
        assert reading.outcome == outcome
        assert any("damaged or breaks off behind step" in note for note in reading.notes)
        assert ("the rest is damaged" in reading.sentence) == (outcome == "could not judge")


@pytest.mark.parametrize(
    "name", ["accuracy", "lr", "train/learning_rate", "grad_norm", "fid", "epoch_time", "psnr", "loss_scale"]
)
def test_what_is_alone_in_a_log_is_no_loss_where_it_is_called_something_else(name, tmp_path):
    write_events(tmp_path, [0.3] * 20, tag=name)
    with pytest.raises(CheckpointError, match="name one with --field"):
        diagnose_log(tmp_path, LINEAR)


def test_what_is_alone_in_a_log_is_its_loss_where_it_may_be_one():
    assert diagnose_log(json.dumps({"objective": HEALTHY}), LINEAR).outcome == "nothing found"
    for values in ([0.1 * n for n in range(20)], [-1.0, 0.5]):
        with pytest.raises(CheckpointError, match="name one with --field"):
            diagnose_log(json.dumps({"objective": values}), LINEAR)
