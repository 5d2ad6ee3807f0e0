"""A curve on the stage and the place on it where a step stands, as the page's script draws it (assets/place.js)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ldm_explorer.ui.stage import words


@dataclass(frozen=True)
class Place:
    """`values` at even places, and `at`, from 0 at the first of them to 1 at the last."""

    values: Sequence[float]
    at: float
    title: str
    caption: str = ""
    size: Literal["large", "small"] = "small"
    slot: str | None = None

    def drawn(self) -> dict[str, Any]:
        points = {"values": [round(value, 3) for value in self.values], "at": round(self.at, 4)}
        return {"place": points} | words(self)
