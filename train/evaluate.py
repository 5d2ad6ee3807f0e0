"""Measure checkpoints or folders of samples: `python train/evaluate.py checkpoints/fashion_mnist/*`.

Definitions are in docs/measures.md. Several processes share the work: `torchrun --nproc_per_node 2
train/evaluate.py ...`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import _checkout  # noqa: F401
import tyro

from ldm_explorer.evaluation.config import EvaluationConfig
from ldm_explorer.evaluation.evaluator import Evaluation
from ldm_explorer.evaluation.results_table import tables
from ldm_explorer.evaluation.subjects import kept_nowhere, read_subjects
from ldm_explorer.training.command_line import main_of
from ldm_explorer.training.launched import LaunchedProcesses


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(EvaluationConfig):
    """Options of train/evaluate.py."""

    checkpoints: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Checkpoint folders of any diffusers model that is read (docs/models.md), ids of the Hub (hf:owner/name), or
    folders of samples as PNG (subfolders named as the classes that they were made for)."""
    threads: int | None = None
    """CPU threads per process. Default: the cores there are, shared by the processes on this machine."""

    def __post_init__(self) -> None:
        if not self.checkpoints:
            raise ValueError("give at least one checkpoint folder")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"--threads is {self.threads}: give at least 1")
        super().__post_init__()


def main(config: EvaluateConfig) -> None:
    subjects, processes = read_subjects(config.checkpoints, config), LaunchedProcesses(config.threads)
    evaluation = Evaluation(config, processes, print if processes.is_main_process else lambda _: None)
    evaluation.check(subjects.values())
    for folder in kept_nowhere(subjects.values()) if processes.is_main_process else ():
        print(f"{folder} has no mark of a run of ours: its measures are printed and kept nowhere")
    results: dict[str, dict[str, Any]] = {}
    try:
        for name, measures in evaluation.measure_all(subjects):
            results[name] = measures
    finally:  # the measures of samples are stored nowhere
        if results and processes.is_main_process:
            print("\n\n".join(tables(results)))


if __name__ == "__main__":
    main_of(EvaluateConfig, main)
