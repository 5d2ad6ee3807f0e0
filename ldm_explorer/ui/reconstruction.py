"""Tab: what does the autoencoder keep?"""

import gradio as gr

from ldm_explorer.data import to_uint8
from ldm_explorer.explore.library import Library
from ldm_explorer.explore.reconstruction import Reconstruction, latent_size, reconstruct_image
from ldm_explorer.ui.common import SharedChoices, answer_changes, bind, chosen_image, opening
from ldm_explorer.ui.html import Markup, join
from ldm_explorer.ui.pictures import Picture, error_map, latent_channel, notice, picture_row

TITLE = "What does the autoencoder keep?"
WHAT_TO_LOOK_AT = (
    "The autoencoder squeezes an image into a small **latent** grid and paints it back: compare the reconstructions, "
    "their error maps, and what each latent channel still shows of the shape. PSNR (peak signal-to-noise ratio) grows "
    "by 6 dB when the error halves; SSIM compares local structure."
)
MAX_CHANNELS_SHOWN = 8


def reconstruct(
    library: Library,
    checkpoint: str,
    class_name: str,
    number: float,
    upload: str | None,
    beside: str,
) -> Markup:
    """Encode and decode one image with two autoencoders; returns the pictures with PSNR and SSIM as HTML."""
    image = chosen_image(library, checkpoint, class_name, number, upload)
    comparable = library.of_same_images(checkpoint)
    results = [
        reconstruct_image(library.get(name), image.pixels) for name in (checkpoint, beside) if name in comparable
    ]
    notes = image.notes if beside in comparable else (*image.notes, f"{beside} was trained on other images.")
    return notice(notes) + join(_pictures(result, image.caption) for result in results)


def _pictures(result: Reconstruction, caption: str) -> Markup:
    pictures = [
        Picture(to_uint8(result.image), "Input", caption),
        Picture(
            to_uint8(result.reconstruction),
            "Reconstruction",
            f"PSNR {result.psnr_db:.1f} dB, SSIM {result.ssim:.3f} (1 is perfect)",
        ),
        Picture(error_map(result.error), "Error", "orange: too bright, blue: too dark; full at a tenth of the range"),
    ]
    channels = result.latents[:MAX_CHANNELS_SHOWN]
    pictures += [
        Picture(latent_channel(channel), f"Latent channel {index + 1}", "black −3, white +3 standard deviations")
        for index, channel in enumerate(channels)
    ]
    return picture_row(pictures, f"{result.name}: {result.size}")


def _other_size(library: Library, checkpoint: str) -> str:
    """An autoencoder of another latent than the checkpoint's, where there is one."""
    own, comparable = latent_size(library.get(checkpoint)), library.of_same_images(checkpoint)
    return next((name for name in comparable if latent_size(library.get(name)) != own), comparable[0])


def build(library: Library, shared: SharedChoices) -> None:
    """Lay out the tab inside the current Blocks."""
    gr.Markdown(WHAT_TO_LOOK_AT)
    beside = gr.Dropdown(
        library.names(),
        value=_other_size(library, shared.checkpoint.value),
        label="Beside the checkpoint's autoencoder",
    )
    handler = bind(reconstruct, library)
    inputs = [*shared.image, beside]
    pictures = gr.HTML(opening(handler, inputs))
    answer_changes(handler, inputs, pictures, "reconstruct")
