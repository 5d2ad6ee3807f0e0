"""Links that put a teacher and its students side by side, on the seed that is shown."""

from ldm_explorer.explore.library import Library
from ldm_explorer.explore.students import first_teacher, students_of
from ldm_explorer.ui.html import Markup, html, join, link_to


def student_links(library: Library, name: str, together: dict[str, object]) -> Markup:
    """For a checkpoint with students, or one of these; nothing for others. `together` is what both sides share."""
    teacher = first_teacher(library.get(name), library.checkpoints)
    links = []
    for student, checkpoint in students_of(teacher, library.checkpoints).items():
        sides = {"checkpoint": teacher.name, **teacher.sampling._asdict()}
        other = {"checkpoint": student, **checkpoint.sampling._asdict()}
        query = {"room": "denoising"} | together | _named(sides) | _named(other, "b.")
        steps = checkpoint.sampling.num_inference_steps
        links.append(link_to(query, f"with {steps}: {student}"))
    if not links:
        return html("")
    return html("<p>{} and its students on this seed: {}</p>", teacher.name, join(links, between=html(", ")))


def _named(side: dict[str, object], prefix: str = "") -> dict[str, object]:
    """As the address of the room names them."""
    names = {"num_inference_steps": "steps"}
    return {f"{prefix}{names.get(name, name)}": value for name, value in side.items()}
