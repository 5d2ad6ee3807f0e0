"""How many evaluations of the network are enough?"""

from collections.abc import Sequence
from dataclasses import dataclass

from ldm_explorer.checkpoints import Checkpoint
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
    """None where `train/evaluate.py --few-evaluations` was not run."""
    measured = checkpoint.metrics.get("few_evaluations")
    if not measured:
        return None
    reconstruction = checkpoint.metrics.get("evaluation", {}).get("reconstruction", {})
    return FewEvaluations(
        name=checkpoint.name,
        num_images=measured["num_images"],
        evaluations=measured["evaluations"],
        fd_percent=measured["fd_percent"],
        rfd_percent=reconstruction.get("rfd_percent"),
        fd_floor_percent=reconstruction.get("fd_floor_percent"),
    )
