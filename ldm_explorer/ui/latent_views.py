"""In the tab of latent sizes: what lies between two latents, and where the information is."""

from collections.abc import Callable

import gradio as gr
from torch import Tensor

from ldm_explorer.checkpoints import Checkpoint
from ldm_explorer.explore.latent_views import Interpolation, LatentUseMaps, Strip, interpolate, map_latent_use
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.size_measures import comparable_names
from ldm_explorer.ui.common import (
    SharedChoices,
    answer_changes,
    answer_when_opened,
    bind,
    chosen_image,
    example_classes,
    images_per_class,
    offer_images,
)
from ldm_explorer.ui.html import Markup, join
from ldm_explorer.ui.pictures import Picture, kl_picture, notice, picture_row, scrolling, strip
from ldm_explorer.ui.server.work import LONG

WHAT_INTERPOLATION_SHOWS = (
    "### What lies between two images?\nFrom the image chosen above to a second one, through the latents, decoded. "
    "Where half-way latents stand for images, the pictures between could be real ones; where they do not, they are the "
    "two on top of each other. The straight way leads through latents that are mostly shorter than those of images, "
    "the spherical one keeps their length."
)
WHAT_THE_MAP_SHOWS = (
    "### Where is the information?\nKL from the standard normal, in nats, of each value of the latent, its channels "
    "side by side. **Black** is 0 nats: the value is noise, whatever the image. **Blue** is 4 nats, **yellow** 8 or "
    "more: the value can say much about it."
)


def interpolate_images(
    library: Library,
    checkpoint: str,
    class_name: str,
    number: float,
    upload: str | None,
    second_class: str,
    second_number: float,
    names: list[str],
) -> Markup:
    """Strips of images between the chosen one and a second one through each checkpoint's latents, along the straight
    line and along the arc, as HTML."""
    first = chosen_image(library, checkpoint, class_name, number, upload)
    second = chosen_image(library, checkpoint, second_class, second_number, None)
    chosen = _chosen(library, checkpoint, names)
    heading = notice([f"From {first.caption} to {second.caption}."])
    return heading + join(_strips(interpolate(item, first.pixels, second.pixels)) for item in chosen)


def map_kl(
    library: Library, checkpoint: str, class_name: str, number: float, upload: str | None, names: list[str]
) -> Markup:
    """The KL of each latent value in nats, over test images and for the chosen one, of each checkpoint, as HTML."""
    image = chosen_image(library, checkpoint, class_name, number, upload)
    maps = [map_latent_use(item, image.pixels) for item in _chosen(library, checkpoint, names)]
    of_examples = _map_row(maps, lambda item: item.of_examples, f"Mean over {maps[0].num_examples} test images")
    return of_examples + _map_row(maps, lambda item: item.of_image, image.caption)


def _chosen(library: Library, checkpoint: str, names: list[str]) -> list[Checkpoint]:
    if not names:
        raise ValueError("choose at least one checkpoint to compare")
    return [library.get(name) for name in comparable_names(library, checkpoint, names)]


def _strips(result: Interpolation) -> Markup:
    def picture(title: str, way: Strip) -> Picture:
        return Picture(
            strip(way.images), title, f"half-way the latent has {way.halfway_length:.2f} of its ends' length"
        )

    strips = [picture("Straight", result.straight), picture("Spherical", result.spherical)]
    return scrolling(picture_row(strips, f"{result.name}: {result.size.shape}", "strips"), f"{result.name}, strips")


def _map_row(maps: list[LatentUseMaps], nats: Callable[[LatentUseMaps], Tensor], heading: str) -> Markup:
    pictures = [
        Picture(
            kl_picture(nats(item)), item.name, f"{nats(item).mean():.2f} nats per value, {nats(item).sum():,.0f} in all"
        )
        for item in maps
    ]
    return picture_row(pictures, heading)


def build_views(library: Library, tab: gr.Tab, shared: SharedChoices, names: gr.CheckboxGroup) -> None:
    """Lay out both below the rest of the tab; `names` are the checkpoints that it compares."""
    gr.Markdown(WHAT_INTERPOLATION_SHOWS)
    opens_with = shared.checkpoint.value
    classes, per_class = example_classes(library, opens_with), images_per_class(library, opens_with)
    with gr.Row():
        second_class = gr.Dropdown(classes, value=classes[0], label="Second image: class", min_width=180)
        second_number = gr.Slider(1, per_class, 1, step=1, label="Second image: number", min_width=180)
    shared.checkpoint.change(
        bind(offer_images, library),
        [shared.checkpoint, second_class, second_number],
        [second_class, second_number],
        api_visibility="private",
    )
    _answered(interpolate_images, library, tab, [*shared.image, second_class, second_number, names])
    gr.Markdown(WHAT_THE_MAP_SHOWS)
    _answered(map_kl, library, tab, [*shared.image, names])


def _answered(handler, library: Library, tab: gr.Tab, inputs: list[gr.components.Component]) -> None:
    bound = bind(handler, library, LONG)
    shown = gr.HTML("")
    answer_when_opened(tab, bound, inputs, shown)
    answer_changes(bound, inputs, shown, handler.__name__)
