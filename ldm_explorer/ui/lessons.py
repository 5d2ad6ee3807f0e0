"""The lessons: links into the rooms, each with what is shown, a question to answer first, and its answer."""

from collections.abc import Container
from dataclasses import dataclass
from urllib.parse import parse_qs

import gradio as gr

from ldm_explorer.ui.html import Markup, html, join
from ldm_explorer.ui.page_script import once_loaded


@dataclass(frozen=True)
class Lesson:
    """`query` is a part of the address: the room, and the choices in it that matter."""

    name: str
    title: str
    query: str
    sentence: str
    question: str
    answer: str

    @property
    def room(self) -> str:
        return parse_qs(self.query)["room"][0]

    @property
    def link(self) -> str:
        return f"?{self.query}&lesson={self.name}"


LESSONS = (
    Lesson(
        "latent",
        "What does the latent keep?",
        "room=reconstruction&class_name=Pullover&number=1",
        "784 pixels go through 256 numbers and back.",
        "Will the letters come back, and where will the error be largest?",
        "They do: 256 numbers are enough for them. What is lost sits in the letters all the same, the finest part.",
    ),
    Lesson(
        "schedule",
        "Linear or cosine?",
        "room=alphas-betas&step=0",
        "One image gets the same noise along each schedule.",
        "At half of the time, t = 500: under which schedule can you still tell what it is?",
        "Cosine: it has half of the signal's variance left there, linear 8 %, whose second half is next to pure noise.",
    ),
    Lesson(
        "steps",
        "4, 10 or 50 steps?",
        "room=denoising&steps=4&b.steps=50&step=0",
        "The same noise, walked in 4 steps (A) and in 50 (B).",
        "Which image will be better, and would 10 steps have done?",
        "4 are too few, 10 are enough: feature FD of 10,000 images is .51 % with 4, .16 % with 10, .19 % with 50.",
    ),
    Lesson(
        "flow",
        "Betas or a flow?",
        "room=denoising&checkpoint=size-8x8x4&b.checkpoint=size-8x8x4-flow&steps=10&step=0",
        "The same noise, walked along betas (A) and by flow matching (B); both trained for as long.",
        "Will the images differ, and which is the better way?",
        "Hardly: nearly the same image comes of it. Over 10,000 images the flow is a little worse, feature FD .69 % "
        "beside .62 %, and its path is no straighter: 1.09 times the straight line beside 1.08, as “Is the way "
        "straight?” below shows.",
    ),
    Lesson(
        "loss",
        "Why did the loss stop?",
        "room=training&run=lab-as-reported&case=0.34",
        "This loss fell to .27 and stood still, however long it trained.",
        "Did the network learn well? What would you compare .27 with?",
        "With its floors, what a network reaches that knows the latents' scale or covariance alone: all lie there. The "
        "KL weight was so high that the latents are next to noise: there is nothing in them to learn.",
    ),
    Lesson(
        "clipped",
        "Clipped latents",
        "room=faults&fault=clip_sample&step=0",
        "One setting of the sampler cuts off what lies beyond 1, at every step.",
        "What will the image look like, and which number gives it away?",
        "Flat: a third of a normal distribution lies beyond 1, so the standard deviation of the latents falls below 1.",
    ),
    Lesson(
        "size",
        "8 or 32?",
        "room=latent-size&size=size-8x8x4&b.size=size-32x32x1",
        "A latent of 32x32x1 has four times as many numbers as one of 8x8x4.",
        "What do they buy: sharper reconstructions, better samples, or both?",
        "Sharper reconstructions, 52.7 dB in place of 32.3, for 1.8 times the cost; samples are no better beyond luck.",
    ),
)


def lessons_in(rooms: Container[str]) -> tuple[Lesson, ...]:
    """The lessons of rooms that are there."""
    return tuple(lesson for lesson in LESSONS if lesson.room in rooms)


def build_lessons(lessons: tuple[Lesson, ...]) -> None:
    """The row of links, and in its place the lesson that is open."""
    gr.HTML(_row(lessons), js_on_load=once_loaded("ldm.lessons(element)"), elem_classes="ldm-lessons", padding=False)


def _row(lessons: tuple[Lesson, ...]) -> Markup:
    links = join(html('<li><a href="{}">{}</a></li>', lesson.link, lesson.title) for lesson in lessons)
    return html('<nav aria-label="Lessons"><b>Lessons</b><ul>{}</ul></nav>{}', links, join(map(_banner, lessons)))


def _banner(lesson: Lesson) -> Markup:
    return html(
        '<section data-lesson="{}" aria-label="Lesson: {}" tabindex="-1" hidden><p>{} <b>{}</b>{}</p>'
        "<details><summary>Show the answer</summary><p>{}</p></details>"
        '<button type="button" aria-label="Close the lesson" title="All lessons">×</button></section>',
        lesson.name,
        lesson.title,
        lesson.sentence,
        lesson.question,
        " Then press Play." if "step=0" in lesson.query else "",
        lesson.answer,
    )
