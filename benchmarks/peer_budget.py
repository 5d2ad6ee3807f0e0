"""The CPU-seconds that a training in benchmarks/peers.py may take, and the moments at which its network is kept."""

import time
from collections.abc import Callable
from pathlib import Path

MARKS = {"third": 1 / 3, "two-thirds": 2 / 3, "end": 1.0}
"""When a network is looked at, as shares of its budget."""


class Budget:
    """CPU-seconds of this process, all its threads together, from here on; keeping a network does not count."""

    def __init__(self, seconds: float, folder: Path):
        self.seconds, self.folder = seconds, folder
        self.points: dict[str, dict[str, float] | None] = {}
        self._began, self._keeping = time.process_time(), 0.0

    @property
    def spent(self) -> float:
        return time.process_time() - self._began - self._keeping

    @property
    def share(self) -> float:
        """Of the budget that is spent, at most 1."""
        return min(1.0, self.spent / self.seconds)

    def keep(self, save: Callable[[Path], object], images: int, ended: bool = False) -> None:
        """Save the network into a folder of its own at each mark that was passed since the last time."""
        began = time.process_time()
        for mark in self._passed(ended):
            self.points[mark] = {"cpu_seconds": round(self.spent, 1), "images": images}
            save(self.folder / mark)
        self._keeping += time.process_time() - began

    def miss(self) -> None:
        """At the marks passed so far there was no network yet that could be looked at."""
        self.points |= dict.fromkeys(self._passed(ended=False))

    def _passed(self, ended: bool) -> list[str]:
        due = [mark for mark, share in MARKS.items() if share <= self.share]
        return [mark for mark in due if mark != "end" and mark not in self.points] + ["end"] * ended
