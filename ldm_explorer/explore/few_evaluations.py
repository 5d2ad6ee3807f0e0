"""How many evaluations of the network are enough?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, NotRequired

from pydantic import Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.evaluation.reference import flat_measures
from ldm_explorer.explore.size_measures import write_csv
from ldm_explorer.explore.students import first_teacher, students_of
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
    students: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Those that were distilled from it: the evaluations that each is made for, and its FD with these."""

    def csv(self) -> str:
        """A line per number of evaluations, a column per sampler and per student."""
        columns = {
            sampler: dict(zip(self.evaluations, distances, strict=True))
            for sampler, distances in self.fd_percent.items()
        }
        columns |= {name: {count: distance} for name, (count, distance) in self.students.items()}
        rows = sorted({count for column in columns.values() for count in column})
        head = ["evaluations", *(f"fd_percent of {name}" for name in columns)]
        return write_csv(head, [(count, *(column.get(count) for column in columns.values())) for count in rows])


def read_few_evaluations(
    checkpoint: Checkpoint, others: Mapping[str, Checkpoint] | None = None
) -> FewEvaluations | None:
    """With the students of a checkpoint among others; of a student, what its teacher has, where that is among them.

    None where `train/evaluate.py --few-evaluations` was not run, or what it left cannot be read.
    """
    others = others or {}
    first = first_teacher(checkpoint, others)
    if (measured := _measured(first)) is None:
        first, measured = checkpoint, _measured(checkpoint)
    if measured is None:
        return None
    evaluation = first.metrics.get("evaluation")
    measures = flat_measures(evaluation if isinstance(evaluation, dict) else {})
    of_students = {name: _of_student(student) for name, student in students_of(first, others).items()}
    return FewEvaluations(
        name=first.name,
        num_images=measured["num_images"],
        evaluations=tuple(measured["evaluations"]),
        fd_percent={sampler: tuple(distances) for sampler, distances in measured["fd_percent"].items()},
        rfd_percent=measures.get("rfd_percent"),
        fd_floor_percent=measured.get("fd_floor_percent"),
        students={name: found for name, found in of_students.items() if found is not None},
    )


def _measured(checkpoint: Checkpoint) -> _Stored | None:
    try:
        measured = _STORED.validate_python(checkpoint.metrics.get("few_evaluations"))
    except ValidationError:
        return None
    fits = all(len(distances) == len(measured["evaluations"]) for distances in measured["fd_percent"].values())
    return measured if fits else None


def _of_student(student: Checkpoint) -> tuple[int, float] | None:
    """Its own evaluations, and its FD with these."""
    if (measured := _measured(student)) is None:
        return None
    distance = next((distances[0] for distances in measured["fd_percent"].values()), None)
    return None if distance is None else (measured["evaluations"][0], distance)
