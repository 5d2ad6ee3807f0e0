"""The page's script: served by an address of its own, so that the page's HTML does not carry it."""

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ldm_explorer.lazy import cached_property
from ldm_explorer.ui.html import Markup, script

ASSETS = files("ldm_explorer.ui") / "assets"
SCRIPTS = (
    *("page.js", "dom.js", "stage.js", "place.js", "plane.js", "strip.js", "picker.js", "lessons.js", "canvas.js"),
    *("tools.js", "sizes.js", "curve.js", "again.js", "opener.js"),
)
A_YEAR = {"Cache-Control": "max-age=31536000, immutable"}
LOAD = """const ldmLoaded = new Promise((loaded) => {
  const script = document.createElement("script");
  script.src = LDM_ADDRESS;
  script.onload = () => loaded();
  document.head.append(script);
});"""


def once_loaded(code: str) -> str:
    """JavaScript that waits for the page's script."""
    return f"ldmLoaded.then(() => {code})"


@dataclass(frozen=True)
class PageScript:
    """All scripts as one, after what they know of the rooms, the choices and the images."""

    known: dict[str, Any]

    @cached_property
    def text(self) -> str:
        code = "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in SCRIPTS)
        return f"const LDM = {json.dumps(self.known)};\n{code}"

    @cached_property
    def address(self) -> str:
        """It changes with what the script says: a browser may keep it as long as it likes."""
        return f"page/{hashlib.sha256(self.text.encode()).hexdigest()[:16]}.js"

    def head(self) -> Markup:
        """What loads it."""
        return script("LDM_ADDRESS", self.address, LOAD)

    def route(self) -> Route:
        """Where the page gets it."""

        def answer(_request: Request) -> Response:
            return Response(self.text, media_type="text/javascript", headers=A_YEAR)

        return Route(f"/{self.address}", answer)
