"""The lessons: their links open what they speak of, and their numbers are the stored ones."""

import pytest

from ldm_explorer.checkpoints import read_checkpoint
from ldm_explorer.diagnosis.faults import FAULTS
from ldm_explorer.diagnosis.reading import read_loss
from ldm_explorer.explore.few_evaluations import read_few_evaluations
from ldm_explorer.explore.flow_lens import view_as_flow
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.size_measures import read_measures
from ldm_explorer.schedules import make_schedule
from ldm_explorer.shipped import shipped_checkpoints
from ldm_explorer.ui.lessons import LESSONS, lessons_in
from ldm_explorer.ui.parts import parameters_of
from ldm_explorer.ui.rooms import ROOMS
from ldm_explorer.ui.settings import OF_B

BY_NAME = {lesson.name: lesson for lesson in LESSONS}
OF_THE_PAGE = {"room", "lesson", "step"}


def choices(lesson) -> dict[str, str]:
    pairs = (pair.split("=") for pair in lesson.link.removeprefix("?").split("&"))
    return {name: value for name, value in pairs if name not in OF_THE_PAGE}


def test_each_lesson_has_one_sentence_one_question_and_one_answer():
    assert len(BY_NAME) == len(LESSONS)
    for lesson in LESSONS:
        assert lesson.sentence.endswith(".")
        assert lesson.question.endswith("?")
        assert lesson.answer.endswith(".")
        assert len(f"{lesson.sentence} {lesson.question}".split()) <= 40


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.NAME)
def test_a_link_holds_what_its_room_takes(room):
    for lesson in lessons_in([room.NAME]):
        assert {name.removeprefix(OF_B) for name in choices(lesson)} <= set(parameters_of(room))
        needed = "&".join(f"{name}=x" for name, field in room.SETTINGS.model_fields.items() if field.is_required())
        room.SETTINGS.read(f"{needed}&{lesson.query}")


def test_lessons_of_rooms_that_are_not_there_are_not_offered():
    assert [lesson.name for lesson in lessons_in(["denoising"])] == ["steps", "flow"]


def test_the_answer_on_steps_says_what_was_measured():
    measured = read_few_evaluations(read_checkpoint(shipped_checkpoints("fashion_mnist", "ldm-8x8x4-cosine")))
    distances = dict(zip(measured.evaluations, measured.fd_percent["unipc"], strict=True))
    for steps in (4, 10, 50):
        assert f"{distances[steps]:.2f} %".removeprefix("0") in BY_NAME["steps"].answer


def test_the_answer_on_a_flow_says_what_was_measured():
    lesson = BY_NAME["flow"]
    names, steps = ("checkpoint", "b.checkpoint"), int(choices(lesson)["steps"])
    betas, flow = (read_checkpoint(shipped_checkpoints("sizes", choices(lesson)[name])) for name in names)
    distances = [item.metrics["evaluation"]["generation"]["fd_percent"] for item in (flow, betas)]
    assert "feature FD {:.2f} % beside {:.2f} %".format(*distances).replace("0.", ".") in lesson.answer
    paths = [
        view_as_flow(item, "Ankle boot", 0, sampler="unipc", num_steps=steps, guidance_scale=1).flow.straightness
        for item in (flow, betas)
    ]
    assert "{:.2f} times the straight line beside {:.2f}".format(*paths) in lesson.answer


def test_the_answer_on_sizes_says_what_was_measured():
    folders = [shipped_checkpoints("sizes", name) for name in ("size-8x8x4", "size-32x32x1")]
    checkpoints = {folder.name: read_checkpoint(folder) for folder in folders}
    small, large = read_measures(Library(checkpoints, (), {}), list(checkpoints))
    assert f"{large.get('psnr_db'):.1f} dB in place of {small.get('psnr_db'):.1f}" in BY_NAME["size"].answer
    assert f"{large.get('gflops_per_image') / small.get('gflops_per_image'):.1f} times" in BY_NAME["size"].answer


def test_the_loss_that_stopped_lies_at_its_floors():
    lesson = BY_NAME["loss"]
    reading = read_loss(read_checkpoint(shipped_checkpoints("lab", choices(lesson)["run"])))
    assert f"{reading.validation_last_tenth:.2f}".removeprefix("0") in lesson.sentence
    floors = [floor for name, floor in reading.mean_floors.items() if name != "zero"]
    assert all(abs(floor - reading.validation_last_tenth) < 0.01 for floor in floors)


def test_the_answer_on_schedules_says_what_they_are():
    shares = {name: float(make_schedule(name).alpha_bars[500]) for name in ("linear", "cosine")}
    assert f"linear {shares['linear'] * 100:.0f} %" in BY_NAME["schedule"].answer
    assert shares["cosine"] == pytest.approx(0.5, abs=0.02)


def test_the_fault_of_a_lesson_is_one_of_the_faults():
    assert choices(BY_NAME["clipped"])["fault"] in FAULTS
