"""What the loss of a student says: how far it lands from its teacher, which several of the teacher's steps reach."""

from collections.abc import Sequence

from ldm_explorer.diagnosis.judge import last_tenth
from ldm_explorer.run_files import LogRecord
from ldm_explorer.run_layout import LOG_FILE


def student_sentence(log: Sequence[LogRecord]) -> str:
    """The loss of a student's training beside that of its teacher taking as few steps.

    Raises `ValueError` when no validation is among the lines of its log.
    """
    validations = [line for line in log if line.keys() >= {"validation_loss", "validation_teacher_loss"}]
    if not validations:
        raise ValueError(f"{LOG_FILE} holds no validation of a student yet")
    loss = last_tenth([line["validation_loss"] for line in validations])
    of_the_teacher = validations[-1]["validation_teacher_loss"]
    return (
        f"The validation loss ended at {loss:.3g}: the mean squared error of a step beside the one that lands where "
        f"several steps of the teacher do. The teacher itself, taking as few steps, has {of_the_teacher:.3g}; the "
        "floor is 0."
    )
