"""Part: the chosen image through every size, one picture each."""

from collections.abc import Iterator

import gradio as gr
from torch import Tensor

from ldm_explorer.data import to_uint8
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.reconstruction import Reconstruction, reconstruct_image
from ldm_explorer.ui.images import chosen_image
from ldm_explorer.ui.page_script import once_loaded
from ldm_explorer.ui.pictures import png_data_uri
from ldm_explorer.ui.server.work import LIGHT
from ldm_explorer.ui.sizes.compared import ComparedOnImage, compared, of_other_images

NAME = "sizes-reconstructed"
QUESTION = "What does every latent size keep of an image?"
WORK = LIGHT
SETTINGS = ComparedOnImage
TEMPLATE = (
    '<p class="ldm-sizes-hint">The image at each size. Click one, or a point, to see what it generates and '
    'interpolates.</p><div class="ldm-sizes"></div>'
)


def build(_library: Library) -> list[gr.components.Component]:
    return [
        gr.HTML(
            None, html_template=TEMPLATE, js_on_load=once_loaded("ldm.sizes(element, props, watch)"), padding=False
        ),
        gr.Markdown(""),
    ]


def answer(library: Library, chosen: ComparedOnImage, _beside: ComparedOnImage | None) -> Iterator[tuple]:
    """The image, and its reconstruction by every size, from the fewest values on."""
    image = chosen_image(library, chosen)
    results = [
        (item.label, reconstruct_image(library.get(item.name), image.pixels)) for item in compared(library, chosen)
    ]
    shown = [_picture(results[0][1].image, "Image", [])]
    shown += [_picture(result.reconstruction, label, _words(result), result.name) for label, result in results]
    yield shown, " ".join([*image.notes, *of_other_images(library, chosen)])


def _picture(pixels: Tensor, title: str, words: list[str], name: str = "") -> dict:
    return {"src": png_data_uri(to_uint8(pixels)), "title": title, "words": words, "name": name}


def _words(result: Reconstruction) -> list[str]:
    raw = [] if result.size.compresses else ["no compression"]
    return [f"{result.size.values:,} values", *raw, f"{result.psnr_db:.1f} dB"]
