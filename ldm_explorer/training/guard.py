"""Watches the loss and the gradient of every step, and says in one sentence what went wrong."""

import math
from dataclasses import dataclass

SMOOTHING = 0.98
DIVERGED_RATIO = 3.0


class TrainingFailed(RuntimeError):
    """A training that cannot go on; the message names the step, the numbers and what to do."""


class Diverged(TrainingFailed):
    """The loss or the gradient is not finite, or the loss has left its own past far behind."""


@dataclass(frozen=True)
class LossHistory:
    """The exponential moving average of the loss (over about 50 steps) and the lowest value it has had."""

    smoothed: float | None = None
    lowest: float | None = None

    def after(self, step: int, loss: float, grad_norm: float, learning_rate: float) -> "LossHistory":
        """The history with one more step. Raises `Diverged` when that step should not have happened."""
        past = "" if self.smoothed is None else f" (the loss was about {self.smoothed:.3g} before)"
        too_high = f"the learning rate {learning_rate:.2g} is probably too high"
        if not math.isfinite(loss) and self.smoothed is None:
            raise Diverged(f"the loss of step {step} is {loss}, before any weight changed: the data is not finite")
        if not math.isfinite(loss):
            raise Diverged(f"the loss of step {step} is {loss}{past}: {too_high}")
        if not math.isfinite(grad_norm):
            raise Diverged(
                f"the gradient norm of step {step} is {grad_norm} at a loss of {loss:.3g}{past}: {too_high}, "
                "or the values overflow in this precision (try --precision fp32)"
            )
        smoothed = loss if self.smoothed is None else SMOOTHING * self.smoothed + (1 - SMOOTHING) * loss
        lowest = smoothed if self.lowest is None else min(self.lowest, smoothed)
        if smoothed > DIVERGED_RATIO * lowest > 0:
            raise Diverged(
                f"the loss diverges: its average at step {step} is {smoothed:.3g}, {smoothed / lowest:.1f} times its "
                f"lowest ({lowest:.3g}): {too_high}"
            )
        return LossHistory(smoothed, lowest)
