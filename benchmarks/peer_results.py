"""What benchmarks/peers.py has found: kept in a file, shown in a table, and how long ours take to a peer's FD."""

import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peer_budget import MARKS
from peer_models import COMPETITORS

from ldm_explorer.atomic import write_json

FILE = "peers.json"
BAR, AIM = 1 / 3, 1 / 8
"""Of a peer's time, to reach its final FD."""
HEADINGS = (
    *("who", "learning rate", "seed", "share of the budget", "CPU-seconds", "images of the denoiser", "precision"),
    *("FD % at 1/3", "at 2/3", "at the end", "coverage", "class consistency", "CPU-seconds of 64 images"),
    *("FD % of 256 images", "the same by DDPM 1000"),
)


@dataclass(frozen=True)
class Entry:
    """One training."""

    competitor: str
    learning_rate: float | None
    seed: int
    share: float  # of the budget

    @property
    def name(self) -> str:
        """Its columns of the table."""
        rate = "default" if self.learning_rate is None else f"{self.learning_rate:g}"
        return f"{self.competitor}; {rate}; {self.seed}; {self.share:.3g}"


def entries() -> list[Entry]:
    """Those that are compared first, then what says how sure that is."""
    found = [
        Entry(name, learning_rate, seed, share)
        for name, competitor in COMPETITORS.items()
        for learning_rate in competitor.learning_rates
        for seed in competitor.seeds
        for share in competitor.shares
    ]
    return sorted(found, key=lambda entry: (entry.seed, -entry.share))


class Results:
    """The pieces that are done, in a file that is written anew after each."""

    def __init__(self, folder: Path, seconds: float):
        """Raises `SystemExit` for a folder of anything else, and for results of another budget."""
        self.folder, self.file = folder, folder / FILE
        if self.file.exists():
            self.content = json.loads(self.file.read_text())
            if (kept := self.content["seconds"]) != seconds:
                sys.exit(f"{folder} has results of {kept:g} CPU-seconds, not {seconds:g}: give another")
        elif folder.exists() and any(folder.iterdir()):
            sys.exit(f"{folder} holds other files and no {FILE}: give a new folder")
        else:
            folder.mkdir(parents=True, exist_ok=True)
            self.content = {"seconds": seconds, "conditions": [], "entries": {}}
            self.write()  # before anything else is in the folder

    @property
    def seconds(self) -> float:
        return self.content["seconds"]

    def of(self, entry: Entry) -> dict[str, Any]:
        """The pieces of a training by their names."""
        return self.content["entries"].get(entry.name, {})

    def folder_of(self, entry: Entry) -> Path:
        return self.folder / re.sub(r"[^\w.]+", "-", entry.name)

    def began(self, header: str) -> None:
        """Keep what figures depend on, once for each way it was."""
        self.content["conditions"] = list(dict.fromkeys([*self.content["conditions"], header]))
        self.write()

    def write(self) -> None:
        write_json(self.file, self.content)

    def piece(self, entry: Entry, name: str, compute: Callable[[], dict[str, Any]]) -> None:
        """Compute and keep what is not there yet."""
        if name not in self.of(entry):
            found = compute()
            self.content["entries"].setdefault(entry.name, {})[name] = found
            self.write()
            print(f"{time.strftime('%H:%M:%S')} {entry.name}: {name} {json.dumps(found)}", flush=True)

    @property
    def measured(self) -> list[Entry]:
        """The trainings that were looked at to their end."""
        return [entry for entry in entries() if "end" in self.of(entry)]

    def best_of(self, name: str) -> Entry | None:
        """The one of a competitor's with the whole budget that came to the lowest FD: a peer's better learning rate."""
        whole = [entry for entry in self.measured if entry.competitor == name and entry.share == 1]
        return min(whole, key=lambda entry: self.of(entry)["end"]["fd_percent"], default=None)


Looks = dict[tuple[float, str], tuple[float, float]]
"""CPU-seconds and FD by the budget and the mark within it."""


def time_to(wanted: float, seeds: Sequence[Looks]) -> float | None:
    """The least CPU-seconds after which the FD of every seed was at most `wanted`, None where none of the looks is."""
    reached = []
    for key in set[tuple[float, str]]().union(*seeds):
        seconds, distances = zip(*(looks[key] for looks in seeds if key in looks), strict=True)
        if len(seconds) == len(seeds) and max(distances) <= wanted:
            reached.append(max(seconds))
    return min(reached, default=None)


def looks_of(name: str, results: Results) -> list[Looks]:
    """The looks at a competitor's trainings, for each seed."""
    seeds: dict[int, Looks] = {}
    for entry in (entry for entry in results.measured if entry.competitor == name):
        pieces = results.of(entry)
        for mark in MARKS.keys() & pieces.keys():
            seconds = pieces["training"]["points"][mark]["cpu_seconds"]
            seeds.setdefault(entry.seed, {})[entry.share, mark] = seconds, pieces[mark]["fd_percent"]
    return list(seeds.values())


def verdicts(results: Results) -> list[str]:
    """How long ours take to the final FD of each peer at its better learning rate."""
    ours, peers = ([name for name in COMPETITORS if name.startswith("ours") == own] for own in (True, False))
    lines = []
    for peer, best in ((peer, results.best_of(peer)) for peer in peers):
        if best is None:
            continue
        pieces = results.of(best)
        wanted, theirs = pieces["end"]["fd_percent"], pieces["training"]["points"]["end"]["cpu_seconds"]
        for name in ours:
            seconds = time_to(wanted, looks_of(name, results))
            said = f"to the {wanted:.3g} % that {peer} has after {theirs:.0f} CPU-seconds: "
            if seconds is None:
                said += "at no look that every seed has"
            else:
                said += f"after {seconds:.0f}, {seconds / theirs:.2g} of its time"
            lines.append(f"{name} {said} (bar {BAR:.2g}, aim {AIM:.3g})")
    return lines


def table(results: Results) -> str:
    """All that was measured, a training a line."""
    lines = [HEADINGS, ["---"] * len(HEADINGS), *(_row(entry, results.of(entry)) for entry in results.measured)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(entry: Entry, pieces: dict[str, Any]) -> list[str]:
    points, end = pieces["training"]["points"], pieces["end"]
    numbers = [pieces.get(mark, {}).get("fd_percent") for mark in MARKS]
    numbers += [end[name] for name in ("coverage", "class_consistency", "sampling_cpu_seconds_of_64")]
    numbers += [end["fd_percent_of_256"], pieces.get("full", {}).get("fd_percent")]
    spent = f"{points['end']['cpu_seconds']:.0f}", str(points["end"]["images"]), pieces["training"]["precision"]
    return [*entry.name.split("; "), *spent, *("-" if number is None else f"{number:.3g}" for number in numbers)]
