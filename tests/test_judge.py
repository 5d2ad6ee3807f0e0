"""One judge of losses: what the training room says of a run and what the diagnosis finds agree."""

from dataclasses import replace

import pytest
import torch

from ldm_explorer.diagnosis.case import Case
from ldm_explorer.diagnosis.checks.behaviour import learned
from ldm_explorer.diagnosis.checks.training import stability
from ldm_explorer.diagnosis.folder import open_case
from ldm_explorer.diagnosis.judge import MeanFloors, Rung, judge, rose_again
from ldm_explorer.diagnosis.reading import LossReading, read_loss, reading_of
from ldm_explorer.samplers import prediction_types_of

FLOORS = MeanFloors(zero=1.0, white=0.9, gaussian=0.5, memorising=0.1)
LOSSES = [0.02 * step for step in range(5, 61)]
"""From far below the memorising floor to above the zero floor of the runs below."""
ACCUSED_WHERE = {
    "training fell apart": "looks untrained",
    "the scale of the latents at most": "looks untrained",
    "so far the network knows less than the covariance": "less than covariances do",
    "hardly more": "",
    "structure that means and covariances do not hold": "",
}
"""What the training room says, and what the diagnosis then finds."""


def with_losses(case: Case, loss: float, log: list[dict]) -> Case:
    """A case whose network errs by `loss` at each timestep, however its output is read."""
    case = replace(case, log=log)
    vars(case)["losses"] = {
        kind: torch.full((len(case.timesteps),), loss) for kind in prediction_types_of(case.schedule)
    }
    return case


def logged(*losses: float) -> list[dict]:
    lines = [{"step": step, "images": step, "loss": loss, "validation_loss": loss} for step, loss in enumerate(losses)]
    return [line | {"validation_loss_per_bin": [line["loss"]] * 10} for line in lines]


@pytest.mark.parametrize("log_is_kept", [True, False])
def test_the_room_of_training_and_the_diagnosis_never_contradict_each_other(run_with_losses, log_is_kept):
    checkpoint = run_with_losses([0.9])
    case, reading = open_case(checkpoint.folder), read_loss(checkpoint)
    spoken = set()
    for loss in LOSSES:
        sentence = replace(reading, validation_loss=(loss,)).sentence()
        found = learned(with_losses(case, loss, logged(loss) if log_is_kept else []))
        (said,) = [words for words in ACCUSED_WHERE if words in sentence]
        spoken.add(said)
        accused = ACCUSED_WHERE[said]
        agree = accused in found.accusation and bool(accused) == bool(found.accusation)
        # without the log seven timesteps are judged, whose floors are a little others: not at the edge of a rung
        assert agree or (not log_is_kept and _near_an_edge(reading, loss)), (loss, sentence, found)
    assert spoken == set(ACCUSED_WHERE)


def _near_an_edge(reading: LossReading, loss: float) -> bool:
    return len({replace(reading, validation_loss=(loss * share,)).rung for share in (0.97, 1.03)}) > 1


@pytest.mark.parametrize("log_is_kept", [True, False])
def test_where_there_is_nothing_to_learn_both_say_so(run_with_losses, log_is_kept):
    checkpoint = run_with_losses([0.9])
    reading, case = read_loss(checkpoint), open_case(checkpoint.folder)
    noise = replace(case.statistics, memorising=torch.full((3,), 0.99))
    found = learned(with_losses(replace(case, statistics=noise), 0.99, logged(0.99) if log_is_kept else []))
    assert "next to noise" in found.accusation
    assert "next to noise" in replace(reading, floors=reading.floors | {"memorising": torch.ones(1000)}).sentence()


def test_weights_that_are_not_those_of_the_log_are_judged_by_what_they_do(run_with_losses):
    case = open_case(run_with_losses([0.9]).folder)
    assert "not the weights" in learned(with_losses(case, 0.7, logged(0.4))).accusation
    assert "looks untrained" in learned(with_losses(case, 1.0, logged(0.4))).accusation


@pytest.mark.parametrize("rise", [1.0, 1.01, 1.05, 1.09, 1.11, 1.3])
def test_a_loss_that_rose_again_has_risen_for_both(run_with_losses, rise):
    checkpoint = run_with_losses([0.9])
    lines = [line | {"loss": 0.5} for line in logged(*[0.5] * 18, *[0.5 * rise] * 2)]
    floors = read_loss(checkpoint).floors
    said = reading_of(lines, "v_prediction", floors).sentence()
    found = stability(replace(open_case(checkpoint.folder), log=lines))
    assert ("rose again" in said) == ("rose again" in found.accusation) == (rise > 1.1)


@pytest.mark.parametrize(
    ("loss", "rung"),
    [
        (float("nan"), Rung.NOTHING),
        (1.03, Rung.NOTHING),
        (0.95, Rung.SCALE),
        (0.65, Rung.PART_OF_COVARIANCE),
        (0.5, Rung.COVARIANCE),
        (0.45, Rung.MORE_THAN_COVARIANCE),
    ],
)
def test_the_rungs_are_between_the_floors(loss, rung):
    assert judge(loss, FLOORS) is rung


def test_the_ladder_only_falls_as_the_loss_rises():
    rungs = [judge(0.001 * step, FLOORS).value for step in range(1200)]
    assert rungs == sorted(rungs, reverse=True)
    assert len(set(rungs)) == 5


def test_without_a_floor_nothing_is_said_of_it():
    assert judge(0.65, replace(FLOORS, gaussian=None)) is Rung.MORE_THAN_SCALE
    assert judge(0.65, replace(FLOORS, memorising=0.85)) is Rung.NOTHING_TO_LEARN
    assert judge(0.65, replace(FLOORS, memorising=None)) is Rung.PART_OF_COVARIANCE
    assert not rose_again([0.5])
