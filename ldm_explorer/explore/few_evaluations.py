"""How many evaluations of the network are enough?"""

from collections.abc import Sequence
from dataclasses import dataclass

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.evaluation.ruler import flat_figures
from ldm_explorer.explore.size_figures import write_csv


@dataclass(frozen=True)
class FewEvaluations:
    """Feature FD of one checkpoint over the number of evaluations, per sampler, with what makes it readable."""

    name: str
    num_images: int
    evaluations: Sequence[int]
    fd_percent: dict[str, Sequence[float | None]]
    rfd_percent: float | None
    fd_floor_percent: float | None

    def csv(self) -> str:
        """A line per number of evaluations, a column per sampler."""
        head = ["evaluations", *(f"fd_percent of {sampler}" for sampler in self.fd_percent)]
        return write_csv(head, list(zip(self.evaluations, *self.fd_percent.values(), strict=True)))


def read_few_evaluations(checkpoint: Checkpoint) -> FewEvaluations | None:
    """None where `train/evaluate.py --few-evaluations` was not run, or what it left cannot be read."""
    measured, evaluation = (checkpoint.metrics.get(name) for name in ("few_evaluations", "evaluation"))
    try:
        curves = {sampler: tuple(distances) for sampler, distances in measured["fd_percent"].items()}
        evaluations, num_images = tuple(measured["evaluations"]), int(measured["num_images"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    if not evaluations or any(len(distances) != len(evaluations) for distances in curves.values()):
        return None
    figures = flat_figures(evaluation if isinstance(evaluation, dict) else {})
    return FewEvaluations(
        name=checkpoint.name,
        num_images=num_images,
        evaluations=evaluations,
        fd_percent=curves,
        rfd_percent=figures.get("rfd_percent"),
        fd_floor_percent=measured.get("fd_floor_percent"),
    )
