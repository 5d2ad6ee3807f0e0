"""What was computed before, by what was asked: bounded in bytes, and computed once however many ask at once."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any

MAX_BYTES = 100_000_000


class Run:
    """One computation, step by step. Whoever needs the next step first computes it; the others then find it here.

    So nobody's leaving ends it for the others, and what was computed stays.
    """

    def __init__(self, make: Callable[[], Iterator[Any]], stamp: str = ""):
        self.make, self.stamp = make, stamp
        self.steps: list[Any] = []
        self.done = False
        self.lock = threading.Lock()
        self._rest: Iterator[Any] | None = None

    def advance(self) -> None:
        """Compute one step more; hold the lock. One that failed or was stopped begins anew when it is asked again."""
        try:
            if self._rest is None:
                self._rest = self.make()
                for _ in self.steps:
                    next(self._rest)
            self.steps.append(next(self._rest))
        except StopIteration:
            self.done, self._rest = True, None
        except BaseException:
            self._rest = None
            raise


class Results:
    """Runs by what was asked, those that were used last."""

    def __init__(self, size_of: Callable[[Any], int], max_bytes: int = MAX_BYTES):
        self.size_of, self.max_bytes = size_of, max_bytes
        self._runs: OrderedDict[Hashable, Run] = OrderedDict()
        self._bytes: dict[Hashable, int] = {}
        self._lock = threading.Lock()

    def run(self, key: Hashable, make: Callable[[], Iterator[Any]], stamp: str = "") -> Run:
        """The run of a key, a new one where there is none, or what it was made of has another stamp by now."""
        with self._lock:
            kept = self._runs.get(key)
            if kept is None or kept.stamp != stamp:
                self._runs[key] = Run(make, stamp)
            self._runs.move_to_end(key)
            return self._runs[key]

    def account(self, key: Hashable, run: Run) -> None:
        """Count what a run has grown to, and forget the runs that were used longest ago where all are too much."""
        with self._lock:
            if self._runs.get(key) is not run:
                return
            self._bytes[key] = self.size_of(run.steps[-1]) if run.steps else 0
            while sum(self._bytes.values()) > self.max_bytes and len(self._runs) > 1:
                oldest, _ = self._runs.popitem(last=False)
                self._bytes.pop(oldest, None)

    def forget(self, key: Hashable, run: Run) -> None:
        """Leave out a run that failed."""
        with self._lock:
            if self._runs.get(key) is run:
                del self._runs[key]
                self._bytes.pop(key, None)
