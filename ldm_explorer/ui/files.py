"""Files that visitors give: handed on as they are."""

from pathlib import Path
from typing import NoReturn

import gradio as gr
from gradio.data_classes import FileData, ImageData


def leave_undecoded(image: gr.Image) -> None:
    """Let handlers get the path of an upload: gradio would decode it for each of them, in any format, at any size.

    Not by a subclass: gradio writes a .pyi file for each.
    """

    def preprocess(payload: ImageData | None) -> str | None:
        return None if payload is None else _uploaded(payload.path, image.GRADIO_CACHE, "image")

    image.preprocess = preprocess


def accept_uploads_alone(file: gr.File) -> None:
    """Let handlers get the path of an upload, of which gradio would make a copy for each."""

    def preprocess(payload: FileData | None) -> str | None:
        return None if payload is None else _uploaded(payload.path, file.GRADIO_CACHE, "log")

    file.preprocess = preprocess


def _uploaded(path: str | None, uploads: str, what: str) -> str:
    return path if path and Path(uploads).resolve() in Path(path).resolve().parents else _refuse(what)


def _refuse(what: str) -> NoReturn:
    raise gr.Error(f"give the {what} as a file, not as an address or as text", print_exception=False)
