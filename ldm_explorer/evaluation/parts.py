"""The parts of a long evaluation, which are kept as they are measured, and what they depend on."""

import fnmatch
import hashlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.evaluation.processes import Processes
from ldm_explorer.files import read_bytes, read_json
from ldm_explorer.run_files import update_metrics
from ldm_explorer.run_folder import MARK, RunFolder
from ldm_explorer.run_layout import NETWORK_CONFIG, SCHEDULER_CONFIG


@dataclass
class Parts:
    """The parts of one evaluation, kept in the run's folder until all are there, then in its metrics.json.

    With `resume`, what was measured before under the same conditions is not measured again. In a folder that is no
    run of ours nothing is kept.
    """

    checkpoint: Checkpoint
    section: str
    conditions: dict[str, Any]
    resume: bool
    processes: Processes
    measured: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.run = RunFolder(self.checkpoint.folder)
        self.keeps = self.processes.is_main_process and self.run.is_marked
        self.file = partial_file(self.section)
        found = read_json(self.run.path / self.file) if self.resume and self.keeps else {}
        known = found.get("parts", {}) if found.get("conditions") == self.conditions else {}
        self.measured = self.processes.from_main(known)

    def finished(self) -> dict[str, Any] | None:
        """The whole section, when it is stored and was measured under the same conditions."""
        stored = self.checkpoint.metrics.get(self.section)
        known = isinstance(stored, dict) and stored.get("conditions") == self.conditions
        return stored if self.resume and known else None

    def measure(self, name: str, measurement: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The measures of a part: as they were kept, or measured now and kept."""
        if name not in self.measured:
            self.measured[name] = rounded(measurement())
            if self.keeps:
                self.run.write_json(self.file, {"conditions": self.conditions, "parts": self.measured})
        return self.measured[name]

    def finish(self, measures: dict[str, Any]) -> dict[str, Any]:
        """Store the whole section."""
        measures = rounded(measures) | {"conditions": self.conditions}
        if self.keeps:
            update_metrics(self.run.path, self.section, measures)
            self.run.remove([self.file])
        return measures


def partial_file(section: str) -> str:
    """Where the parts of a section are kept until all are there."""
    return f"{section}.partial.json"


def digest(folder: Path, part: str = "") -> str:
    """A digest of the weights in a folder or a part of it, of what normalises latents, and of the betas.

    Raises `CheckpointError` for a file that cannot be read.
    """
    content = hashlib.sha256()
    for path in _files(folder, part, "*.safetensors"):
        content.update(read_bytes(path))
    for path in _files(folder, part, NETWORK_CONFIG):
        config = read_json(path)
        content.update(json.dumps([config.get("latents_mean"), config.get("latents_std")]).encode())
    for path in _files(folder, part, SCHEDULER_CONFIG):
        content.update(read_bytes(path))
    return content.hexdigest()[:16]


def _files(folder: Path, part: str, glob: str) -> list[Path]:
    found = RunFolder(folder).find(f"**/{glob}", re.compile(rf"(.*/)?{fnmatch.translate(glob)}"))
    inside = (path.relative_to(folder) for path in found if path.is_relative_to(folder / part))
    return [folder / path for path in sorted(inside) if MARK not in path.parts]


def rounded(value: Any) -> Any:
    """Floats to five digits, at any depth; None for one that is not finite, which JSON has no word for."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value
