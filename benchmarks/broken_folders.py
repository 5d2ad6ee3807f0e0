"""A thousand broken run folders, one after the other, through the library, every room and the diagnosis.

Prints how many raised or were answered by what nobody foresaw, and by how much the worst of every kind of file was
slower and larger than the healthy folder. `python benchmarks/broken_folders.py [MUTANTS]`
"""

import gc
import logging
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from mutant import Mutant
from mutants import choose_mutants
from rooms import FALLBACK, faults_of
from subject import write_subject
from tqdm import tqdm

MAX_CPU_SECONDS, MAX_MB = 2.0, 300.0


@dataclass(frozen=True)
class Outcome:
    """One mutant's; cost is above that of the healthy folder."""

    mutant: Mutant
    faults: list[str]
    cpu_seconds: float
    megabytes: float

    @property
    def too_dear(self) -> bool:
        return self.cpu_seconds > MAX_CPU_SECONDS or self.megabytes > MAX_MB


def _memory(field: str) -> float:
    """MB, as Linux knows it: resident now ("VmRSS") or at most ("VmHWM")."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def _meet(subject: Path, place: Path, mutant: Mutant | None) -> tuple[list[str], float, float]:
    """Faults, CPU-seconds, and MB that were needed at most.

    Each in a place of its own: the app keeps what it read of a folder.
    """
    shutil.copytree(subject.parent, place / "pictures", symlinks=True)
    if mutant is not None:
        mutant.change(place / "pictures" / subject.name)
    folders = [path for path in (place / "pictures").iterdir() if path.is_dir() and path.name != "features"]
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    before, start = _memory("VmRSS"), time.process_time()
    faults = faults_of(place, folders)
    cost = time.process_time() - start, _memory("VmHWM") - before
    shutil.rmtree(place)
    return faults, *cost


def run_mutants(count: int, seed: int = 0) -> list[Outcome]:
    """Meet so many in this process, in an order that the seed fixes."""
    with tempfile.TemporaryDirectory() as folder:
        subject, outcomes = write_subject(Path(folder) / "pictures"), []
        for repeat in range(3):  # the first ones also pay for imports
            _, usual_seconds, usual_megabytes = _meet(subject, Path(folder) / f"healthy-{repeat}", None)
        for number, mutant in enumerate(tqdm(choose_mutants(subject, count, seed), "mutants")):
            faults, seconds, megabytes = _meet(subject, Path(folder) / f"mutant-{number}", mutant)
            outcomes.append(Outcome(mutant, faults, seconds - usual_seconds, megabytes - usual_megabytes))
    return outcomes


def report(outcomes: list[Outcome]) -> str:
    """A line per kind of file, and every mutant that did what it should not."""
    of_file: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        of_file.setdefault(outcome.mutant.file, []).append(outcome)
    lines = [f"{'file':52} {'mutants':>7} {'raised':>6} {'unforeseen':>10} {'CPU s':>6} {'MB':>6}"]
    for file, own in {**of_file, "all": outcomes}.items():
        faults = [fault for outcome in own for fault in outcome.faults]
        unforeseen = sum(FALLBACK in fault for fault in faults)
        seconds = max((outcome.cpu_seconds for outcome in own), default=0.0)
        size = max((outcome.megabytes for outcome in own), default=0.0)
        lines.append(f"{file:52} {len(own):7} {len(faults) - unforeseen:6} {unforeseen:10} {seconds:6.2f} {size:6.0f}")
    for outcome in outcomes:
        if outcome.faults or outcome.too_dear:
            cost = f"{outcome.cpu_seconds:.2f} CPU-seconds, {outcome.megabytes:.0f} MB above the healthy folder"
            lines.append(f"- {outcome.mutant}: {'; '.join(outcome.faults) or cost}")
    return "\n".join(lines)


def main(count: int = 1000) -> None:
    torch.set_num_threads(1)
    logging.disable(logging.ERROR)
    outcomes = run_mutants(count)
    print(report(outcomes))
    sys.exit(any(outcome.faults or outcome.too_dear for outcome in outcomes))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
