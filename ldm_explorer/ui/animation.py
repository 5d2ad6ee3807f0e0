"""A show as a GIF: every frame once, the large pictures of each side in a row, enlarged without smoothing."""

import base64
import io
from typing import Any

from PIL import Image, ImageDraw, ImageFont

ENLARGED = 8
MAX_PIXELS = 40_000_000
"""Of all frames together: a walk of 100 steps, with A and B, at about four times the size."""
FRAME_MS, LAST_FRAME_MS = 200, 1500
GAP, LINE = 8, 20
_WHITE, _BLACK = 255, 0


def animate(show: dict[str, Any]) -> bytes:
    """The GIF of a show (see `stage.Show`), which begins again at its end. Raises `ValueError` for a single frame."""
    frames = show["frames"]
    if len(frames) < 2:
        raise ValueError("only one picture is shown here: save it as PNG")
    pictures = [[_large(side) for side in frame["sides"]] for frame in frames]
    scale, mode = _scale(pictures), _mode(pictures)
    titles = [side["title"] for side in show["sides"]]
    drawn = [_frame(sides, titles, frame["label"], scale, mode) for sides, frame in zip(pictures, frames, strict=True)]
    durations = [FRAME_MS] * (len(drawn) - 1) + [LAST_FRAME_MS]
    buffer = io.BytesIO()
    drawn[0].save(buffer, "GIF", save_all=True, append_images=drawn[1:], duration=durations, loop=0)
    return buffer.getvalue()


def _large(side: list[dict[str, Any]]) -> list[Image.Image]:
    """The pictures that stand above the time axis."""
    return [_picture(picture["src"]) for picture in side if picture["size"] == "large" and "src" in picture]


def _picture(source: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))


def _mode(pictures: list[list[list[Image.Image]]]) -> str:
    """Grey as long as all are: then no value changes."""
    return "L" if all(image.mode == "L" for sides in pictures for side in sides for image in side) else "RGB"


def _scale(pictures: list[list[list[Image.Image]]]) -> int:
    """How many times as large as the pictures are, as far as the whole stays within bounds."""
    area = sum(image.width * image.height for sides in pictures for side in sides for image in side)
    return max(1, min(ENLARGED, int((MAX_PIXELS / max(area, 1)) ** 0.5)))


def _frame(sides: list[list[Image.Image]], titles: list[str], label: str, scale: int, mode: str) -> Image.Image:
    """The sides beside each other, what each is above it, and the place on the time axis below."""
    font = ImageFont.load_default(13)
    widths = [sum(image.width * scale + GAP for image in side) for side in sides]
    height = max((image.height for side in sides for image in side), default=0) * scale
    colour = (lambda grey: grey) if mode == "L" else (lambda grey: (grey, grey, grey))
    whole = Image.new(mode, (sum(widths) + GAP, height + 2 * LINE + GAP), colour(_WHITE))
    draw = ImageDraw.Draw(whole)
    left = GAP
    for title, side, width in zip(titles, sides, widths, strict=True):
        while title and draw.textlength(title, font) > width - GAP:
            title = title[:-2] + "…" if len(title) > 1 else ""
        draw.text((left, 3), title, colour(_BLACK), font)
        for image in side:
            whole.paste(
                image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST), (left, LINE)
            )
            left += image.width * scale + GAP
    draw.text((GAP, LINE + height + 4), label, colour(_BLACK), font)
    return whole
