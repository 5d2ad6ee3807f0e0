"""Part: where in the latent the information is."""

from collections.abc import Callable, Iterator

import gradio as gr
from torch import Tensor

from ldm_explorer.explore.latent_views import LatentUseMaps, map_latent_use
from ldm_explorer.explore.library import Library
from ldm_explorer.ui.html import Markup
from ldm_explorer.ui.images import chosen_image
from ldm_explorer.ui.pictures import Picture, kl_picture, picture_row
from ldm_explorer.ui.server.work import LONG
from ldm_explorer.ui.sizes.compared import ComparedOnImage, compared_checkpoints

NAME = "sizes-maps"
QUESTION = "Where in the latent is the information?"
TITLE = "Where is the information? Maps of the latent"
FOLDED = True
WORK = LONG
SETTINGS = ComparedOnImage
WHAT_IT_SHOWS = (
    "KL from the standard normal, in nats, of each value of the latent, its channels side by side. **Black** is 0 "
    "nats: the value is noise, whatever the image. **Blue** is 4 nats, **yellow** 8 or more: the value can say much "
    "about it."
)


def build(_library: Library) -> list[gr.components.Component]:
    gr.Markdown(WHAT_IT_SHOWS)
    return [gr.HTML("", padding=False)]


def answer(library: Library, chosen: ComparedOnImage, _beside: ComparedOnImage | None) -> Iterator[tuple]:
    """The KL of each latent value, over test images and for the chosen one, one size after the other."""
    image, maps = chosen_image(library, chosen), []
    for checkpoint in compared_checkpoints(library, chosen):
        maps.append(map_latent_use(checkpoint, image.pixels))
        of_examples = _row(maps, lambda item: item.of_examples, f"Mean over {maps[0].num_examples} test images")
        yield (of_examples + _row(maps, lambda item: item.of_image, image.caption),)


def _row(maps: list[LatentUseMaps], nats: Callable[[LatentUseMaps], Tensor], heading: str) -> Markup:
    def caption(item: LatentUseMaps) -> str:
        return f"{item.size.in_words}; {nats(item).mean():.2f} nats per value, {nats(item).sum():,.0f} in all"

    return picture_row([Picture(kl_picture(nats(item)), item.name, caption(item)) for item in maps], heading)
