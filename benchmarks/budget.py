"""Where a short budget goes: the CPU-seconds that two trainings spend outside their loops, by parts.

They are a user's two commands, train/vae.py and then train/ldm.py on its latents, at their defaults, with one thread
and each in a process of its own. What lies outside the loops does not depend on how long these are: here they are
short, and the rest of the budget is taken to be theirs, three eighths of it the autoencoder's. Of that rest it is said
how much goes into steps, and how much into validations, the film and states.
`python benchmarks/budget.py [CPU-MINUTES]`, 8 by default; the latents of earlier trainings are not there to be read.
"""

import json
import math
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

SHORT = {"vae": 48, "ldm": 24}
"""Steps taken of each, the last of which validates."""
SHARES = {"vae": 3 / 8, "ldm": 5 / 8}
STEPS, VALIDATION, FILM, STATES = LOOP = ("steps", "validation", "film", "states")


class Parts:
    """CPU-seconds of this process by part, each without those of parts within it."""

    def __init__(self):
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self.within = [0.0]

    def clocked(self, part: str, function: Callable) -> Callable:
        def timed(*arguments: Any, **options: Any) -> Any:
            began = time.process_time()
            self.within.append(0.0)
            try:
                return function(*arguments, **options)
            finally:
                took = time.process_time() - began
                self.seconds[part] += took - self.within.pop()
                self.calls[part] += 1
                self.within[-1] += took

        return timed

    def watch(self, part: str, owner: Any, *names: str) -> None:
        for name in names:
            setattr(owner, name, self.clocked(part, getattr(owner, name)))


def train(kind: str, folder: Path) -> None:
    """One short training in this process; prints what its parts took."""
    from ldm_explorer.training import dataset, loop, run
    from ldm_explorer.training.command_line import main_of
    from ldm_explorer.training.drive import drive
    from ldm_explorer.training.tasks import autoencoder, denoiser

    parts = Parts()
    parts.seconds["imports"] = time.process_time()
    parts.watch("reading images", dataset.DataConfig, "load")
    parts.watch("encoding", denoiser, "encode_all")
    parts.watch("encoding", autoencoder, "measure_scale")
    parts.watch("covariances", denoiser, "measure_latents")
    parts.watch("memorising floors", denoiser, "measure_memorising")
    parts.watch("cost and card", run, "training_cost", "run_card", "sample_grid")
    parts.watch("precision and processes", run, "make_accelerator")
    parts.watch(STATES, loop, "save_state")
    parts.watch(STEPS, loop._Loop, "_take_step")
    for task in (autoencoder.AutoencoderTask, denoiser.DenoiserTask):
        parts.watch(VALIDATION, task, "validate")
        parts.watch(FILM, task, "sample")
    options = f"--max-steps {SHORT[kind]} --threads 1 --out {folder / kind}"
    sys.argv[1:] = (options if kind == "vae" else f"{options} --vae {folder / 'vae'}").split()

    def main(config: Any) -> None:
        drive((autoencoder.AutoencoderTraining if kind == "vae" else denoiser.DenoiserTraining)(config))
        every = config.validate_every_steps, config.save_every_steps
        print(json.dumps({"calls": parts.calls, "every": every}))

    config_class = autoencoder.VAETrainConfig if kind == "vae" else denoiser.LDMTrainConfig
    parts.clocked("everything else", main_of)(config_class, main)
    print(json.dumps(parts.seconds))


def measure(kind: str, folder: Path) -> dict[str, Any]:
    """The same in a process of its own, whose last breath counts as well."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, __file__, kind, str(folder)], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{kind} failed:\n{done.stderr}")
    *_, measured, seconds = map(json.loads, done.stdout.splitlines()[-2:])
    measured["seconds"] = seconds
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    measured["seconds"]["start and end of Python"] = used - sum(measured["seconds"].values())
    return measured


def steps_in(seconds: float, measured: dict[str, Any]) -> tuple[int, dict[str, float]]:
    """How many steps a loop of so many CPU-seconds takes, and what of them goes into each of its parts."""
    each = {part: measured["seconds"].get(part, 0.0) / max(1, measured["calls"].get(part, 0)) for part in LOOP}
    validate_every, save_every = measured["every"]

    def parts(steps: int) -> dict[str, float]:
        frames = math.floor(math.log2(steps)) + 2
        counts = steps, math.ceil(steps / validate_every), frames, math.ceil(steps / save_every)
        return {part: each[part] * count for part, count in zip(LOOP, counts, strict=True)}

    steps = 1
    while sum(parts(steps + 1).values()) <= seconds:
        steps += 1
    return steps, parts(steps)


def main(minutes: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"XDG_CACHE_HOME": f"{folder}/cache", "OMP_NUM_THREADS": "1"}
        measured = {kind: measure(kind, Path(folder)) for kind in SHORT}
    budget = 60 * minutes
    names = dict.fromkeys(part for one in measured.values() for part in one["seconds"] if part not in LOOP)
    outside = {kind: sum(measured[kind]["seconds"].get(name, 0.0) for name in names) for kind in measured}
    print(f"{platform.processor() or platform.machine()}, one thread, {minutes:g} CPU-minutes; CPU-seconds:")
    print(f"{'outside the loops':26}{'vae.py':>8}{'ldm.py':>8}   of the budget")
    for name in sorted(names, key=lambda name: -sum(one["seconds"].get(name, 0.0) for one in measured.values())):
        seconds = [one["seconds"].get(name, 0.0) for one in measured.values()]
        print(f"{name:26}{seconds[0]:8.2f}{seconds[1]:8.2f}   {sum(seconds) / budget:.1%}")
    print(f"{'together':26}{outside['vae']:8.1f}{outside['ldm']:8.1f}   {sum(outside.values()) / budget:.1%}")
    left = budget - sum(outside.values())
    for kind, one in measured.items():
        if SHARES[kind] * left <= 0:
            sys.exit("nothing is left for the loops: give a longer budget")
        steps, parts = steps_in(SHARES[kind] * left, one)
        said = ", ".join(f"{part} {seconds:.1f}" for part, seconds in parts.items())
        print(f"the loop of {kind}.py: {steps:,} steps; {said}")


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in SHORT:
        train(sys.argv[1], Path(sys.argv[2]))
    else:
        main(float(sys.argv[1]) if sys.argv[1:] else 8)
