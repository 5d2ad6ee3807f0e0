"""Who was distilled from whom."""

from collections.abc import Mapping

from ldm_explorer.checkpoints import Checkpoint


def first_teacher(checkpoint: Checkpoint, others: Mapping[str, Checkpoint]) -> Checkpoint:
    """Whom it was distilled from, through all students between; itself for who was not, or from one not among them."""
    known = {checkpoint.name}
    while checkpoint.teacher in others.keys() - known:
        checkpoint = others[checkpoint.teacher]
        known.add(checkpoint.name)
    return checkpoint


def students_of(teacher: Checkpoint, others: Mapping[str, Checkpoint]) -> dict[str, Checkpoint]:
    """All whose first teacher it is, by name, those of the fewest evaluations first."""
    found = {
        name: other
        for name, other in others.items()
        if other.teacher and other is not teacher and first_teacher(other, others) is teacher
    }
    return dict(sorted(found.items(), key=lambda item: (item[1].sampling.num_inference_steps, item[0])))
