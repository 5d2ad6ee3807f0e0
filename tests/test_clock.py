"""Budgets in minutes, by a clock that tests set."""

from types import SimpleNamespace

import pytest

from ldm_explorer.training import clock
from ldm_explorer.training.clock import Clock

ALLOWED = 600.0

PACES = {
    "even": lambda step: 0.5,
    "one step is longer than the budget": lambda step: 1000.0,
    "three fit": lambda step: 190.0,
    "the first one compiles": lambda step: 60.0 if step == 1 else 0.5,
    "the machine gets slower": lambda step: 0.5 if step < 300 else 2.0,
    "and far slower": lambda step: 0.5 if step < 900 else 100.0,
    "a validation every 200": lambda step: 5.0 if step % 200 == 0 else 0.5,
    "uneven": lambda step: 0.1 + step % 7 * 0.2,
}


def run(monkeypatch, pace, between=lambda step: 0.0, before=0.0) -> tuple[list[int | None], float, float]:
    """What it said after every step, how long all of them took, and the last one."""
    now, total, said = [0.0], None, []
    monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=lambda: now[0]))
    read = Clock(ALLOWED, before)
    while total is None or len(said) < total:
        now[0] += between(len(said))
        read.begin_step()
        now[0] += pace(len(said) + 1)
        total = read.end_step(len(said) + 1, total)
        said.append(total)
    return said, now[0], pace(len(said))


@pytest.mark.parametrize("pace", PACES.values(), ids=PACES)
def test_a_run_ends_within_its_budget_and_one_step_whatever_a_step_takes(monkeypatch, pace):
    _, took, last = run(monkeypatch, pace)
    assert took < ALLOWED + last
    assert took >= 0.85 * ALLOWED


@pytest.mark.parametrize("name", ["even", "the first one compiles", "a validation every 200", "uneven"])
def test_the_number_of_steps_is_settled_once_where_steps_stay_as_they_are(monkeypatch, name):
    said, _, _ = run(monkeypatch, PACES[name])
    assert len({total for total in said if total is not None}) == 1
    assert sum(total is None for total in said) <= 0.1 * len(said)


def test_a_plan_that_does_not_fit_any_more_is_shortened_before_the_time_is_over(monkeypatch):
    """The learning rate then still comes down."""
    said, _, _ = run(monkeypatch, PACES["the machine gets slower"])
    planned = [total for total in said if total is not None]
    assert planned == sorted(planned, reverse=True)
    assert planned[-1] < planned[0]
    assert said[-2] <= 1.05 * said[-1], "the learning rate is down to a twentieth"


def test_what_others_do_between_steps_is_paid_and_is_no_part_of_a_step(monkeypatch):
    """Frames of the film come after 1, 2, 4, 8, ... steps: their rate at the start says nothing of the rest."""
    film = {1 << power: 3.0 for power in range(12)}
    said, took, _ = run(monkeypatch, PACES["even"], between=lambda step: film.get(step, 0.0))
    assert 0.9 * ALLOWED < took < ALLOWED + 3.5
    assert len({total for total in said if total is not None}) == 1


def test_what_was_used_up_before_counts(monkeypatch):
    said, took, _ = run(monkeypatch, PACES["even"], before=500.0)
    assert took <= 100.5
    assert said[-1] >= 100
