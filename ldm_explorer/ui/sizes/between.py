"""Part: what lies between two images, through every size."""

from collections.abc import Iterator

import gradio as gr

from ldm_explorer.explore.latent_views import Interpolation, Strip, interpolate
from ldm_explorer.explore.library import Library
from ldm_explorer.ui.html import Markup
from ldm_explorer.ui.images import chosen_image
from ldm_explorer.ui.page_script import once_loaded
from ldm_explorer.ui.pictures import Picture, notice, picture_row, scrolling, strip
from ldm_explorer.ui.server.work import LONG
from ldm_explorer.ui.sizes.compared import ComparedOnImage, SecondImage, compared_checkpoints, second_image

NAME = "sizes-between"
QUESTION = "What lies between two images, through every latent size?"
TITLE = "Between two images, at every size"
FOLDED = True
WORK = LONG
WHAT_IT_SHOWS = (
    "From the image chosen to a second one, through the latents, decoded. Where half-way latents stand for images, the "
    "pictures between could be real ones; where they do not, they are the two on top of each other. The straight way "
    "leads through latents that are mostly shorter than those of images, the spherical one keeps their length.\n\n"
    "The second image:"
)
PICK = """ldm.picker(element, watch, () => ldm.change({
    second_class: ldm.picked[0], second_number: ldm.picked[1]
}), ["second_class", "second_number"])"""


class Between(ComparedOnImage, SecondImage):
    """Two images, through checkpoints of several sizes."""


SETTINGS = Between


def build(_library: Library) -> list[gr.components.Component]:
    gr.Markdown(WHAT_IT_SHOWS)
    gr.HTML("", html_template='<div class="ldm-picker"></div>', js_on_load=once_loaded(PICK), elem_classes="ldm-second")
    return [gr.HTML("", padding=False)]


def answer(library: Library, chosen: Between, _beside: Between | None) -> Iterator[tuple]:
    """Strips of images between both, along the straight line and along the arc, one size after the other."""
    first = chosen_image(library, chosen)
    second = second_image(library, chosen.checkpoint, chosen.class_name, chosen)
    shown = notice([f"From {first.caption} to {second.caption}."])
    for checkpoint in compared_checkpoints(library, chosen):
        result = interpolate(checkpoint, first.pixels, second.pixels)
        shown += strips(result, f"{result.name}: {result.size.in_words}")
        yield (shown,)


def strips(result: Interpolation, heading: str) -> Markup:
    """Both ways between two images, each as a strip."""

    def picture(title: str, way: Strip) -> Picture:
        said = f"half-way the latent has {way.halfway_length:.2f} of its ends' length"
        return Picture(strip(way.images), title, said)

    ways = [picture("Straight", result.straight), picture("Spherical", result.spherical)]
    return scrolling(picture_row(ways, heading, "strips"), f"{result.name}, strips")
