"""Values that are computed when they are first asked for."""

import functools
import importlib
import pkgutil
import threading

import pytest

import ldm_explorer
from ldm_explorer.lazy import cached_property
from ldm_explorer.ui.server.turns import Job, Turns


def test_two_jobs_that_give_way_inside_the_same_property_both_end():
    turns = Turns()

    class Example:
        @cached_property
        def slow(self) -> int:
            for _ in range(3):
                turns._here.job.used += 1  # so that the other one goes first
                turns.give_way()
            return 5

    def work(example: Example) -> None:
        with turns.turn(Job()):
            found.append((example.slow, example.slow))

    found: list[tuple[int, int]] = []
    threads = [threading.Thread(target=work, args=(Example(),), daemon=True) for _ in range(2)]
    with turns.turn(Job()):
        for thread in threads:
            thread.start()
        while len(turns._waiting) < 2:
            pass
    for thread in threads:
        thread.join(10)
    assert found == [(5, 5)] * 2


def test_one_that_is_set_outside_a_class_has_no_name_to_be_kept_under():
    class Example:
        pass

    Example.late = cached_property(lambda _: 5)
    with pytest.raises(TypeError, match="define it in the body of a class"):
        _ = Example().late


def test_it_is_computed_once_for_each_instance():
    class Example:
        asked = 0

        @cached_property
        def value(self) -> int:
            self.asked += 1
            return self.asked

    one, other = Example(), Example()
    assert (one.value, one.value, other.value) == (1, 1, 1)
    assert isinstance(Example.value, cached_property)


def test_no_class_of_the_app_has_one_that_locks():
    modules = [
        importlib.import_module(module.name)
        for module in pkgutil.walk_packages(ldm_explorer.__path__, "ldm_explorer.")
        if not module.name.endswith(("__main__", ".diagnose", "decode_upload"))
    ]
    classes = {cls for module in modules for cls in vars(module).values() if isinstance(cls, type)}
    lazy = {value for cls in classes if cls.__module__.startswith("ldm_explorer") for value in vars(cls).values()
            if isinstance(value, functools.cached_property)}  # fmt: skip
    assert len(lazy) > 10
    assert all(isinstance(value, cached_property) for value in lazy)
