"""What does the log of any training say? A file or pasted text, and what its owner knows of the run."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ldm_explorer.diagnosis.latent_facts import LatentFacts
from ldm_explorer.diagnosis.log_reading import LogReading, read_curve
from ldm_explorer.diagnosis.loss_facts import LossFacts, named_schedule, prediction_named, schedule_of_betas
from ldm_explorer.diagnosis.loss_sizes import FIRST_STEP
from ldm_explorer.files import CheckpointError, shown
from ldm_explorer.logs.reading import read_log, read_pasted
from ldm_explorer.logs.series import Log, find_loss
from ldm_explorer.schedules import DEFAULT_NUM_TIMESTEPS, FlowSchedule, Schedule

MAX_BETAS_CHARACTERS = 400_000


@dataclass(frozen=True)
class Known:
    """What the owner of a log says of the run; "" and None where it is not known."""

    schedule: str = ""  # a name
    betas: str = ""  # numbers, in place of a name
    num_timesteps: int | None = None
    beta_start: float | None = None
    beta_end: float | None = None
    prediction: str = ""
    latents: str = ""  # a standard deviation, one per channel, or what the snippet prints
    min_snr: float | None = None
    divide_by: float = 1.0
    batch_size: int | None = None
    field: str = ""

    def facts(self) -> LossFacts:
        """Raises `ValueError` for what is no schedule, prediction, number or fact of latents, and what does not go
        together."""
        schedule = self._schedule()
        facts = LossFacts(
            schedule,
            prediction_named(self.prediction) if self.prediction else None,
            LatentFacts.parse(self.latents) if self.latents.strip() else None,
            self.min_snr,
            self.divide_by,
            self.batch_size,
        )
        is_whole = self.betas.strip() or self.num_timesteps is not None or isinstance(schedule, FlowSchedule)
        return facts if is_whole else replace(facts, schedule=None)

    def _schedule(self) -> Schedule | None:
        """Without the number of its timesteps over the usual one, by which it is no more than named: only the floors of
        a flow, whose time has no steps, are the same over any."""
        has_range = (self.beta_start, self.beta_end) != (None, None)
        if self.betas.strip():
            return schedule_of_betas(_numbers(self.betas[:MAX_BETAS_CHARACTERS]))
        if not self.schedule:
            if has_range:
                raise ValueError("a range of betas is given and no schedule: say which one it is of")
            return None
        num_timesteps = DEFAULT_NUM_TIMESTEPS if self.num_timesteps is None else self.num_timesteps
        schedule = named_schedule(self.schedule, num_timesteps, self.beta_start, self.beta_end)
        if has_range and isinstance(schedule, FlowSchedule):
            raise ValueError("a range of betas is given, and a flow has none: leave it out")
        return schedule


def _numbers(text: str) -> list[float]:
    try:
        return [float(number) for number in re.split(r"[\s,;]+", text.strip().strip("[]() \n"))]
    except ValueError as error:
        raise ValueError(f"the betas are {shown(text)}: give numbers with commas between them") from error


def diagnose_log(log: Path | str, known: Known) -> LogReading:
    """Read a log (a path, or text that was pasted) and judge its loss.

    Raises `ValueError` in one sentence for a log that cannot be read, and for facts that are none.
    """
    facts = known.facts()
    read: Log = read_log(log) if isinstance(log, Path) else read_pasted(log)
    return read_curve(find_loss(read, known.field or None), facts, known.num_timesteps)


def reference_lines(reading: LogReading) -> list[dict[str, float]]:
    """The mean floors as lines of JSON, at the first and at the last step: constant curves for any plot, in the units
    of the log. Raises `CheckpointError` where they are not known."""
    if not reading.floors:
        raise CheckpointError(f"there are no floors to write without {', '.join(reading.facts.missing)}")
    levels = {name: value * reading.facts.divide_by for name, value in reading.mean_floors.items()}
    return [{"step": step} | {f"floor/{name}": value for name, value in levels.items()} for step in span(reading)]


def span(reading: LogReading) -> tuple[float, float]:
    """The first and the last step of what was judged."""
    steps: Sequence[float] = reading.curve.judged.steps
    return steps[0], max(steps[-1], steps[0] + FIRST_STEP)
