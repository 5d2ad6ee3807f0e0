"""What was computed is kept: once for all who ask at once, within its bytes, whoever leaves."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ldm_explorer.ui.answers import follow
from ldm_explorer.ui.results import Results, Run
from ldm_explorer.ui.server.turns import TURNS, Job, Stopped

CLIENTS = 30
STEPS = 5


class Counted:
    """A computation of some steps that knows how often each was computed."""

    def __init__(self, steps: int = STEPS):
        self.computed, self.steps = [], steps

    def __call__(self) -> Iterator[tuple[int]]:
        for step in range(self.steps):
            self.computed.append(step)
            yield (step,)


def test_many_who_ask_at_once_cost_one_run():
    results, work, together = Results(lambda _: 1), Counted(), threading.Barrier(CLIENTS)

    def ask(_) -> list[tuple[int]]:
        together.wait()
        return list(follow(results.run("same", work), Job()))

    with ThreadPoolExecutor(CLIENTS) as clients:
        answers = list(clients.map(ask, range(CLIENTS)))
    assert work.computed == list(range(STEPS))
    assert all(answer[-1] == (STEPS - 1,) for answer in answers)


def test_a_client_who_leaves_ends_it_for_nobody():
    work = Counted()
    run = Run(work)
    leaving = follow(run, Job())
    next(leaving), next(leaving)
    leaving.close()
    assert [value for (value,) in follow(run, Job())] == [1, 2, 3, 4]
    assert work.computed == list(range(STEPS))


def test_who_comes_late_gets_what_is_there_at_once():
    run = Run(Counted())
    list(follow(run, Job()))
    assert list(follow(run, Job())) == [(STEPS - 1,)]


def test_a_run_that_was_stopped_goes_on_for_the_next_who_asks():
    work = Counted()
    run = Run(work)
    first = follow(run, Job())
    next(first)
    with pytest.raises(Stopped):
        first.throw(Stopped())
    run._rest = None  # as a generator that was stopped between two modules of its network is left
    assert [value for (value,) in follow(run, Job())] == [0, 1, 2, 3, 4]
    assert work.computed == [0, *range(STEPS)]


def test_a_run_that_is_stopped_while_it_is_caught_up_with_is_not_taken_for_whole():
    stops = [False, True, False]

    def work() -> Iterator[tuple[int]]:
        stop = stops.pop(0)
        for step in range(STEPS):
            if stop and step == 1:
                raise Stopped
            yield (step,)

    run = Run(work)
    first = follow(run, Job())
    assert [next(first) for _ in range(3)][-1] == (2,)
    run._rest = None  # as a generator that was stopped between two modules of its network is left
    with pytest.raises(Stopped):
        run.advance()
    assert list(follow(run, Job()))[-1] == (STEPS - 1,)


def test_a_failure_is_not_kept():
    asked = []

    def fails_once() -> Iterator[tuple[int]]:
        asked.append(1)
        if len(asked) == 1:
            raise ValueError("not yet")
        yield (1,)

    run = Run(fails_once)
    with pytest.raises(ValueError, match="not yet"):
        list(follow(run, Job()))
    assert list(follow(run, Job())) == [(1,)]


def test_one_who_waits_for_a_step_has_no_turn_meanwhile():
    """The run's lock comes before the turn: else who computes would wait for a turn that who waits for it has."""
    entered, release, run = threading.Event(), threading.Event(), None

    def slow() -> Iterator[tuple[int]]:
        entered.set()
        release.wait(10)
        TURNS.give_way()
        yield (1,)

    run = Run(slow)
    with ThreadPoolExecutor(3) as clients:
        first = clients.submit(lambda: list(follow(run, Job())))
        entered.wait(10)
        second = clients.submit(lambda: list(follow(run, Job())))
        release.set()
        assert first.result(10) == second.result(10) == [(1,)]


def test_what_was_used_longest_ago_is_forgotten_first():
    results = Results(lambda answer: answer[0], max_bytes=10)
    for key, size in (("a", 4), ("b", 4), ("c", 4)):
        run = results.run(key, lambda size=size: iter([(size,)]))
        list(follow(run, Job()))
        results.account(key, run)
        if key == "b":
            results.run("a", lambda: iter(()))
    kept = {key for key in "abc" if results.run(key, lambda: iter(())).done}
    assert kept == {"a", "c"}
