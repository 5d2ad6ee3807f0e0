"""How many evaluations of the network are enough?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NotRequired

from pydantic import Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.evaluation.reference import flat_measures
from ldm_explorer.explore.size_measures import write_csv
from ldm_explorer.run_files import STRICT, Count, Name, Number


@with_config(STRICT)
class _Stored(TypedDict):
    """As `train/evaluate.py --few-evaluations` leaves it in metrics.json."""

    num_images: Count
    evaluations: Annotated[list[Count], Field(min_length=1, max_length=1000)]
    fd_percent: Annotated[dict[Name, list[Number | None]], Field(max_length=100)]
    fd_floor_percent: NotRequired[Number | None]


_STORED = TypeAdapter(_Stored)


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
    evaluation = checkpoint.metrics.get("evaluation")
    try:
        measured = _STORED.validate_python(checkpoint.metrics.get("few_evaluations"))
    except ValidationError:
        return None
    curves, evaluations = measured["fd_percent"], measured["evaluations"]
    if any(len(distances) != len(evaluations) for distances in curves.values()):
        return None
    measures = flat_measures(evaluation if isinstance(evaluation, dict) else {})
    return FewEvaluations(
        name=checkpoint.name,
        num_images=measured["num_images"],
        evaluations=tuple(evaluations),
        fd_percent={sampler: tuple(distances) for sampler, distances in curves.items()},
        rfd_percent=measures.get("rfd_percent"),
        fd_floor_percent=measured.get("fd_floor_percent"),
    )
