"""Who computes next: one job at a time, and the one that has computed least so far goes first.

Networks use every core, so two jobs at once would only slow each other down. A job gives way between two modules of a
network, so that light work hardly waits for long work, whatever that is.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import ClassVar
from weakref import WeakValueDictionary

from torch import nn

from ldm_explorer.openmp import release_threads

GIVE_WAY_SECONDS = 0.05
"""A job goes on as long as the others have not computed so much less: changing costs something as well."""


class Stopped(BaseException):
    """The request was stopped: no reader's `except Exception` may take this for a failure of its own."""


class Job:
    """One request, over all of its steps. `event_id` is gradio's, by which it can be stopped."""

    of_event: ClassVar[WeakValueDictionary[str, "Job"]] = WeakValueDictionary()

    @classmethod
    def of(cls, event_id: str | None) -> "Job":
        """The job of an event: the queue makes it, as an event can be stopped before its handler runs."""
        return cls.of_event.get(event_id or "") or cls(event_id)

    def __init__(self, event_id: str | None = None) -> None:
        self.stopped = False
        if event_id is not None:
            self.of_event[event_id] = self
        self.used = 0.0  # seconds of computing
        self.since: float | None = None  # when its turn began, None while it waits

    def used_now(self) -> float:
        return self.used + (0.0 if self.since is None else time.monotonic() - self.since)


class Turns:
    """Gives one job after the other its turn (least attained service first)."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running: Job | None = None
        self._waiting: list[Job] = []
        self._here = threading.local()

    @contextmanager
    def turn(self, job: Job) -> Iterator[None]:
        """Wait for the job's turn, and give it up at the end. Raises `Stopped` in it where the job is stopped."""
        self._take(job)
        self._here.job = job
        try:
            yield
        finally:
            self._here.job = None
            self._give_up(job)

    def give_way(self) -> None:
        """Let another job that has computed less go first; does nothing in a thread that has no turn."""
        job = getattr(self._here, "job", None)
        if job is not None and job.stopped:
            raise Stopped
        if job is None or not self._waiting:
            return
        bar = job.used_now() - GIVE_WAY_SECONDS
        if any(other.used < bar for other in tuple(self._waiting)):
            self._give_up(job)
            self._take(job)

    def stop(self, event_id: str) -> None:
        """End the job of an event: where it waits, before its network's next module, or before its next step."""
        with self._changed:
            if job := Job.of_event.get(event_id):
                job.stopped = True
            self._changed.notify_all()

    def _take(self, job: Job) -> None:
        with self._changed:
            self._waiting.append(job)
            self._changed.wait_for(lambda: job.stopped or (self._running is None and self._next() is job))
            self._waiting.remove(job)
            if job.stopped:
                self._changed.notify_all()
                raise Stopped
            self._running, job.since = job, time.monotonic()

    def _next(self) -> Job:
        return min(self._waiting, key=lambda job: job.used)

    def _give_up(self, job: Job) -> None:
        release_threads()
        with self._changed:
            job.used, job.since = job.used_now(), None
            if self._running is job:  # not where it was stopped while it waited
                self._running = None
            self._changed.notify_all()


TURNS = Turns()
"""Of this process: its cores are what the jobs share."""


if hasattr(os, "register_at_fork"):  # a child has none of the threads that wait
    os.register_at_fork(after_in_child=lambda: Turns.__init__(TURNS))


@cache
def give_way_between_modules() -> None:
    """Let every network that this process builds from now on give way before each of its modules that hold others.

    A hook of all modules would have them take a slower path, and a small network a third longer.
    """
    nn.modules.module.register_module_module_registration_hook(_give_way_before)


def _give_way_before(_parent: nn.Module, _name: str, module: nn.Module | None) -> None:
    if module is not None and next(module.children(), None) is not None:
        module.register_forward_pre_hook(_give_way)


def _give_way(*_: object) -> None:
    """A function of the module: a network is copied with its hooks, and the locks of a method's object cannot be."""
    TURNS.give_way()
