"""Files that visitors give: handed on as they are."""

from pathlib import Path
from typing import NoReturn

import gradio as gr
from gradio.data_classes import ImageData


def leave_undecoded(image: gr.Image) -> None:
    """Let handlers get the path of an upload: gradio would decode it for each of them, in any format, at any size.

    Not by a subclass: gradio writes a .pyi file for each.
    """

    def preprocess(payload: ImageData | None) -> str | None:
        if payload is None:
            return None
        uploads = Path(image.GRADIO_CACHE).resolve()
        return payload.path if payload.path and uploads in Path(payload.path).resolve().parents else _refuse()

    image.preprocess = preprocess


def _refuse() -> NoReturn:
    raise gr.Error("give the image as a file, not as an address or as text", print_exception=False)
