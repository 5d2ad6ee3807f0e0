"""The plane of z0 and eps on the stage, as the page's script draws it (assets/plane.js)."""

from dataclasses import dataclass
from typing import Any, Literal

from ldm_explorer.figures.style import LATENT_COLORS
from ldm_explorer.ui.stage import words


@dataclass(frozen=True)
class Plane:
    """z_t = a z0 + b eps on the unit circle with v as its tangent, and a step to z_s = a_s z0 + b_s eps.

    Of a flow on the straight line from z0 to eps, with u along it.
    """

    a: float
    b: float
    a_s: float
    b_s: float
    title: str
    caption: str = ""
    size: Literal["large", "small"] = "large"
    slot: str | None = None
    is_flow: bool = False

    def drawn(self) -> dict[str, Any]:
        coefficients = {"a": self.a, "b": self.b, "a_s": self.a_s, "b_s": self.b_s}
        return {"plane": coefficients | {"colors": LATENT_COLORS, "is_flow": self.is_flow}} | words(self)
