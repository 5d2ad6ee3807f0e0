"""Pictures as HTML: small images shown large and sharp, each with a caption and a description for screen readers."""

import base64
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from ldm_explorer.data import to_uint8
from ldm_explorer.ui.html import Markup, html, join

ERROR_FULL_SCALE = 0.1
LATENT_FULL_SCALE = 3.0
KL_FULL_SCALE_NATS = 8.0
MAX_FILE_NAME = 100
_GREY = 128
_KL_COLORS = torch.tensor([[0.0, 0.0, 0.0], [0.0, 114.0, 178.0], [240.0, 228.0, 66.0]])
_TOO_BRIGHT = torch.tensor([230.0, 159.0, 0.0])
_TOO_DARK = torch.tensor([86.0, 180.0, 233.0])


@dataclass(frozen=True)
class Picture:
    """`image` is `(C, H, W) uint8`, grey or RGB."""

    image: Tensor
    title: str
    caption: str = ""


def png_data_uri(image: Tensor) -> str:
    """`(C, H, W) uint8` to a data URI; PNG is lossless."""
    array = image.permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def picture_row(pictures: Iterable[Picture], heading: str = "", layout: str = "") -> Markup:
    """Pictures side by side under a heading; they wrap. `layout`: "" small, "large", "film" five a row, "four", "line"
    one row, "strips" one below the other."""
    figures = join(_figure(picture) for picture in pictures)
    title = html("<h3>{}</h3>", heading) if heading else ""
    return html('<section>{}<div class="ldm-row {}">{}</div></section>', title, layout, figures)


def scrolling(content: Markup, label: str) -> Markup:
    """HTML that scrolls sideways as one where it is wider than the page, by finger or by keyboard."""
    template = '<div class="ldm-scroll" tabindex="0" role="region" aria-label="{}">{}</div>'
    return html(template, label, content)


def _figure(picture: Picture) -> Markup:
    return html(
        '<figure><img src="{source}" alt="{title}. {caption}">'
        "<figcaption><b>{title}</b> <span>{caption}</span></figcaption></figure>",
        source=png_data_uri(picture.image),
        title=picture.title,
        caption=picture.caption,
    )


def notice(sentences: Iterable[str]) -> Markup:
    """A quiet box of sentences; nothing when there are none."""
    text = join(sentences, " ")
    return html('<p class="ldm-notice">{}</p>', text) if text else text


def csv_link(text: str, name: str) -> Markup:
    """A small button that saves a table; it holds the whole table, so the server keeps no file for it."""
    return html(
        '<a class="ldm-csv" download="{file}.csv" href="data:text/csv;charset=utf-8;base64,{data}" '
        'aria-label="{name} as CSV">Table as CSV</a>',
        file=re.sub(r"[^\w .()+-]+", "_", name).strip(" .")[:MAX_FILE_NAME],
        data=base64.b64encode(text.encode()).decode(),
        name=name,
    )


def grid(images: Tensor, gap: int = 0, columns: int | None = None) -> Tensor:
    """`(B, C, H, W) uint8` as one picture, as square as possible or with so many columns, one pixel of a grey level
    between images."""
    columns = columns or int(len(images) ** 0.5 + 0.999)
    rows = -(-len(images) // columns)
    padded = torch.nn.functional.pad(images, (0, 1, 0, 1), value=gap)
    cells = torch.cat([padded, padded.new_full((rows * columns - len(images), *padded.shape[1:]), gap)])
    channels, height, width = cells.shape[1:]
    whole = cells.view(rows, columns, channels, height, width).permute(2, 0, 3, 1, 4)
    return whole.reshape(channels, rows * height, columns * width)[:, :-1, :-1]


def strip(images: Tensor) -> Tensor:
    """`(B, C, H, W) uint8` as one picture, side by side, one black pixel between images."""
    return torch.cat(list(torch.nn.functional.pad(images, (0, 1))), -1)[..., :-1]


def kl_picture(nats: Tensor) -> Tensor:
    """KL `(c, h, w)` as one picture of its channels: black is 0 nats, blue 4, yellow 8 or more, grey
    what is none."""
    position = (nats / KL_FULL_SCALE_NATS).clamp(0, 1)[..., None] * (len(_KL_COLORS) - 1)
    shares = (1 - (position - torch.arange(len(_KL_COLORS))).abs()).clamp_min(0)  # of each colour
    return grid((shares @ _KL_COLORS).round().to(torch.uint8).movedim(-1, 1), gap=_GREY)


def error_map(error: Tensor) -> Tensor:
    """Signed error `(C, H, W)` in [-2, 2] as `(3, H, W) uint8`: black is none, orange too bright, blue too dark."""
    scaled = (error.mean(0) / (2 * ERROR_FULL_SCALE)).clamp(-1, 1)
    bright, dark = scaled.clamp_min(0), (-scaled).clamp_min(0)
    return (bright * _TOO_BRIGHT.view(3, 1, 1) + dark * _TOO_DARK.view(3, 1, 1)).round().to(torch.uint8)


def difference_map(one: Tensor, other: Tensor) -> Tensor:
    """What changes from one picture `(C, H, W) uint8` to another of its size, as an error map."""
    return error_map((other.float() - one.float()) / 127.5)


def latent_channel(values: Tensor) -> Tensor:
    """One channel `(h, w)` of a normalised latent as `(1, h, w) uint8`: black is -3 standard deviations, white +3."""
    return to_uint8(values[None] / LATENT_FULL_SCALE)
