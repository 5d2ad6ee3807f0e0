"""A plot on the stage: lines over a logarithmic axis, levels to read them by, and the point of a frame (curve.js)."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ldm_explorer.ui.stage import words

MAX_POINTS = 80
SMALLEST_SHARE = 1e-6
"""Of the highest value, on a logarithmic axis."""


@dataclass(frozen=True)
class Line:
    """Places and values, named where they begin; it is drawn with at most 80 of them, spread evenly over the logarithm
    of the place."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: str
    width: float = 1.5

    def thinned(self) -> "Line":
        """Without values that are no numbers, as a training that fell apart has logged."""
        points = [point for point in zip(self.x, self.y, strict=True) if point[0] > 0 and math.isfinite(point[1])]
        low, high = (math.log(points[index][0]) for index in (0, -1)) if points else (0.0, 0.0)
        width = (high - low) / MAX_POINTS or 1.0
        kept = list({round((math.log(x) - low) / width): (x, float(f"{y:.4g}")) for x, y in points}.values())
        return Line(self.name, [x for x, _ in kept], [y for _, y in kept], self.color, self.width)


@dataclass(frozen=True)
class Level:
    """A line across all places, named where it begins. `dash` is one of plotly's names."""

    name: str
    y: float
    color: str
    dash: str = "dash"


@dataclass(frozen=True)
class Curve:
    """Lines and levels between two places, with a point `at` one that says its value."""

    lines: Sequence[Line]
    levels: Sequence[Level]
    x_title: str
    x_range: tuple[float, float]
    at: tuple[float, float] | None
    title: str
    caption: str = ""
    y_log: bool = False
    size: Literal["large", "small"] = "large"
    slot: str | None = None

    def drawn(self) -> dict[str, Any]:
        lines = [line.thinned() for line in self.lines]
        at = self.at if self.at and math.isfinite(self.at[1]) else None
        curve = {
            "lines": [asdict(line) for line in lines if line.x],
            "levels": [asdict(level) for level in self.levels],
            "x_title": self.x_title,
            "x_range": self.x_range,
            "y_range": self._y_range(lines),
            "y_log": self.y_log,
            "at": at,
            "said": f"{at[1]:.3g}" if at else "",
        }
        return {"curve": curve} | words(self)

    def _y_range(self, lines: Sequence[Line]) -> list[float]:
        """From 0, or on a logarithmic axis from the lowest value, to a height that shows the levels and where the
        lines went, also those of a training that fell apart."""
        ends = [min(line.y) for line in lines if line.y]
        starts = [line.y[0] for line in lines if line.y]
        levels = [level.y for level in self.levels]
        if self.y_log:
            high = 1.2 * max(starts + levels, default=1.0)
            return [max(0.8 * min(ends + levels, default=0.1), high * SMALLEST_SHARE), high]
        return [0, 1.15 * max([min(starts, default=0), *ends, *levels], default=1)]
