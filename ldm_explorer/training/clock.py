"""The clock of a budget in minutes: how many steps it will have been, and when it is over."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

SHARE_TO_TIME = 0.05
"""Share of the budget that is timed before it becomes a number of steps."""
SHARE_TO_PLAN = 0.95
"""Share that these may take, so that steps a little slower than the timed ones do not end the run before them."""


@dataclass
class Clock:
    """Reads the time after every step, so that a run ends in the step in which its budget does, whatever a step takes.

    A plan is made once and is shortened only where it would not fit any more: a run that goes on keeps it.
    """

    allowed: float  # seconds, from the first step of the run to its last
    before: float = 0.0  # seconds that the steps before this process took
    agree: Callable[[list[float]], list[float]] = lambda seconds: seconds  # the same numbers to all processes
    spent: float = field(init=False)

    def __post_init__(self) -> None:
        self.spent, self.steps, self.stepping, self.first = self.before, 0, 0.0, 0.0
        self.started = self.step_began = time.monotonic()

    def begin_step(self) -> None:
        """What lies between two steps, as drawing a film, counts towards the budget and not towards a step's time."""
        self.step_began = time.monotonic()

    def end_step(self, step: int, total_steps: int | None) -> int | None:
        """How many steps the run will have, seen from the end of one of them; None as long as it cannot be said."""
        now = time.monotonic()
        took, elapsed = self.agree([now - self.step_began, now - self.started])
        self.spent, self.steps, self.stepping = self.before + elapsed, self.steps + 1, self.stepping + took
        if self.spent >= self.allowed:
            return step
        if self.steps == 1:  # it allocates and compiles
            self.first = took
            return total_steps
        per_step = max(1e-9, (self.stepping - self.first) / (self.steps - 1))
        fits = max(step, step + int((SHARE_TO_PLAN * self.allowed - self.spent) / per_step))
        if total_steps is None:
            return fits if self.spent >= SHARE_TO_TIME * self.allowed else None
        needed = self.spent + (total_steps - step) * per_step
        return min(total_steps, fits) if needed > self.allowed else total_steps
