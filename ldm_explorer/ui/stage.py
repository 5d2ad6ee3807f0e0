"""The stage: what a room shows of A and of B at every step, as the page's script draws it (assets/stage.js)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

import gradio as gr
import torch
from torch import Tensor

from ldm_explorer.ui.page_script import once_loaded
from ldm_explorer.ui.pictures import png_data_uri

TEMPLATE = '<div class="ldm-stage empty"></div>'
WIDE = 1.5
"""From this ratio of its sides on a picture is as broad as its column and as low as it is."""
HISTOGRAM_EDGE = 4.0
HISTOGRAM_BINS = 40


@dataclass(frozen=True)
class Shot:
    """A picture on the stage: `image (C, H, W) uint8`. `slot` names the place of the pipeline that shows it, too."""

    image: Tensor
    title: str
    caption: str = ""
    size: Literal["large", "small"] = "large"
    slot: str | None = None

    def drawn(self) -> dict[str, Any]:
        wide = self.image.shape[-1] > WIDE * self.image.shape[-2]
        return {"src": png_data_uri(self.image), "wide": wide} | words(self)


@dataclass(frozen=True)
class Histogram:
    """How often values of latents occur, drawn beside the standard normal."""

    values: Tensor
    title: str
    caption: str = ""
    size: Literal["large", "small"] = "small"
    slot: str | None = None

    def drawn(self) -> dict[str, Any]:
        edge, width = HISTOGRAM_EDGE, 2 * HISTOGRAM_EDGE / HISTOGRAM_BINS
        counts = torch.histc(self.values.float().clamp(-edge, edge), HISTOGRAM_BINS, -edge, edge)
        return {"histogram": [round(share, 4) for share in (counts / counts.sum() / width).tolist()]} | words(self)


def words(picture: Any) -> dict[str, Any]:
    return {"title": picture.title, "caption": picture.caption, "size": picture.size, "slot": picture.slot}


class Picture(Protocol):
    """What can stand on the stage."""

    def drawn(self) -> dict[str, Any]:
        """Its values as JSON, with the title, caption, size and slot."""


@dataclass(frozen=True)
class Side:
    """A or B: what it is, and what there is to say about it in numbers."""

    title: str
    facts: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Frame:
    """One place on the time axis: the pictures of each side. `x` is where it lies on the room's plots.

    `facts` of each side and the `sentence` stand in place of those of the whole show, where they are given.
    """

    label: str
    x: float
    sides: Sequence[Sequence[Picture]]
    facts: Sequence[Sequence[tuple[str, str]]] = ()
    sentence: str = ""

    def drawn(self) -> dict[str, Any]:
        sides = [[picture.drawn() for picture in side] for side in self.sides]
        thumb = next((picture["src"] for picture in sides[0] if "src" in picture), "")
        words = {"facts": self.facts, "sentence": self.sentence} if self.facts or self.sentence else {}
        return {"label": self.label, "x": self.x, "thumb": thumb, "sides": sides} | words


@dataclass
class Show:
    """The frames so far. Every `add` gives the whole as JSON-like values; only what is new travels to the page.

    `key` tells one run from the next, `axis` names the time axis, `open_at` is the frame that a finished run opens
    with, the last one where it is None. With a `stamp` the page asks again every few seconds, for what goes on.
    """

    key: str
    axis: str
    total: int
    sides: Sequence[Side]
    open_at: int | None = None
    stamp: str = ""
    frames: list[dict[str, Any]] = field(default_factory=list)

    def add(self, frame: Frame) -> dict[str, Any]:
        """The show with one frame more."""
        self.frames.append(frame.drawn())
        return self._drawn(done=False)

    def end(self, sentence: str = "", sides: Sequence[Side] | None = None) -> dict[str, Any]:
        """The whole show with what there is to say in the end."""
        self.sides = sides or self.sides
        return self._drawn(done=True) | {"sentence": sentence}

    def _drawn(self, done: bool) -> dict[str, Any]:
        head = {"id": self.key, "axis": self.axis, "total": self.total, "open_at": self.open_at, "done": done}
        head |= {"stamp": self.stamp} if self.stamp else {}
        return head | {"sides": [asdict(side) for side in self.sides], "frames": list(self.frames)}


STAGE = "ldm-whole"


def stage() -> gr.HTML:
    """The component of a stage; its value is a show."""
    return gr.HTML(
        None,
        html_template=TEMPLATE,
        js_on_load=once_loaded("ldm.stage(element, props, watch)"),
        elem_classes=[STAGE],
    )


def plot(figure: Any) -> Any:
    """A figure in its place below the stage, or no place."""
    return gr.update(value=figure, visible=figure is not None)
