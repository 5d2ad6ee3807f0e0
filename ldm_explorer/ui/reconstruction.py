"""Tab: what does the autoencoder keep?"""

import gradio as gr
from PIL import Image

from ldm_explorer.data import to_uint8
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.reconstruction import Reconstruction, reconstruct_image
from ldm_explorer.ui.common import MODEL_QUEUE, SharedChoices, bind, chosen_image
from ldm_explorer.ui.pictures import Picture, error_map, latent_channel, notice, picture_row

TITLE = "1 · What does the autoencoder keep?"
WHAT_TO_LOOK_AT = (
    "The autoencoder squeezes an image into a small **latent** grid and paints it back: compare the reconstructions, "
    "their error maps, and what each latent channel still shows of the shape."
)
MAX_CHANNELS_SHOWN = 8


def reconstruct(
    library: Library,
    checkpoint: str,
    class_name: str,
    number: float,
    upload: Image.Image | None,
    first: str,
    second: str,
) -> str:
    """Encode and decode one image with two autoencoders; returns the pictures with PSNR and SSIM as HTML."""
    image = chosen_image(library, checkpoint, class_name, number, upload)
    parts = [_pictures(reconstruct_image(library.get(name), image.pixels), image.caption) for name in (first, second)]
    return notice(image.notes) + "".join(parts)


def _pictures(result: Reconstruction, caption: str) -> str:
    pictures = [
        Picture(to_uint8(result.image), "Input", caption),
        Picture(
            to_uint8(result.reconstruction), "Reconstruction", f"PSNR {result.psnr_db:.1f} dB, SSIM {result.ssim:.3f}"
        ),
        Picture(error_map(result.error), "Error", "orange: too bright, blue: too dark; full colour at half the range"),
    ]
    channels = result.latents[:MAX_CHANNELS_SHOWN]
    pictures += [
        Picture(latent_channel(channel), f"Latent channel {index + 1}", "black −3, white +3 standard deviations")
        for index, channel in enumerate(channels)
    ]
    return picture_row(pictures, f"{result.name}: {result.size}")


def build(library: Library, shared: SharedChoices) -> None:
    """Lay out the tab inside the current Blocks."""
    names = library.names()
    default = [next((name for name in names if name == wanted), names[0]) for wanted in ("vae-8x8x4", "vae-32x32x1")]
    gr.Markdown(WHAT_TO_LOOK_AT)
    with gr.Row():
        first = gr.Dropdown(names, value=default[0], label="First autoencoder")
        second = gr.Dropdown(names, value=default[1], label="Second autoencoder")
    handler = bind(reconstruct, library)
    inputs = [*shared.image, first, second]
    pictures = gr.HTML(handler(*[component.value for component in inputs]))
    gr.on(
        [component.change for component in inputs],
        handler,
        inputs,
        pictures,
        api_name="reconstruct",
        api_description=reconstruct.__doc__,
        show_progress="minimal",
        **MODEL_QUEUE,
    )
