"""Fifty logs of small trainings, with faults and without, read by `ldm-diagnose --log`: is the right rung named?

The right rung is measured on the network (see log_runs.py), never read from its log. A run is healthy where nothing
was broken. A loss that is a sum is asked about twice: the first answer has to say what to divide by.

    python benchmarks/logs.py [RUNS]
"""

import io
import re
import sys
import tempfile
import time
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from log_formats import FORMATS
from log_runs import BATCH, NUM_TIMESTEPS, STEPS, Setting, Trained, train

from ldm_explorer.diagnosis.judge import Rung
from ldm_explorer.diagnosis.latent_facts import SNIPPET
from ldm_explorer.diagnosis.log_reading import LogReading
from ldm_explorer.explore.anyones_log import Known, diagnose_log

PAIRS = (
    ("linear", "epsilon"),
    ("scaled_linear", "epsilon"),
    ("cosine", "v_prediction"),
    ("linear", "sample"),
    ("cosine", "epsilon"),
)
REDUCTIONS = ("sum", "batch sum", "min-SNR", "sum", "min-SNR")
SCALES = (3.0, 0.3, 2.0, 0.25, 4.0)
HIGH_RATES = (0.3, 0.1, 1.0, 0.3, 1.0)


@dataclass(frozen=True)
class Outcome:
    setting: Setting
    format: str
    trained: Trained
    reading: LogReading
    right: Rung

    @property
    def is_right(self) -> bool:
        return self.reading.rung is self.right

    @property
    def is_accused(self) -> bool:
        return self.reading.outcome == "accused"

    @property
    def is_healthy(self) -> bool:
        return not self.setting.fault


def settings() -> list[Setting]:
    """Ten of each pair: four healthy ones and six faults."""
    found = []
    for number, pair in enumerate(PAIRS):
        wrong_target = "noise drawn again" if pair[1] == "epsilon" else "another batch's latents"
        found += [
            Setting(*pair, "gaussian"),
            Setting(*pair, "classes"),
            Setting(*pair, "classes", conditional=True),
            Setting(*pair, "gaussian", reduction=REDUCTIONS[number]),
            Setting(*pair, "gaussian", fault=wrong_target),
            Setting(*pair, "gaussian", fault="high learning rate", learning_rate=HIGH_RATES[number]),
            Setting(*pair, "classes", fault="low learning rate", learning_rate=2e-5, steps=STEPS // 2),
            Setting(*pair, "classes", fault="labels shuffled", conditional=True),
            Setting(*pair, "gaussian", fault="no timestep"),
            Setting(*pair, "classes", fault="not normalised", scale=SCALES[number]),
        ]
    return found


def printed_facts(trained: Trained) -> str:
    """What the snippet prints of the run's latents."""
    scope: dict = {}
    exec(SNIPPET, scope)
    with redirect_stdout(io.StringIO()) as printed:
        scope["print_facts"](trained.latents, trained.labels)
    return printed.getvalue()


def ask(setting: Setting, trained: Trained, log: Path) -> LogReading:
    """As the owner of the run would, who knows the scale alone where latents were not normalised; once more where the
    answer says how the loss was averaged."""
    latents = f"{float(trained.latents.std()):.4f}" if setting.fault == "not normalised" else printed_facts(trained)
    known = Known(setting.schedule, "", NUM_TIMESTEPS, prediction=setting.prediction, latents=latents, batch_size=BATCH)
    reading = diagnose_log(log, known)
    if divisor := re.search(r"--divide-by (\d+)", reading.sentence):
        reading = diagnose_log(log, replace(known, divide_by=float(divisor[1])))
    elif gamma := re.search(r"--min-snr (\d+)", reading.sentence):
        reading = diagnose_log(log, replace(known, min_snr=float(gamma[1])))
    return reading


def run(count: int) -> list[Outcome]:
    """The first so many, each with its own seed and in the next format."""
    outcomes = []
    for number, setting in enumerate(settings()[:count]):
        format_ = format_of(number, setting)
        trained = train(setting, seed=number)
        with tempfile.TemporaryDirectory() as folder:
            reading = ask(setting, trained, FORMATS[format_](Path(folder), trained.points))
        right = trained.rung_by_scale() if setting.fault == "not normalised" else trained.rung
        outcomes.append(Outcome(setting, format_, trained, reading, right))
        print(line(outcomes[-1]), flush=True)
    return outcomes


def format_of(number: int, setting: Setting) -> str:
    """They take turns; only a log with its first step shows that a loss has weights."""
    return "CSV" if setting.reduction == "min-SNR" else list(FORMATS)[(3 * (number // 10) + number) % len(FORMATS)]


def line(outcome: Outcome) -> str:
    """One run in a row of the table."""
    setting, reading = outcome.setting, outcome.reading
    what = f"{setting.schedule} {setting.prediction} {setting.latents}{' labels' if setting.conditional else ''}"
    fault = setting.fault or (f"healthy, {setting.reduction}" if setting.reduction != "mean" else "healthy")
    ended = f"{reading.plateau.value:.4f}" if reading.plateau else "nan"
    said = reading.rung.name.lower() if reading.rung else "-"
    marks = f"{'' if outcome.is_right else ' WRONG'}{' ACCUSED' if outcome.is_healthy and outcome.is_accused else ''}"
    return (
        f"{what:36} {fault:24} {outcome.format:15} {outcome.trained.loss:8.4f} {ended:>8} "
        f"{outcome.right.name.lower():22} {said:22} {reading.outcome}{marks}"
    )


def main(count: int = 50) -> None:
    torch.set_num_threads(1)
    print(f"{'run':36} {'fault':24} {'format':15} {'measured':>8} {'log':>8} {'right rung':22} {'said':22} outcome")
    start = time.process_time()
    outcomes = run(count)
    right = sum(outcome.is_right for outcome in outcomes)
    healthy = [outcome for outcome in outcomes if outcome.is_healthy]
    accused, faulty = sum(outcome.is_accused for outcome in healthy), len(outcomes) - len(healthy)
    found = sum(outcome.is_accused for outcome in outcomes) - accused
    print(f"right rung: {right} of {len(outcomes)}; healthy accused: {accused} of {len(healthy)}")
    print(f"faulty accused: {found} of {faulty}; {(time.process_time() - start) / 60:.1f} CPU-minutes")
    sys.exit(right < 0.9 * len(outcomes) or accused > 2)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
