"""Files that visitors give: handed on as they are, and fetched from nowhere."""

from pathlib import Path
from typing import NoReturn

import gradio as gr
from gradio.blocks import Block
from gradio.data_classes import ImageData
from gradio_client.utils import is_http_url_like


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


def fetch_nothing(app: gr.Blocks) -> None:
    """Refuse addresses in the place of files: gradio would fetch them for any input, at any size."""
    for block in app.blocks.values():
        _fetch_nothing(block)


def _fetch_nothing(block: Block) -> None:
    keep = block.async_move_resource_to_block_cache

    async def keep_files(path: str | Path | None) -> str | None:
        return _refuse() if is_http_url_like(path) else await keep(path)

    block.async_move_resource_to_block_cache = keep_files


def _refuse() -> NoReturn:
    raise gr.Error("give the image as a file, not as an address or as text", print_exception=False)
